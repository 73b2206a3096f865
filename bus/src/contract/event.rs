//! Things that happened.

use serde::{Deserialize, Serialize};

use super::{
    EventId, HostId, OperationId, PodId, Timestamp,
    host::{Evidence, HostState, StateCause},
    message::{Invalid, Message, check},
    pod::PodPhase,
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
/// `what` of the event that a host offered another SSH key than the pinned ones and was refused; its detail is a
/// [`HostKeyChange`].
pub const HOST_KEY_CHANGED: &str = "key_changed";
/// `what` of the event that a person changed a host's terms (cordon, labels, keys); its detail is the host's
/// [record](super::host::HostRecord).
pub const HOST_TERMS_CHANGED: &str = "terms_changed";
/// `what` of the event that something with our label that no record knows of was found on a host, or was removed; its
/// detail is an [`Orphan`].
pub const HOST_ORPHAN: &str = "orphan";
/// `what` of the event that a pod's phase changed; its detail is a [`PodPhaseChange`].
pub const POD_PHASE_CHANGED: &str = "phase_changed";
/// `what` of every event of an operation; its detail is the whole [`Operation`](super::request::Operation).
pub const OPERATION_CHANGED: &str = "changed";
/// `what` of the event that a dead letter was sent again.
pub const DEAD_LETTER_RESENT: &str = "resent";
/// `what` of the event that a dead letter was dropped.
pub const DEAD_LETTER_DROPPED: &str = "dropped";

/// An SSH host key that nobody vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKeyChange {
    /// The host.
    pub host_id: HostId,
    /// What it offered, in OpenSSH form.
    pub offered: String,
    /// The same as `SHA256:…`.
    pub offered_fingerprint: String,
    /// What would have been accepted, as `SHA256:…`.
    pub pinned_fingerprints: Vec<String>,
}

/// Something with our label that belongs to no live record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The host.
    pub host_id: HostId,
    /// `container`, `network` or `volume`.
    pub kind: String,
    /// Its name on the host.
    pub name: String,
    /// The pod that its label names.
    pub pod_id: Option<PodId>,
    /// When it was first seen.
    pub found_at: Timestamp,
    /// When it was removed; null = it is still there.
    pub removed_at: Option<Timestamp>,
}

/// A pod's change of phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPhaseChange {
    /// The pod.
    pub pod_id: PodId,
    /// The phase that it is in now.
    pub phase: PodPhase,
    /// Why.
    pub cause: Option<String>,
    /// Where.
    pub host_id: Option<HostId>,
    /// The operation that led to it.
    pub operation_id: Option<OperationId>,
}

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
