//! The live record of a pod.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    HostId, OperationId, PodId, Timestamp,
    key::PodSecrets,
    message::{Invalid, Message, check},
    request::{Operation, Request},
};

/// How many requests may wait behind the one under way.
pub const LONGEST_QUEUE: usize = 8;
/// How many ended operations a record remembers, so that a request told twice is done once.
pub const REMEMBERED_OPERATIONS: usize = 32;

/// What a pod may use, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// Such as `dev.small`.
    pub name: &'static str,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Disk, where the host's file system can hold a pod to it.
    pub disk_bytes: u64,
}

const GIB: u64 = 1 << 30;

/// Every tier, the smallest first.
pub const TIERS: [Tier; 4] = [
    Tier { name: "dev.small", cpu_millis: 1000, memory_bytes: 2 * GIB, disk_bytes: 20 * GIB },
    Tier { name: "dev.medium", cpu_millis: 2000, memory_bytes: 4 * GIB, disk_bytes: 40 * GIB },
    Tier { name: "dev.large", cpu_millis: 4000, memory_bytes: 8 * GIB, disk_bytes: 80 * GIB },
    Tier { name: "dev.xlarge", cpu_millis: 8000, memory_bytes: 16 * GIB, disk_bytes: 160 * GIB },
];

impl Tier {
    /// The tier of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TIERS.iter().find(|tier| tier.name == name)
    }
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodPhase {
    /// Asked for.
    Pending,
    /// A host is being chosen.
    Placing,
    /// Network, volume and container are being made.
    Provisioning,
    /// The container is starting.
    Starting,
    /// It answers.
    Running,
    /// Frozen by its owner.
    Paused,
    /// Being stopped.
    Stopping,
    /// Stopped; its volumes are kept.
    Stopped,
    /// Being removed.
    Deleting,
    /// Removed.
    Deleted,
    /// Something went wrong; the cause says what.
    Failed,
    /// Its host is away.
    Lost,
    /// Being put away.
    Hibernating,
    /// Put away.
    Hibernated,
    /// Being brought back.
    Waking,
}

impl PodPhase {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Placing => "placing",
            Self::Provisioning => "provisioning",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Hibernating => "hibernating",
            Self::Hibernated => "hibernated",
            Self::Waking => "waking",
        }
    }
}

/// What its owner wants a pod to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Running.
    Running,
    /// Frozen in memory.
    Paused,
    /// Stopped, with its volumes kept.
    Stopped,
    /// Gone.
    Deleted,
}

/// What happens when a pod ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It is started again, a bounded number of times in a row.
    #[default]
    Always,
    /// The same, but not when it ended with exit code 0.
    OnFailure,
    /// It stays stopped.
    Never,
}

/// What a pod is made from: a request's [`CreatePod`], fully expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Its tier's name.
    pub tier: String,
    /// The image.
    pub image: String,
    /// Docker's runtime: `runsc`, or `runc` where the installation allows it.
    pub runtime: String,
    /// Environment variables. No place for secrets.
    pub environment: BTreeMap<String, String>,
    /// Labels that its host must have.
    pub host_labels: BTreeMap<String, String>,
    /// The only host that it may be on; null = any.
    pub only_host: Option<HostId>,
    /// What happens when it ends by itself.
    pub restart: RestartPolicy,
}

/// The parameters of a request `req.pod.<pod>.create`. What is null is the installation's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatePod {
    /// What its owner calls it.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// Its tier's name, such as `dev.small`.
    pub tier: String,
    /// The image; null = the base image.
    pub image: Option<String>,
    /// Docker's runtime; null = `runsc`.
    pub runtime: Option<String>,
    /// Environment variables. No place for secrets.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Labels that its host must have.
    #[serde(default)]
    pub host_labels: BTreeMap<String, String>,
    /// The only host that it may be on; null = any.
    #[serde(default)]
    pub only_host: Option<HostId>,
    /// What happens when it ends by itself.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Files that only it has; null = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PodSecrets>,
}

impl Message for CreatePod {
    const NAME: &'static str = "create_pod";
    const MAX_BYTES: usize = 192 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        name("name", &self.name)?;
        check::text("owner", &self.owner, 255)?;
        if Tier::find(&self.tier).is_none() {
            let known: Vec<&str> = TIERS.iter().map(|tier| tier.name).collect();
            return Err(Invalid { field: "tier", why: format!("is none of {}", known.join(", ")) });
        }
        if let Some(text) = &self.image {
            image("image", text)?;
        }
        if let Some(runtime) = &self.runtime {
            check::token("runtime", runtime)?;
        }
        environment("environment", &self.environment)?;
        self.secrets.as_ref().map_or(Ok(()), PodSecrets::check)?;
        labels("host_labels", &self.host_labels)
    }
}

