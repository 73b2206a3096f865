//! The result of one command that the orchestrator ran on a host.

use serde::{Deserialize, Serialize};

use super::{
    HostId, OperationId, PodId, Timestamp,
    message::{Invalid, Message, check},
};

/// One command on a host over SSH. Published when it begins (without an exit code) and when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    /// The operation that it belongs to.
    pub operation_id: OperationId,
    /// Counts the operation's commands from 1, after each take-over from the next thousand and 1; with the operation it
    /// identifies the record.
    pub sequence: u32,
    /// The host it ran on.
    pub host_id: HostId,
    /// The pod it was for.
    pub pod_id: Option<PodId>,
    /// The step of the operation.
    pub step: String,
    /// What it is, for people.
    pub label: String,
    /// As sent to the host, with secrets masked.
    pub command: String,
    /// What ran inside the pod; null for infrastructure.
    pub container_command: Option<String>,
    /// At most 1 MiB when published in parts, here at most 256 KiB; a cut is marked in the text.
    pub stdout: String,
    /// As for `stdout`.
    pub stderr: String,
    /// Null while it runs, or when it was killed.
    pub exit_code: Option<i32>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took; null while it runs.
    pub duration_ms: Option<u64>,
}

impl Message for ExecRecord {
    const NAME: &'static str = "exec_record";
    const MAX_BYTES: usize = 640 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::token("step", &self.step)?;
        check::text("label", &self.label, 255)?;
        check::text("command", &self.command, 64 * 1024)?;
        check::text("container_command", self.container_command.as_deref().unwrap_or_default(), 64 * 1024)?;
        check::text("stdout", &self.stdout, 256 * 1024)?;
        check::text("stderr", &self.stderr, 256 * 1024)?;
        check::count("duration_ms", self.duration_ms.unwrap_or(0))
    }
}
