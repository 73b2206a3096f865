//! `pinacle replay`: what a stream of the bus holds, printed at the pace at which it came, or at another.
//!
//! It reads straight from the bus and leaves nothing there: no consumer, no acknowledgement.

use std::time::Duration;

use pinacle_bus::{
    client::{Bus, Start, Stored},
    contract::{
        Timestamp,
        dead::DeadLetter,
        event::Event,
        grant::Role,
        host::{Heartbeat, HostRecord},
        inventory::Inventory,
        metrics::Metrics,
        subject::PREFIX,
        topology::StreamName,
    },
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    args::{Global, ReplayArgs},
    failure::Failure,
    figures::{clean, count, moment, percent, share, span},
    local,
    terminal::{Terminal, Tone},
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The server has told all that it has when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(3);
/// A wait that a person wonders about.
const LONG_WAIT: Duration = Duration::from_secs(10);
const LONGEST_SUMMARY: usize = 160;

/// `pinacle replay`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, args: ReplayArgs) -> Result<(), Failure> {
    let filter = args.subject.as_deref().map(filter).transpose()?;
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since > until
    {
        return Err(Failure::input("--since is later than --until: nothing lies between them"));
    }
    let settings = local::bus(global, args.nats.as_deref(), args.nats_credentials_file.as_deref(), Role::Operator)?;
    let name = args.stream.name();
    let bus = Bus::connect(&settings, "pinacle replay").await.map_err(|error| Failure::input(error.to_string()))?;
    if bus.connected(CONNECT_DEADLINE).await.is_err() {
        return Err(Failure::failed(format!(
            "NATS at {} cannot be reached, or refuses the login: start everything with make up, or name another with --nats",
            settings.url
        )));
    }
    let (first, last) = bus.stream_bounds(name).await.map_err(anyhow::Error::new)?;
    if first > last && !args.follow {
        terminal.hint(&format!("the stream {} is empty", name.as_str()));
        return Ok(());
    }
    let start = args.since.map_or(Start::Beginning, Start::Time);
    let mut reader = bus.read(name, start, filter);
    let mut pace = Pace { speed: args.speed, begin: None };
    let mut shown = 0_u64;
    loop {
        let stored = if args.follow {
            reader.next().await
        } else {
            match timeout(SILENCE, reader.next()).await {
                Ok(stored) => stored,
                Err(_) => break,
            }
        };
        let stored = stored.map_err(anyhow::Error::new)?;
        let too_late = args.until.is_some_and(|until| stored.published_at > until);
        if too_late || (!args.follow && stored.sequence > last) {
            break;
        }
        pace.wait(&stored, terminal).await;
        print(terminal, name, &stored)?;
        shown += 1;
        if !args.follow && (stored.pending == 0 || stored.sequence == last) {
            break;
        }
    }
    if shown == 0 {
        terminal.hint("nothing that was asked for is in the stream: widen --since, --until or --subject");
    }
    Ok(())
}

/// A filter as the bus takes it; our own prefix may be left out.
fn filter(text: &str) -> Result<String, Failure> {
    let sound = !text.is_empty()
        && text
            .split('.')
            .all(|token| !token.is_empty() && !token.chars().any(|c| c.is_whitespace() || c.is_control()));
    if !sound {
        return Err(Failure::input(format!(
            "--subject: {text:?} is no subject; * stands for one word, > for the rest, such as host.*.metrics"
        )));
    }
    let whole = text.starts_with(PREFIX) || text.starts_with('$') || text.starts_with('>');
    Ok(if whole { text.to_owned() } else { format!("{PREFIX}.{text}") })
}

/// When each message's turn is.
struct Pace {
    speed: f64,
    begin: Option<(Timestamp, Instant)>,
}

impl Pace {
    async fn wait(&mut self, stored: &Stored, terminal: &Terminal) {
        if self.speed == 0.0 {
            return;
        }
        let (first, began) = *self.begin.get_or_insert((stored.published_at, Instant::now()));
        let after_ms = u64::try_from(stored.published_at.as_millis() - first.as_millis()).unwrap_or(0);
        let turn = began + Duration::from_secs_f64(after_ms as f64 / 1000.0 / self.speed);
        let wait = turn.saturating_duration_since(Instant::now());
        if wait > LONG_WAIT {
            let wait = span(wait.as_secs());
            terminal.hint(&format!("the next message comes in {wait}; --speed makes it faster, --speed 0 at once"));
        }
        sleep_until(turn).await;
    }
}