/// A pod's name: 2 to 63 of a-z, 0-9 and `-`, as a host name may be.
fn name(field: &'static str, text: &str) -> Result<(), Invalid> {
    let good = (2..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    let why = "must be 2 to 63 of a-z, 0-9 and -, with no - at either end".to_owned();
    if good { Ok(()) } else { Err(Invalid { field, why }) }
}

/// An image's name as Docker takes it; never an option.
fn image(field: &'static str, text: &str) -> Result<(), Invalid> {
    let good = (1..=255).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte))
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if good { Ok(()) } else { Err(Invalid { field, why: "is no image name, such as debian:12".into() }) }
}

fn environment(field: &'static str, variables: &BTreeMap<String, String>) -> Result<(), Invalid> {
    check::length(field, variables.len(), 256)?;
    check::length(field, variables.iter().map(|(name, value)| name.len() + value.len()).sum(), 32 * 1024)?;
    for (name, value) in variables {
        let mut bytes = name.bytes();
        let good = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !good {
            return Err(Invalid { field, why: format!("names a variable {name:?}, which is no variable's name") });
        }
        if value.contains(['\0', '\n', '\r']) {
            return Err(Invalid { field, why: format!("has a line break or a NUL in {name}") });
        }
    }
    Ok(())
}

fn labels(field: &'static str, labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    check::length(field, labels.len(), 64)?;
    for (key, value) in labels {
        check::text(field, key, 255)?;
        check::text(field, value, 255)?;
    }
    Ok(())
}

/// The live record of a pod, in the bucket `pods`. Only the orchestrator writes it, with compare-and-set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    /// The pod.
    pub pod_id: PodId,
    /// What its owner calls it.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// What it is made from.
    pub spec: PodSpec,
    /// What its owner wants it to be.
    pub desired: Desired,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// Why, in words that its owner understands; null when all is well.
    pub cause: Option<String>,
    /// Since when.
    pub phase_since: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The host it is placed on; null before that, and after all of it is gone from there.
    pub host_id: Option<HostId>,
    /// The host's port that leads to the pod.
    pub external_port: Option<u16>,
    /// The `n` of its network `10.249.n.0/24`.
    pub subnet: Option<u8>,
    /// Whether something of it may remain on its host although it should not: removed as soon as the host can be reached.
    pub residue: bool,
    /// How often in a row it was started again because it had ended by itself.
    pub restarts: u32,
    /// When it was last started again for that reason.
    pub restarted_at: Option<Timestamp>,
    /// When it will be; null = not waiting for that.
    pub restart_at: Option<Timestamp>,
    /// The operation under way. One that has ended stays until its end is published.
    pub operation: Option<Operation>,
    /// Who wants the operation under way cancelled; null = nobody.
    pub cancelled_by: Option<String>,
    /// Requests that wait for their turn, in order.
    pub queue: Vec<Request>,
    /// The newest operations that have ended, oldest first.
    pub ended_operations: Vec<OperationId>,
    /// Raised each time that a copy of the orchestrator takes the pod up. The host refuses commands with a lower one.
    pub fence: u64,
    /// Files that only it has, put there after each start; null = none, or it has been deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PodSecrets>,
}

impl PodRecord {
    /// Whether values of its secrets are in its memory, or may be on their way there.
    pub fn holds_secrets(&self) -> bool {
        let is_at_work = self.operation.as_ref().is_some_and(|operation| operation.ended_at.is_none());
        let is_at_rest = self.phase == PodPhase::Stopped || self.host_id.is_none();
        self.secrets.is_some() && (is_at_work || !self.queue.is_empty() || !is_at_rest)
    }
}

impl Message for PodRecord {
    const NAME: &'static str = "pod_record";
    const MAX_BYTES: usize = 256 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::text("name", &self.name, 255)?;
        check::text("owner", &self.owner, 255)?;
        check::text("cause", self.cause.as_deref().unwrap_or_default(), 4096)?;
        check::text("spec.tier", &self.spec.tier, 64)?;
        check::text("spec.runtime", &self.spec.runtime, 64)?;
        image("spec.image", &self.spec.image)?;
        environment("spec.environment", &self.spec.environment)?;
        labels("spec.host_labels", &self.spec.host_labels)?;
        self.secrets.as_ref().map_or(Ok(()), PodSecrets::check)?;
        check::length("queue", self.queue.len(), LONGEST_QUEUE)?;
        check::length("ended_operations", self.ended_operations.len(), REMEMBERED_OPERATIONS)?;
        self.operation.as_ref().map_or(Ok(()), Message::check)?;
        self.queue.iter().try_for_each(Message::check)?;
        check::count("fence", self.fence)
    }
}
