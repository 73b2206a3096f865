//! Things that happened.

use serde::{Deserialize, Serialize};

use super::{
    EventId, HostId, Timestamp,
    host::{Evidence, HostState, StateCause},
    message::{Invalid, Message, check},
    subject::EventKind,
};

/// Something that happened. Whoever owns the thing publishes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// This event; also what JetStream deduplicates on.
    pub event_id: EventId,
    /// When.
    pub at: Timestamp,
    /// The kind of thing it happened to.
    pub kind: EventKind,
    /// The thing's id.
    pub target_id: String,
    /// What happened, one word, such as `state_changed`.
    pub what: String,
    /// The same for people, one line.
    pub message: String,
    /// What programs need to know; its shape goes with `kind` and `what`.
    pub detail: serde_json::Value,
}

impl Message for Event {
    const NAME: &'static str = "event";
    const MAX_BYTES: usize = 128 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::token("target_id", &self.target_id)?;
        check::token("what", &self.what)?;
        check::text("message", &self.message, 1024)?;
        check::json("detail", &self.detail, Self::MAX_BYTES)
    }
}

/// `what` of the event that a host was admitted; its detail is the host's [record](super::host::HostRecord).
pub const HOST_ADMITTED: &str = "admitted";
/// `what` of the event that a host's state changed; its detail is a [`HostStateChange`].
pub const HOST_STATE_CHANGED: &str = "state_changed";
/// `what` of every event of an operation; its detail is the whole [`Operation`](super::request::Operation).
pub const OPERATION_CHANGED: &str = "changed";
/// `what` of the event that a dead letter was sent again.
pub const DEAD_LETTER_RESENT: &str = "resent";
/// `what` of the event that a dead letter was dropped.
pub const DEAD_LETTER_DROPPED: &str = "dropped";

/// A host's change of state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStateChange {
    /// The host.
    pub host_id: HostId,
    /// What it was.
    pub from: HostState,
    /// What it is now.
    pub to: HostState,
    /// Why.
    pub cause: StateCause,
    /// What that rests on.
    pub evidence: Evidence,
}
