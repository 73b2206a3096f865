//! `pinacle watch`: what changes, one line each, as it happens.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{
    api::{Api, Event, Host, Pod},
    args::{Global, WatchArgs},
    events,
    failure::Failure,
    figures::{bytes, clean, clock, percent, rate, share},
    live::{Live, Said},
    terminal::{Terminal, Tone},
};
use pinacle_bus::contract::Timestamp;

/// `pinacle watch`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, args: WatchArgs) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let topics = topics(&api, &args).await?;
    let end = args.duration.map(|duration| Instant::now() + duration);
    let mut view = View { terminal, names: HashMap::new(), seen: HashMap::new(), host: None, pod: None, width: 0 };
    match topics.first().and_then(|topic| topic.split_once(':')) {
        Some(("host", id)) => view.host = Some(id.to_owned()),
        Some(("pod", id)) => view.pod = Some(id.to_owned()),
        _ => {}
    }
    for host in api.hosts(None).await.unwrap_or_default() {
        view.names.insert(host.view.host_id, host.view.name);
    }
    let mut live = Live::open(api, topics).await?;
    terminal.hint("watching; Ctrl-C ends");
    loop {
        let lost = |reason: &str| terminal.hint(&format!("{reason}; connecting again"));
        tokio::select! {
            // cancel-safe: the other arm ends the command.
            said = live.next(lost) => view.take(said?)?,
            // cancel-safe: a timer.
            () = async { match end { Some(end) => sleep_until(end).await, None => std::future::pending().await } } => return Ok(()),
        }
    }
}

async fn topics(api: &Api, args: &WatchArgs) -> Result<Vec<String>, Failure> {
    let mut topics = Vec::new();
    if let Some(host) = &args.host {
        topics.push(format!("host:{}", api.host(host).await?.host.host_id));
        topics.push("pods".into());
    } else if let Some(pod) = &args.pod {
        topics.push(format!("pod:{}", api.pod(pod).await?.pod_id));
    } else if !args.events {
        topics.extend(["hosts".into(), "pods".into()]);
    }
    topics.push("events".into());
    Ok(topics)
}

struct View<'a> {
    terminal: &'a Terminal,
    names: HashMap<String, String>,
    /// What was last shown of each thing, so that a message without news is not shown.
    seen: HashMap<String, (String, Option<Timestamp>)>,
    host: Option<String>,
    pod: Option<String>,
    width: usize,
}

impl View<'_> {
    fn take(&mut self, said: Said) -> Result<(), Failure> {
        match said {
            Said::State { topic, items, removed, .. } => {
                for item in items {
                    self.state(&topic, &item)?;
                }
                for id in removed {
                    self.removed(&topic, &id)?;
                }
            }
            Said::Events { items } => {
                for item in items {
                    self.event(&item)?;
                }
            }
            Said::Reset {} => {
                self.terminal.hint("some events are gone from the bus; pinacle events has the history");
            }
            Said::Error { code, detail } => return Err(Failure::failed(format!("{detail} ({code})"))),
            Said::Subscribed {} | Said::Unsubscribed {} | Said::Pong {} => {}
        }
        Ok(())
    }

    fn state(&mut self, topic: &str, item: &Value) -> Result<(), Failure> {
        if topic.starts_with("pod") {
            let pod: Pod = read(item)?;
            if self.host.is_some() && pod.host_id != self.host {
                return Ok(());
            }
            let word = pod.phase.clone().unwrap_or_else(|| "no record".into());
            let at = pod.metrics.as_ref().map(|metrics| metrics.received_at);
            let width = self.width_with(pod.label());
            if self.is_news(&pod.pod_id, &word, at) {
                return self.show("pod", item, at, || pod_line(self.terminal, &pod, &word, width));
            }
        } else {
            let host: Host = read(item)?;
            self.names.insert(host.host_id.clone(), host.name.clone());
            let at = host.metrics.as_ref().map(|metrics| metrics.received_at);
            let width = self.width_with(&host.name);
            if self.is_news(&host.host_id, &host.state, at) {
                return self.show("host", item, at, || host_line(self.terminal, &host, width));
            }
        }
        Ok(())
    }

    /// Names stand in a column as wide as the longest one so far.
    fn width_with(&mut self, name: &str) -> usize {
        self.width = self.width.max(name.chars().count());
        self.width
    }

    fn is_news(&mut self, id: &str, word: &str, at: Option<Timestamp>) -> bool {
        let now = (word.to_owned(), at);
        self.seen.insert(id.to_owned(), now.clone()) != Some(now)
    }

    fn removed(&mut self, topic: &str, id: &str) -> Result<(), Failure> {
        if self.seen.remove(id).is_none() {
            return Ok(());
        }
        let kind = topic.trim_end_matches('s');
        self.show(kind, &json!({ "removed": id }), None, || format!("{id} is gone"))
    }

    fn event(&mut self, item: &Value) -> Result<(), Failure> {
        let event: Event = read(item)?;
        let wanted = self.host.as_ref().or(self.pod.as_ref());
        if wanted.is_some_and(|wanted| *wanted != event.target_id) {
            return Ok(());
        }
        if self.terminal.json {
            return self.terminal.object(&json!({ "topic": "event", "item": item }));
        }
        self.terminal.line(&events::line(self.terminal, &clock(event.at), &event, &self.names))
    }

    fn show(
        &self,
        kind: &str,
        item: &Value,
        at: Option<Timestamp>,
        line: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.terminal.json {
            return self.terminal.object(&json!({ "topic": kind, "item": item }));
        }
        let at = self.terminal.paint(&clock(at.unwrap_or_else(Timestamp::now)), Tone::Dim);
        self.terminal.line(&format!("{at} {kind:<4} {}", line()))
    }
}

fn read<T: DeserializeOwned>(item: &Value) -> Result<T, Failure> {
    T::deserialize(item)
        .map_err(|error| Failure::failed(format!("the gateway sent what this release does not know: {error}")))
}

fn host_line(terminal: &Terminal, host: &Host, width: usize) -> String {
    let state = terminal.paint(&format!("{:<8}", host.state), Tone::of(&host.state));
    let figures = host.metrics.as_ref().map_or_else(String::new, |figures| {
        format!(
            "cpu {:>5} mem {:>5} in {} out {}",
            percent(figures.cpu_percent),
            percent(share(figures.memory_used_bytes, figures.memory_total_bytes)),
            rate(figures.network_rx_bytes_per_second),
            rate(figures.network_tx_bytes_per_second),
        )
    });
    format!("{:<width$} {state} {figures}", clean(&host.name)).trim_end().to_owned()
}

fn pod_line(terminal: &Terminal, pod: &Pod, word: &str, width: usize) -> String {
    let phase = terminal.paint(&format!("{word:<9}"), Tone::of(word));
    let figures = pod.metrics.as_ref().map_or_else(String::new, |figures| {
        format!("cpu {:>5} mem {:>8} {} pids", percent(figures.cpu_percent), bytes(figures.memory_bytes), figures.pids)
    });
    format!("{:<width$} {phase} {figures}", clean(pod.label())).trim_end().to_owned()
}
