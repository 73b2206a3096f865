//! `pinacle pod logs`: what a pod prints.

use serde_json::Value;

use crate::{
    api::{Api, LogChunk, LogLine, Whole, segment},
    args::{Global, LogArgs},
    failure::Failure,
    figures::clean,
    live::{Live, Said},
    terminal::{Terminal, Tone},
};

/// `pinacle pod logs`.
pub(super) async fn run(global: &Global, terminal: &Terminal, args: LogArgs) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let query = [("tail", args.tail.to_string())];
    let chunk = Whole::<LogChunk>::read(api.get(&format!("/pods/{}/logs", segment(&args.pod)), &query).await?)?;
    if chunk.truncated {
        terminal.hint("older lines were left out: they are too long for one answer");
    }
    chunk.lines.iter().try_for_each(|line| show(terminal, line))?;
    if !args.follow {
        return Ok(());
    }
    let topic = format!("logs:{}", api.pod(&args.pod).await?.pod_id);
    let mut live = Live::open(api, vec![topic]).await?;
    loop {
        match live.next(|reason| terminal.hint(&format!("{reason}; connecting again"))).await? {
            Said::State { items, .. } => items.iter().try_for_each(|line| show(terminal, line))?,
            Said::Error { code, detail } => return Err(Failure::failed(format!("{detail} ({code})"))),
            _ => {}
        }
    }
}

/// One line, as it was printed where no terminal would obey it.
fn show(terminal: &Terminal, line: &Value) -> Result<(), Failure> {
    if terminal.json {
        return terminal.object(line);
    }
    let line = Whole::<LogLine>::read(line.clone())?;
    let text = if terminal.interactive { clean(&line.text) } else { line.text.clone() };
    let tone = if line.stream == "stderr" { Tone::Warning } else { Tone::Plain };
    terminal.line(&terminal.paint(&text, tone))
}
