//! `pinacle events`: what happened.

use std::collections::HashMap;

use crate::{
    api::{Api, Event, Whole, segment},
    args::{EventsArgs, Global},
    failure::Failure,
    figures::{clean, moment},
    pod::host_names,
    terminal::{Terminal, Tone},
};

const NEWEST: usize = 50;

/// `pinacle events`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, args: EventsArgs) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let path = match (&args.host, &args.pod) {
        (Some(host), _) => format!("/hosts/{}/events", segment(host)),
        (None, Some(pod)) => format!("/pods/{}/events", segment(pod)),
        (None, None) => "/events".to_owned(),
    };
    let limit = args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut query = Vec::new();
    if let Some(since) = args.since {
        query.push(("since", since.to_string()));
    }
    // The newest ones are wanted, and people read them downwards.
    query.push(("order", "desc".to_owned()));
    let most = limit.unwrap_or(if args.since.is_some() { usize::MAX } else { NEWEST });
    let mut events: Vec<Whole<Event>> = api.all(&path, query, most).await?;
    events.reverse();
    if events.is_empty() {
        terminal.hint(if args.since.is_some() { "nothing happened since then" } else { "nothing has happened yet" });
    }
    if terminal.json {
        return events.iter().try_for_each(|event| terminal.object(&event.json));
    }
    let names = host_names(&api).await.unwrap_or_default();
    events.iter().try_for_each(|event| terminal.line(&line(terminal, &moment(event.at), event, &names)))
}

/// An event as one line. Its message says it all but, for some, to whom it happened.
pub(crate) fn line(terminal: &Terminal, when: &str, event: &Event, names: &HashMap<String, String>) -> String {
    let name = names.get(&event.target_id).unwrap_or(&event.target_id);
    let tone = match event.what.as_str() {
        "admitted" => Tone::Good,
        "state_changed" => ["online", "degraded", "offline", "unknown"]
            .into_iter()
            .find(|state| event.message.contains(&format!("is {state}")))
            .map_or(Tone::Plain, Tone::of),
        _ => Tone::Plain,
    };
    let told = event.message.contains(name) || event.message.contains(&event.target_id);
    let whom = if told { String::new() } else { format!("{} {}: ", event.kind, name) };
    let message = if event.message.is_empty() { &event.what } else { &event.message };
    let when = terminal.paint(when, Tone::Dim);
    format!("{when} {}{}", clean(&whom), terminal.paint(&clean(message), tone))
}
