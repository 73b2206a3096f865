//! A host's sign of life, and the live record that the orchestrator keeps of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    HostId, Timestamp,
    inventory::SshEndpoint,
    message::{Invalid, Message, check},
};

/// A sign of life. Source: a task of the agent that does nothing else, every 5 s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The host.
    pub host_id: HostId,
    /// When, by the host's own clock; liveness goes by arrival instead.
    pub sent_at: Timestamp,
    /// Counts up from 1 at each start of the agent.
    pub sequence: u64,
    /// The agent's release.
    pub agent_version: String,
    /// The kernel's id of this boot; another one means that the machine was restarted.
    pub boot_id: String,
    /// Since the machine's boot.
    pub uptime_seconds: u64,
    /// Load average over 1 minute.
    pub load_1: f64,
    /// Load average over 5 minutes.
    pub load_5: f64,
    /// Load average over 15 minutes.
    pub load_15: f64,
    /// Docker's state.
    pub docker: DockerState,
    /// The farewell: the agent is being stopped on purpose, and silence after this is no outage.
    pub stopping: bool,
}

/// Whether a host can run containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DockerState {
    /// It answers.
    Up {
        /// The engine's version.
        version: String,
    },
    /// It is installed, but does not answer.
    Down {
        /// What the last attempt said.
        reason: String,
    },
    /// There is no Docker socket.
    Absent,
}

impl Message for Heartbeat {
    const NAME: &'static str = "heartbeat";
    const MAX_BYTES: usize = 4096;

    fn check(&self) -> Result<(), Invalid> {
        check::text("agent_version", &self.agent_version, 64)?;
        check::text("boot_id", &self.boot_id, 64)?;
        check::count("sequence", self.sequence)?;
        check::count("uptime_seconds", self.uptime_seconds)?;
        for (field, load) in [("load_1", self.load_1), ("load_5", self.load_5), ("load_15", self.load_15)] {
            check::within(field, load, 0.0, 1e6)?;
        }
        match &self.docker {
            DockerState::Up { version } => check::text("docker.version", version, 64),
            DockerState::Down { reason } => check::text("docker.reason", reason, 1024),
            DockerState::Absent => Ok(()),
        }
    }
}

/// How a host is, as the orchestrator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Heartbeats arrive.
    Online,
    /// A heartbeat is missing, its connection closed, or its Docker is down.
    Degraded,
    /// Silent for longer than a host may be, or stopped on purpose.
    Offline,
    /// Nobody can tell yet: just admitted, or the bus was away.
    Unknown,
}

impl HostState {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a host is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateCause {
    /// Its inventory came for the first time.
    Admitted,
    /// Heartbeats arrive.
    Heartbeat,
    /// The last heartbeat is older than one interval and some grace.
    HeartbeatMissed,
    /// The bus reported that the agent's connection closed.
    ConnectionClosed,
    /// Docker does not answer on the host.
    DockerDown,
    /// No heartbeat for longer than a host may be silent: lost.
    Silent,
    /// The agent said farewell: stopped, not lost.
    Stopped,
}

impl StateCause {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatMissed => "heartbeat_missed",
            Self::ConnectionClosed => "connection_closed",
            Self::DockerDown => "docker_down",
            Self::Silent => "silent",
            Self::Stopped => "stopped",
        }
    }
}

/// What a change of state rests on, all by the orchestrator's own clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When the last heartbeat arrived.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Its age when the change was decided.
    pub heartbeat_age_ms: Option<u64>,
    /// Its sequence number.
    pub heartbeat_sequence: Option<u64>,
    /// The host's clock less the orchestrator's when it arrived.
    pub clock_offset_ms: Option<i64>,
    /// When the bus last reported that the agent's connection closed.
    pub connection_closed_at: Option<Timestamp>,
    /// The reason that the bus gave for it.
    pub connection_closed_reason: Option<String>,
}

