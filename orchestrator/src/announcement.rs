//! The event that belongs to a host's present state. It is derived from the record alone, so that every copy of the
//! orchestrator derives the same one, with the same id, and it is published once whoever gets to it.

use pinacle_bus::contract::{
    EventId, HostId, Subject, Timestamp,
    event::{Event, HOST_ADMITTED, HOST_STATE_CHANGED, HostStateChange},
    host::{HostRecord, HostState, StateCause},
    subject::EventKind,
};
use sha2::{Digest, Sha256};

/// What happened when the record's state became what it is.
fn what(record: &HostRecord) -> &'static str {
    if record.cause == StateCause::Admitted { HOST_ADMITTED } else { HOST_STATE_CHANGED }
}

fn subject_of(host: HostId, what: &str) -> Subject {
    Subject::Event { kind: EventKind::Host, id: host.to_string(), what: what.into() }
}

/// Where the event of the record's state is published.
pub fn subject(record: &HostRecord) -> Subject {
    subject_of(record.host_id, what(record))
}

/// The id of the event of the record's state.
pub fn event_id(record: &HostRecord) -> EventId {
    let text = format!(
        "{} {} {} {} {}",
        record.host_id,
        what(record),
        record.state.as_str(),
        record.cause.as_str(),
        record.state_since.as_millis()
    );
    let mut digest = [0; 15];
    for (to, from) in digest.iter_mut().zip(Sha256::digest(text)) {
        *to = from;
    }
    EventId::derived(record.state_since, digest)
}

/// The event of the record's state, which was `from` before.
///
/// # Errors
/// When the record has no JSON form; not for one that was read from JSON.
pub fn event(record: &HostRecord, from: HostState) -> Result<Event, serde_json::Error> {
    let what = what(record);
    let detail = if what == HOST_ADMITTED {
        serde_json::to_value(record)?
    } else {
        serde_json::to_value(HostStateChange {
            host_id: record.host_id,
            from,
            to: record.state,
            cause: record.cause,
            evidence: record.evidence.clone(),
        })?
    };
    Ok(Event {
        event_id: event_id(record),
        at: record.state_since,
        kind: EventKind::Host,
        target_id: record.host_id.to_string(),
        what: what.into(),
        message: message(record),
        detail,
    })
}

/// For people, one line.
fn message(record: &HostRecord) -> String {
    let name = &record.name;
    let age = record.evidence.heartbeat_age_ms.map_or_else(
        || "none was ever heard".to_owned(),
        |age| format!("the last one is {}.{} s old", age / 1000, age % 1000 / 100),
    );
    let state = record.state.as_str();
    match record.cause {
        StateCause::Admitted => format!("host {name} was admitted"),
        StateCause::Heartbeat => format!("host {name} is {state}: heartbeats arrive"),
        StateCause::HeartbeatMissed => format!("host {name} is {state}: a heartbeat is missing, {age}"),
        StateCause::ConnectionClosed => format!(
            "host {name} is {state}: its agent's connection closed ({})",
            record.evidence.connection_closed_reason.as_deref().unwrap_or("no reason given")
        ),
        StateCause::DockerDown => format!("host {name} is {state}: Docker does not answer"),
        StateCause::Silent => format!("host {name} is {state}: no heartbeat, {age}"),
        StateCause::Stopped => format!("host {name} is {state}: its agent was stopped"),
    }
}

/// A state's time that is later than the one before, whatever the wall clock does: events are told apart by it.
pub fn following(before: Timestamp, now: Timestamp) -> Timestamp {
    now.max(before.plus(std::time::Duration::from_millis(1)))
}

#[cfg(test)]
mod tests;
