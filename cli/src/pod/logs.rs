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
    if args.follow {
        return follow(api, terminal, &args).await;
    }
    let query = [("tail", args.tail.to_string())];
    let chunk = Whole::<LogChunk>::read(api.get(&format!("/pods/{}/logs", segment(&args.pod)), &query).await?)?;
    if chunk.truncated {
        terminal.hint("older lines were left out: they are too long for one answer");
    }
    chunk.lines.iter().try_for_each(|line| show(terminal, line))
}

async fn follow(api: Api, terminal: &Terminal, args: &LogArgs) -> Result<(), Failure> {
    let pod_id = api.pod(&args.pod).await?.view.pod_id;
    let mut live = Live::log(api, &pod_id, args.tail).await?;
    loop {
        match live.next(|reason| terminal.hint(&format!("{reason}; connecting again"))).await? {
            Said::State { removed, .. } if !removed.is_empty() => {
                terminal.hint("the pod is gone");
                return Ok(());
            }
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
