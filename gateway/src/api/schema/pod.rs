//! Shapes of what is done to pods.

use utoipa::ToSchema;

/// How something that somebody did ended.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It is on its way: the operation tells how it ends.
    Accepted,
    /// It is done.
    Succeeded,
    /// They may not, or asked for what cannot be.
    Refused,
    /// They may, but it did not work.
    Failed,
}

/// How far an operation, or a step of it, is.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Progress {
    /// Waits for its turn or for room.
    Waiting,
    /// Under way.
    Running,
    /// Done.
    Succeeded,
    /// Ended without its effect.
    Failed,
    /// Ended because somebody said so.
    Cancelled,
}

/// What happens when a pod ends by itself.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It is started again, a bounded number of times in a row.
    Always,
    /// The same, but not when it ended with exit code 0.
    OnFailure,
    /// It stays stopped.
    Never,
}

/// What a reconciler found and did in its last run.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct ReconcilerStatus {
    /// Such as `orphans`.
    name: String,
    /// The process that ran it.
    holder: String,
    /// When its last run ended.
    #[schema(format = DateTime)]
    ran_at: String,
    /// How long that took.
    duration_ms: u64,
    /// How many things it looked at.
    examined: u64,
    /// How many it set right in that run.
    repaired: u64,
    /// What is not as it should be, and why it is left for now; at most 100.
    findings: Vec<Finding>,
    /// Why the run failed; null = it did not.
    error: Option<String>,
}

/// Something that is not as it should be.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct Finding {
    /// The kind of thing: `host`, `pod` or `op`.
    kind: String,
    /// Its id.
    target_id: String,
    /// What is wrong and what will happen, in words that people understand.
    what: String,
    /// Since when.
    #[schema(format = DateTime)]
    since: String,
}
