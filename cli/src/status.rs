//! `pinacle status`: what is not as it should be, and what is done about it.

use crate::{
    api::{Api, Reconciler, Whole},
    args::Global,
    failure::Failure,
    figures::{ago, clean},
    terminal::{Terminal, Tone, number},
};

/// `pinacle status`.
pub(crate) async fn run(global: &Global, terminal: &Terminal) -> Result<(), Failure> {
    let mut answer = Api::open(global)?.get("/reconcilers", &[]).await?;
    let items = answer.get_mut("items").map_or(serde_json::Value::Null, serde_json::Value::take);
    let mut reconcilers = Vec::new();
    for item in items.as_array().cloned().unwrap_or_default() {
        reconcilers.push(Whole::<Reconciler>::read(item)?);
    }
    if terminal.json {
        return terminal.document(&reconcilers.iter().map(|reconciler| &reconciler.json).collect::<Vec<_>>());
    }
    if reconcilers.is_empty() {
        terminal.hint("nothing has been compared yet: the orchestrator does so every half minute while it runs");
        return Ok(());
    }
    let mut table = terminal.table(&["compares", "ran", "took", "looked at", "set right", "open"]);
    for reconciler in &reconcilers {
        let tone = if reconciler.error.is_some() { Tone::Bad } else { Tone::Plain };
        table.add_row(vec![
            tone.cell(clean(&reconciler.name)),
            Tone::Dim.cell(format!("{} ago", ago(reconciler.ran_at))),
            number(format!("{} ms", reconciler.duration_ms)),
            number(reconciler.examined),
            number(reconciler.repaired),
            number(reconciler.findings.len()),
        ]);
    }
    terminal.print(&mut table)?;
    for reconciler in &reconcilers {
        let name = clean(&reconciler.name);
        if let Some(error) = &reconciler.error {
            terminal.line(&terminal.paint(&format!("\n{name} failed: {}", clean(error)), Tone::Bad))?;
        }
        for finding in &reconciler.findings {
            let what = terminal.paint(&clean(&finding.what), Tone::Warning);
            let about = clean(&format!("{} {}, for {}", finding.kind, finding.target_id, ago(finding.since)));
            terminal.line(&format!("\n{what}\n  {}", terminal.paint(&about, Tone::Dim)))?;
        }
    }
    Ok(())
}
