//! `pinacle audit trace`: from a click to the commands that it led to, as a tree.

use serde_json::{Value, json};

use super::AuditEntry;
use crate::{
    api::{Api, ExecRecord, Operation, Whole, segment},
    failure::Failure,
    figures::{clean, moment},
    people::People,
    terminal::{Terminal, Tone},
};

/// What one click led to.
struct Trail {
    entries: Vec<Whole<AuditEntry>>,
    operations: Vec<(Whole<Operation>, Vec<Whole<ExecRecord>>)>,
}

/// `pinacle audit trace`.
pub(super) async fn run(api: &Api, terminal: &Terminal, id: &str) -> Result<(), Failure> {
    let trail = find(api, id).await?;
    if trail.entries.is_empty() && trail.operations.is_empty() {
        return Err(Failure::failed(format!("nothing that you may see has the id {id}; see pinacle audit ls")));
    }
    if terminal.json { terminal.document(&as_json(&trail)) } else { tell(terminal, &trail, &People::known(api).await) }
}

/// Everything that belongs to the same click.
async fn find(api: &Api, id: &str) -> Result<Trail, Failure> {
    let named = match id.split_once('_').map_or("", |(kind, _)| kind) {
        "audit" => vec![Whole::read(api.get(&format!("/audit/{}", segment(id)), &[]).await?)?],
        "op" => entries(api, "operation", id).await?,
        _ => entries(api, "request", id).await?,
    };
    // The click is the HTTP request: all of its entries, whichever was named.
    let mut found: Vec<Whole<AuditEntry>> = Vec::new();
    let mut clicks: Vec<&str> =
        named.iter().map(|entry| entry.request_id.as_str()).filter(|id| !id.is_empty()).collect();
    clicks.dedup();
    for click in clicks {
        for entry in entries(api, "request", click).await? {
            if found.iter().all(|known| known.audit_id != entry.audit_id) {
                found.push(entry);
            }
        }
    }
    if found.is_empty() {
        found = named;
    }
    let mut ids: Vec<String> = found.iter().filter_map(|entry| entry.operation_id.clone()).collect();
    if id.starts_with("op_") {
        ids.push(id.to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    let mut operations = Vec::new();
    for id in ids {
        let commands = api.all("/exec", vec![("operation", id.clone())], usize::MAX).await?;
        operations.push((api.operation(&id).await?, commands.into_iter().rev().collect()));
    }
    Ok(Trail { entries: found, operations })
}

async fn entries(api: &Api, filter: &'static str, id: &str) -> Result<Vec<Whole<AuditEntry>>, Failure> {
    api.all("/audit", vec![(filter, id.to_owned()), ("order", "asc".to_owned())], usize::MAX).await
}

fn as_json(trail: &Trail) -> Value {
    let operations = trail.operations.iter().map(|(operation, commands)| {
        json!({ "operation": operation.json, "commands": commands.iter().map(|command| &command.json).collect::<Vec<_>>() })
    });
    json!({
        "entries": trail.entries.iter().map(|entry| &entry.json).collect::<Vec<_>>(),
        "operations": operations.collect::<Vec<_>>(),
    })
}

fn tell(terminal: &Terminal, trail: &Trail, people: &People) -> Result<(), Failure> {
    match trail.entries.first() {
        Some(entry) => {
            let from = entry.address.as_deref().map_or_else(String::new, |address| format!(" from {address}"));
            terminal.line(&clean(&format!(
                "{} by {} ({}){from}, request {}",
                moment(entry.at),
                people.name(&entry.actor),
                entry.via,
                entry.request_id
            )))?;
        }
        None => {
            terminal.line("not by a person: pinacle did it by itself, or the log has nothing of it that you may see")?
        }
    }
    for entry in &trail.entries {
        let line = format!("├─ {} {} {}: {}", entry.audit_id, entry.action, entry.target(), entry.ended());
        terminal.line(&terminal.paint(&clean(&line), entry.tone()))?;
        if let Some(request) = &entry.bus_request_id {
            terminal.line(&clean(&format!("│  └─ {request} on the bus")))?;
        }
    }
    for (number, (operation, commands)) in trail.operations.iter().enumerate() {
        let is_last = number + 1 == trail.operations.len();
        let (branch, below) = if is_last { ("└─", "   ") } else { ("├─", "│  ") };
        let cause = operation.cause.as_deref().map_or_else(String::new, |cause| format!(": {cause}"));
        let line = format!("{branch} {} {} {}{cause}", operation.operation_id, operation.verb, operation.progress);
        terminal.line(&terminal.paint(&clean(&line), Tone::of(&operation.progress)))?;
        steps(terminal, operation, commands, below)?;
    }
    Ok(())
}

/// The operation's steps, each with the commands that it ran.
fn steps(
    terminal: &Terminal,
    operation: &Operation,
    commands: &[Whole<ExecRecord>],
    below: &str,
) -> Result<(), Failure> {
    // Commands of a step that an earlier attempt had and the record no longer names are told, too.
    let mut labels: Vec<&str> = operation.steps.iter().map(|step| step.label.as_str()).collect();
    for command in commands {
        if !labels.contains(&command.step.as_str()) {
            labels.push(&command.step);
        }
    }
    for (number, label) in labels.iter().enumerate() {
        let is_last = number + 1 == labels.len();
        let (branch, deeper) = if is_last { ("└─", "   ") } else { ("├─", "│  ") };
        let progress = operation.steps.iter().find(|step| step.label == *label).map_or("", |step| &step.progress);
        terminal.line(&clean(&format!("{below}{branch} {label} {progress}")))?;
        let ran: Vec<_> = commands.iter().filter(|command| command.step == *label).collect();
        for (number, command) in ran.iter().enumerate() {
            let branch = if number + 1 == ran.len() { "└─" } else { "├─" };
            let exit = command.exit_code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit {code}"));
            let line = format!("{below}{deeper}{branch} #{} {} ({exit})", command.sequence, command.command);
            terminal.line(&clean(&line))?;
        }
    }
    Ok(())
}