/// The live record of a host, in the bucket `hosts`. Only the orchestrator writes it, with compare-and-set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    /// The host.
    pub host_id: HostId,
    /// What people call it: its host name when it was admitted.
    pub name: String,
    /// How it is.
    pub state: HostState,
    /// Why.
    pub cause: StateCause,
    /// Since when.
    pub state_since: Timestamp,
    /// What that rests on.
    pub evidence: Evidence,
    /// When it was admitted.
    pub admitted_at: Timestamp,
    /// Closed for new pods by a person.
    pub cordoned: bool,
    /// For placement.
    pub labels: BTreeMap<String, String>,
    /// Whose pods it takes; empty = everybody's.
    pub allowed_owners: BTreeSet<String>,
    /// The SSH host keys that it had when it was admitted, or that a person has confirmed since. No others are trusted.
    pub pinned_host_keys: Vec<String>,
    /// From its newest inventory.
    pub facts: HostFacts,
    /// Whose it is: a user or a team; null = the installation's own.
    #[serde(default)]
    pub owner: Option<String>,
    /// What people want to remember about it.
    #[serde(default)]
    pub notes: String,
    /// When it takes no new pods, whatever else is said.
    #[serde(default)]
    pub maintenance: Vec<Maintenance>,
    /// Its agent may not connect until somebody enables it again. Pods on it go on.
    #[serde(default)]
    pub disabled: bool,
}

impl HostRecord {
    /// The window of maintenance that it is in at `now`.
    pub fn maintained_at(&self, now: Timestamp) -> Option<&Maintenance> {
        self.maintenance.iter().find(|window| window.from <= now && now < window.until)
    }
}

/// A window of maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// When it begins.
    pub from: Timestamp,
    /// When it has ended.
    pub until: Timestamp,
    /// What for; may be empty.
    pub reason: String,
}

/// Most windows of maintenance of a host.
pub const MOST_WINDOWS: usize = 32;
/// Longest notes, in bytes.
pub const LONGEST_NOTES: usize = 4096;

/// What rarely changes about a host, from its newest inventory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The agent's release.
    pub agent_version: String,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// Such as `x86_64`.
    pub architecture: String,
    /// As the CPU calls itself.
    pub cpu_model: String,
    /// Logical cores.
    pub cpu_count: u32,
    /// Memory that the kernel manages.
    pub memory_total_bytes: u64,
    /// All real file systems together.
    pub disk_total_bytes: u64,
    /// The engine's version; null = none.
    pub docker_version: Option<String>,
    /// Docker's runtimes, such as `runc` and `runsc`.
    pub runtimes: Vec<String>,
    /// Its addresses, without loopback and link-local ones.
    pub addresses: Vec<String>,
    /// Where it takes SSH.
    pub ssh: Option<SshEndpoint>,
    /// The Lima machine that it is, if it is one.
    pub lima_name: Option<String>,
}

impl Message for HostRecord {
    const NAME: &'static str = "host_record";
    const MAX_BYTES: usize = 64 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::text("name", &self.name, 255)?;
        check::count("evidence.heartbeat_age_ms", self.evidence.heartbeat_age_ms.unwrap_or(0))?;
        check::count("evidence.heartbeat_sequence", self.evidence.heartbeat_sequence.unwrap_or(0))?;
        let reason = self.evidence.connection_closed_reason.as_deref().unwrap_or_default();
        check::text("evidence.connection_closed_reason", reason, 1024)?;
        let reason = self.evidence.connection_closed_reason.as_deref().unwrap_or_default();
        check::text("evidence.connection_closed_reason", reason, 255)?;
        check::length("labels", self.labels.len(), 64)?;
        for (key, value) in &self.labels {
            check::text("labels", key, 255)?;
            check::text("labels", value, 255)?;
        }
        check::length("allowed_owners", self.allowed_owners.len(), 1024)?;
        self.allowed_owners.iter().try_for_each(|owner| check::text("allowed_owners", owner, 255))?;
        check::length("pinned_host_keys", self.pinned_host_keys.len(), 64)?;
        self.pinned_host_keys.iter().try_for_each(|key| check::text("pinned_host_keys", key, 8192))?;
        check::text("owner", self.owner.as_deref().unwrap_or_default(), 255)?;
        check::text("notes", &self.notes, LONGEST_NOTES)?;
        check::length("maintenance", self.maintenance.len(), MOST_WINDOWS)?;
        self.maintenance.iter().try_for_each(|window| check::text("maintenance.reason", &window.reason, 255))?;
        check::facts(&self.facts)
    }
}
