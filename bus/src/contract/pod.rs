//! The live record of a pod.

use serde::{Deserialize, Serialize};

use super::{
    HostId, OperationId, PodId, Timestamp,
    message::{Invalid, Message, check},
};

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

/// The live record of a pod, in the bucket `pods`. Only the orchestrator writes it, with compare-and-set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    /// The pod.
    pub pod_id: PodId,
    /// What its owner calls it.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// The host it is placed on; null before that.
    pub host_id: Option<HostId>,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// Why, in words that its owner understands; null when all is well.
    pub cause: Option<String>,
    /// Since when.
    pub phase_since: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The operation under way.
    pub operation_id: Option<OperationId>,
    /// Its tier, such as `dev.small`.
    pub tier: String,
    /// The image.
    pub image: String,
    /// The host's port that leads to the pod.
    pub external_port: Option<u16>,
    /// Raised with each take-over of an operation.
    pub fence: u64,
}

impl Message for PodRecord {
    const NAME: &'static str = "pod_record";
    const MAX_BYTES: usize = 256 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::text("name", &self.name, 255)?;
        check::text("owner", &self.owner, 255)?;
        check::text("cause", self.cause.as_deref().unwrap_or_default(), 4096)?;
        check::text("tier", &self.tier, 64)?;
        check::text("image", &self.image, 512)?;
        check::count("fence", self.fence)
    }
}
