//! The audit log's beginning: what people do is published as events `evt.audit.…`, from which ingest makes the chain.
//!
//! One layer writes an entry for each request that changes something. What goes on as a request on the bus has its entry
//! before: a request without one does not go out. For what the gateway changes itself the entry follows the change; while
//! the bus is away nothing is changed, and an entry that it does not take in all the same waits in memory for its return.

mod note;
mod writer;

use std::time::Duration;

use pinacle_bus::contract::{
    AuditId, OperationId, RequestId, Timestamp,
    audit::{AuditEntry, AuditOutcome},
    request::Request,
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tracing::error;

use crate::{
    api::App,
    identity::{Actor, INSTALLATION_ACTOR, Via},
    limits::pace::Pace,
    live::Live,
    problem::Problem,
    request,
};

pub use note::{Note, about, looked, observe, signed_in};
pub use writer::Waiting;

/// An admin who looks at somebody else's thing again within this time makes no further entry.
const LOOKS_EACH: Duration = Duration::from_secs(60);
/// As many entries wait for the bus.
const MOST_WAITING: usize = 10_000;
const LONGEST_TARGET: usize = 255;

/// What the log is written with.
pub struct Audit {
    waiting: mpsc::Sender<AuditEntry>,
    looks: Pace,
}

impl Audit {
    /// And what waits for the bus; see [`writer::Waiting::run`].
    pub fn new() -> (Self, Waiting) {
        let (waiting, receiver) = mpsc::channel(MOST_WAITING);
        let audit = Self { waiting, looks: Pace::new(LOOKS_EACH, 1) };
        (audit, Waiting::new(receiver))
    }

    /// Whether an admin's look at a thing is worth an entry.
    fn is_new_look(&self, actor: &str, target: &str) -> bool {
        self.looks.take(&crate::limits::digest(format!("{actor}\0{target}").as_bytes()), Instant::now()).is_ok()
    }

    /// Leaves an entry to be published as soon as the bus takes it.
    fn later(&self, entry: AuditEntry) {
        if let Err(refused) = self.waiting.try_send(entry) {
            lost(&refused.into_inner());
        }
    }
}

/// The log is the last place where it still stands.
fn lost(entry: &AuditEntry) {
    metrics::counter!("pinacle_gateway_audit_lost_total").increment(1);
    let entry = serde_json::to_string(entry).unwrap_or_default();
    error!(entry, "an entry of the audit log cannot be published; it stands here alone");
}

/// What there is to say of something that somebody did.
#[derive(Debug, Clone)]
pub struct Entry {
    /// One word of a-z, 0-9, `_` and `-`.
    pub action: String,
    /// The kind of thing that it was done to.
    pub target_kind: Option<String>,
    /// The thing's id.
    pub target_id: Option<String>,
    /// Whose the thing is.
    pub owner: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// With which HTTP status.
    pub status: Option<u16>,
    /// The request on the bus, and the operation that carries it out.
    pub on_bus: Option<(RequestId, OperationId)>,
    /// What else there is to know; no secrets.
    pub detail: Value,
}

impl Entry {
    /// With no more than what was done and how it ended.
    pub fn new(action: &str, outcome: AuditOutcome) -> Self {
        Self {
            action: action.to_owned(),
            target_kind: None,
            target_id: None,
            owner: None,
            outcome,
            status: None,
            on_bus: None,
            detail: json!({}),
        }
    }

    /// What it was done to.
    pub fn on(self, kind: &str, id: impl ToString) -> Self {
        Self { target_kind: Some(kind.to_owned()), target_id: Some(id.to_string()), ..self }
    }

    /// Whose that is.
    pub fn owned_by(self, owner: &str) -> Self {
        Self { owner: Some(owner.to_owned()), ..self }
    }

    /// What else there is to know; no secrets.
    pub fn detail(self, detail: Value) -> Self {
        Self { detail, ..self }
    }
}

/// The entry as it goes out, of the request at hand; `None` for whoever did not say who they are.
fn entry(actor: Option<Actor>, said: Entry) -> AuditEntry {
    let (name, via, credential_id) = match actor {
        None => ("nobody".to_owned(), "none", None),
        Some(Actor::Installation) => (INSTALLATION_ACTOR.to_owned(), "token", None),
        Some(Actor::User { user_id, via: Via::Session(id) }) => (user_id.to_string(), "session", Some(id.to_string())),
        Some(Actor::User { user_id, via: Via::Token(id) }) => (user_id.to_string(), "token", Some(id.to_string())),
    };
    AuditEntry {
        audit_id: AuditId::new(),
        at: Timestamp::now(),
        actor: name,
        via: via.to_owned(),
        credential_id,
        address: request::address().to_string(),
        action: said.action,
        target_kind: said.target_kind,
        target_id: said.target_id.map(|id| storable(&id)),
        owner: said.owner,
        outcome: said.outcome,
        status: said.status,
        request_id: request::current().map(|info| info.id.clone()).unwrap_or_default(),
        bus_request_id: said.on_bus.map(|(request, _)| request),
        operation_id: said.on_bus.map(|(_, operation)| operation),
        detail: said.detail,
    }
}

/// What people give for an id may be anything.
fn storable(text: &str) -> String {
    let mut kept = String::new();
    for letter in text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }) {
        if kept.len() + letter.len_utf8() > LONGEST_TARGET {
            break;
        }
        kept.push(letter);
    }
    kept
}

/// Writes an entry about the request at hand, durably on the bus. `None` stands for whoever did not say who they are.
///
/// # Errors
/// When the bus does not take it in: what it is about must not be done then.
pub async fn record(app: &App, actor: Option<Actor>, said: Entry) -> Result<(), Problem> {
    Ok(writer::publish(&app.live.bus, &entry(actor, said)).await?)
}

/// As [`record`], about what is done already: an entry that the bus does not take in now goes out later.
pub async fn note(live: &Live, actor: Option<Actor>, said: Entry) {
    let entry = entry(actor, said);
    if writer::publish(&live.bus, &entry).await.is_err() {
        live.audit.later(entry);
    }
}

/// Writes the entry of a request that is about to go out on the bus.
///
/// # Errors
/// As for [`record`].
pub async fn asked(app: &App, wanted: &Request) -> Result<(), Problem> {
    let note = request::current().map(|info| info.note.lock().clone()).unwrap_or_default();
    let action = note.action.unwrap_or_else(|| format!("{}_{}", wanted.kind, wanted.verb));
    let named = |field: &str| wanted.parameters.get(field).and_then(Value::as_str);
    let owner = note.owner.as_deref().or_else(|| named("owner"));
    let mut said = Entry {
        on_bus: Some((wanted.request_id, wanted.operation_id)),
        ..Entry::new(&action, AuditOutcome::Accepted).on(&wanted.kind, &wanted.target_id)
    };
    said.owner = owner.map(str::to_owned);
    said.detail = json!({ "verb": wanted.verb, "name": named("name"), "owner": named("owner") });
    record(app, note.actor, said).await?;
    if let Some(info) = request::current() {
        info.note.lock().on_bus = Some((wanted.request_id, wanted.operation_id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pinacle_bus::contract::Message;

    use super::*;

    #[test]
    fn whatever_people_give_for_an_id_can_be_stored() {
        for text in ["a\0b", &"ü".repeat(300), "\u{1b}[2J"] {
            entry(None, Entry::new("pod_get", AuditOutcome::Refused).on("pod", text)).check().unwrap();
        }
        assert_eq!(storable(&"ü".repeat(300)).len(), 254);
    }
}
