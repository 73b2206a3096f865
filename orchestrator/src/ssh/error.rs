//! Why there is no connection to a host, and why a command on it brought no result.

use std::time::Duration;

use pinacle_bus::client::BusError;

/// Why there is no connection to a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The orchestrator was given no key, or one that it cannot use.
    #[error("the setting orchestrator.ssh_key cannot be used: {0}")]
    UnusableKey(String),
    /// Nobody has said which key the host has, so that nobody could tell it from an impostor.
    #[error("no host key is pinned that could be checked; Ed25519 and ECDSA keys can")]
    NoPinnedKey,
    /// It is not who it was: reinstalled, or somebody else.
    #[error("the host offered the key {fingerprint}, which is none of those pinned")]
    HostKeyChanged {
        /// In OpenSSH's form.
        offered: String,
        /// The same as `SHA256:…`.
        fingerprint: String,
    },
    /// The host does not know our key for that user.
    #[error("the host did not let {user} in with the orchestrator's key")]
    AuthenticationRefused {
        /// The user.
        user: String,
    },
    /// It took too long.
    #[error("no connection to {address} within {within:?}")]
    TimedOut {
        /// Where to.
        address: String,
        /// How long it may take.
        within: Duration,
    },
    /// Nobody listens there, the way there is cut, or what listens speaks no SSH that we do.
    #[error("cannot connect to {address}: {detail}")]
    Unreachable {
        /// Where to.
        address: String,
        /// What was said.
        detail: String,
    },
    /// Where a Lima machine takes SSH could not be found out.
    #[error("cannot find the Lima machine {name}: {detail}")]
    Lima {
        /// The machine's.
        name: String,
        /// What was said.
        detail: String,
    },
}

impl ConnectError {
    /// Whether another attempt may well succeed without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Unreachable { .. } | Self::Lima { .. })
    }
}

/// Why a command on a host brought no result.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// It cannot be sent.
    #[error("the command cannot be sent: {0}")]
    InvalidCommand(&'static str),
    /// There is no connection. It did not run.
    #[error("there is no connection to the host")]
    Connect(#[source] ConnectError),
    /// The host did not open a channel or start the command. It did not run.
    #[error("the host refused to run the command: {0}")]
    Refused(String),
    /// Its deadline passed.
    #[error("timed out after {after:?} while {doing}{}", unconfirmed(*ended))]
    TimedOut {
        /// How long it was allowed to take.
        after: Duration,
        /// What it was at: waiting for its turn, connecting, running.
        doing: &'static str,
        /// Whether it certainly runs no more: it never began, or the host has confirmed its end.
        ended: bool,
    },
    /// It was cancelled, or the connection was closed by us.
    #[error("cancelled{}", unconfirmed(*ended))]
    Cancelled {
        /// As for [`SshError::TimedOut`].
        ended: bool,
    },
    /// The connection broke while it ran: what became of it is unknown. The host ends it at its deadline.
    #[error("the connection was lost while the command ran: {0}")]
    ConnectionLost(String),
    /// The host has seen a higher number: another copy has the pod. It did not run.
    #[error("another copy of the orchestrator has taken the pod over: {0}")]
    Fenced(String),
    /// The host cannot keep the pod's fence. It did not run.
    #[error("the host cannot keep the pod's fence: {0}")]
    FenceUnusable(String),
    /// What it was to read could not be read here; it was killed.
    #[error("cannot read what the command reads")]
    Input(#[source] std::io::Error),
    /// It ran, but the bus did not take its record.
    #[error("the command's record could not be published")]
    Unrecorded(#[source] BusError),
}

fn unconfirmed(ended: bool) -> &'static str {
    if ended { "" } else { ", and the host did not confirm that it ended" }
}

impl SshError {
    /// As in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InvalidCommand(_) => "invalid",
            Self::Connect(_) => "no_connection",
            Self::Refused(_) => "refused",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
            Self::ConnectionLost(_) => "connection_lost",
            Self::Fenced(_) => "fenced",
            Self::FenceUnusable(_) => "fence_unusable",
            Self::Input(_) => "input",
            Self::Unrecorded(_) => "unrecorded",
        }
    }

    /// Whether the same command may well go through when it is tried again later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::ConnectionLost(_) | Self::Refused(_) | Self::Unrecorded(_) => true,
            Self::Connect(error) => error.is_transient(),
            Self::InvalidCommand(_)
            | Self::Cancelled { .. }
            | Self::Fenced(_)
            | Self::FenceUnusable(_)
            | Self::Input(_) => false,
        }
    }
}