fn print(terminal: &Terminal, stream: StreamName, stored: &Stored) -> Result<(), Failure> {
    let payload = || match serde_json::from_slice::<Value>(&stored.payload) {
        Ok(value) => value,
        Err(_) if stored.payload.is_empty() => Value::Null,
        Err(_) => Value::String(String::from_utf8_lossy(&stored.payload).into_owned()),
    };
    if terminal.json {
        return terminal.object(&json!({
            "stream": stream.as_str(),
            "sequence": stored.sequence,
            "published_at": stored.published_at,
            "subject": stored.subject,
            "schema": stored.schema,
            "payload": payload(),
        }));
    }
    let subject =
        stored.subject.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&stored.subject);
    let millis = stored.published_at.as_millis() % 1000;
    let when = terminal.paint(&format!("{}.{millis:03}", moment(stored.published_at)), Tone::Dim);
    let said = summary(stream, stored).unwrap_or_else(|| {
        let text = match payload() {
            Value::Null => "(removed)".to_owned(),
            Value::String(text) => text,
            value => value.to_string(),
        };
        cut(&text)
    });
    terminal.line(&format!(
        "{when}  #{}  {}  {}",
        stored.sequence,
        terminal.paint(&clean(subject), Tone::Good),
        clean(&said)
    ))
}

/// What matters of the messages that are long or dull.
fn summary(stream: StreamName, stored: &Stored) -> Option<String> {
    match stream {
        StreamName::Metrics => {
            let metrics: Metrics = stored.decode().ok()?;
            let age = stored.published_at.as_millis() - metrics.sampled_at.as_millis();
            let late = if metrics.late { ", late" } else { "" };
            let when = if age.abs() > 2000 { format!(", sampled {}{late}", metrics.sampled_at) } else { late.into() };
            let memory = share(metrics.host.memory_used_bytes, metrics.host.memory_total_bytes);
            let (cpu, pods) = (percent(metrics.host.cpu_percent), count(metrics.pods.len(), "pod"));
            Some(format!("cpu {cpu}, memory {}, {pods}{when}", percent(memory)))
        }
        StreamName::Heartbeats => {
            let beat: Heartbeat = stored.decode().ok()?;
            let farewell = if beat.stopping { ", farewell" } else { "" };
            Some(format!(
                "number {}, load {:.2}, up {}{farewell}",
                beat.sequence,
                beat.load_1,
                span(beat.uptime_seconds)
            ))
        }
        StreamName::Inventory => {
            let inventory: Inventory = stored.decode().ok()?;
            let (containers, images) = (inventory.containers.len(), inventory.images.len());
            Some(format!("{}, {}, {}", inventory.hostname, count(containers, "container"), count(images, "image")))
        }
        StreamName::Events => {
            let event: Event = stored.decode().ok()?;
            Some(event.message)
        }
        StreamName::Dead => {
            let letter: DeadLetter = stored.decode().ok()?;
            Some(format!("{} {} {}", letter.dead_letter_id, letter.subject, letter.reason))
        }
        StreamName::HostRecords => {
            let record: HostRecord = stored.decode().ok()?;
            Some(format!("{} is {} ({})", record.name, record.state.as_str(), record.cause.as_str()))
        }
        StreamName::Requests | StreamName::Exec | StreamName::PodRecords => None,
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST_SUMMARY {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(LONGEST_SUMMARY).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_may_leave_our_prefix_out_but_must_be_one() {
        assert_eq!(filter("host.*.metrics").unwrap(), "pinacle.v1.host.*.metrics");
        assert_eq!(filter("pinacle.v1.evt.>").unwrap(), "pinacle.v1.evt.>");
        for text in ["", "a..b", "a b", "a.\n"] {
            assert!(matches!(filter(text), Err(Failure::Input(_))), "{text:?}");
        }
    }

    #[test]
    fn a_long_message_is_cut_between_letters() {
        assert_eq!(cut(&"ü".repeat(500)).chars().count(), LONGEST_SUMMARY + 1);
        assert_eq!(cut("short"), "short");
    }
}
