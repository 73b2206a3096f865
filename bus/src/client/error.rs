//! What can go wrong on the bus. async-nats prints an error's source within the error and offers it as a source, too;
//! here the text is kept once, so that a printed chain says each thing once.

use crate::contract::command::Fault;

/// The kinds of [`BusError`], to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BusErrorKind {
    /// There is no connection now.
    NotConnected,
    /// No answer came in time.
    Timeout,
    /// Somebody else wrote first: read again and decide again.
    Conflict,
    /// The message exceeds what its reader or the server takes.
    TooLarge,
    /// The message is not as it must be.
    Malformed,
    /// The server said no, or something else.
    Refused,
}

/// Something went wrong on the bus.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {detail}")]
pub struct BusError {
    kind: BusErrorKind,
    what: String,
    detail: String,
}

impl BusError {
    /// Which kind.
    pub fn kind(&self) -> BusErrorKind {
        self.kind
    }

    pub(super) fn new(kind: BusErrorKind, what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self { kind, what: what.into(), detail: detail.to_string() }
    }

    pub(super) fn not_connected() -> Self {
        Self::new(BusErrorKind::NotConnected, "use the bus", "there is no connection to NATS now")
    }

    pub(super) fn timeout(what: impl Into<String>) -> Self {
        Self::new(BusErrorKind::Timeout, what, "no answer from NATS in time")
    }

    /// For `map_err`: an error of async-nats, whose text holds its whole chain.
    pub(super) fn from_source<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::new(BusErrorKind::Refused, what, error)
    }
}

/// Why a command to an agent brought no result.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No agent listens under that id.
    #[error("the host's agent is not connected to the bus")]
    NoAgent,
    /// The agent did not answer before the deadline.
    #[error("the host's agent did not answer in time")]
    Timeout,
    /// The agent answered with a fault.
    #[error("the host's agent refused")]
    Fault(#[source] Fault),
    /// The agent's answer is not as it must be.
    #[error("the host's agent sent an answer that cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// The bus itself.
    #[error("the command could not be sent")]
    Bus(#[source] BusError),
}
