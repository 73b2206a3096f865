//! Commands on hosts over SSH.
//!
//! One connection a host, with a bounded number of channels: a host is never asked for more logins than one. Every
//! command has a deadline, which the host keeps as well, and its whole process group ends with it. A command for a pod
//! carries the number of the copy that sends it, and the host refuses a lower one than it has seen. Only hosts whose key
//! is pinned are talked to. What a command prints is bounded and masked, and each command is on record.

mod capture;
mod command;
mod connection;
mod connections;
mod dial;
mod endpoint;
mod error;
mod execute;
mod keys;
mod lima;
mod quote;
mod record;
mod wrapper;

use std::time::Duration;

use crate::settings::Orchestrator;

pub use capture::Captured;
pub use command::{Command, Fence};
pub use connection::HostConnection;
pub use connections::Connections;
pub use endpoint::{Endpoint, fingerprint};
pub use error::{ConnectError, SshError};
pub use execute::Finished;
pub use keys::SshKeys;
pub use quote::quote;
pub use record::ExecSink;
pub use wrapper::{FENCES, fence_file};

/// How hosts are connected to; see `default.toml`.
#[derive(Debug, Clone)]
pub struct SshSettings {
    /// What we log in with.
    pub keys: SshKeys,
    /// Channels at once to a host.
    pub channels: usize,
    /// How long a connection may take to stand.
    pub connect_within: Duration,
    /// A connection that nobody used for so long is closed.
    pub idle: Duration,
    /// Lima's program.
    pub limactl: String,
}

impl From<&Orchestrator> for SshSettings {
    fn from(settings: &Orchestrator) -> Self {
        Self {
            keys: settings.ssh_key.clone().into(),
            channels: settings.ssh_channels,
            connect_within: Duration::from_millis(settings.ssh_connect_ms),
            idle: Duration::from_millis(settings.ssh_idle_ms),
            limactl: settings.limactl.clone(),
        }
    }
}
