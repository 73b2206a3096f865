//! What the reconcilers see and do.

use serde::{Deserialize, Serialize};

use super::{
    Timestamp,
    message::{Invalid, Message, check},
};

/// What a reconciler found and did in its last run, in the bucket `status` under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcilerStatus {
    /// Such as `orphans`.
    pub name: String,
    /// The process that ran it.
    pub holder: String,
    /// When its last run ended.
    pub ran_at: Timestamp,
    /// How long that took.
    pub duration_ms: u64,
    /// How many things it looked at.
    pub examined: u64,
    /// How many it set right in that run.
    pub repaired: u64,
    /// What is not as it should be, and why it is left for now; at most 100.
    pub findings: Vec<Finding>,
    /// Why the run failed; null = it did not.
    pub error: Option<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The kind of thing: `host`, `pod` or `op`.
    pub kind: String,
    /// Its id.
    pub target_id: String,
    /// What is wrong and what will happen, in words that people understand.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
}

/// How many findings a status holds at most.
pub const MOST_FINDINGS: usize = 100;

impl Message for ReconcilerStatus {
    const NAME: &'static str = "reconciler_status";
    const MAX_BYTES: usize = 512 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::token("name", &self.name)?;
        check::text("holder", &self.holder, 255)?;
        check::count("duration_ms", self.duration_ms)?;
        check::count("examined", self.examined)?;
        check::count("repaired", self.repaired)?;
        check::text("error", self.error.as_deref().unwrap_or_default(), 4096)?;
        check::length("findings", self.findings.len(), MOST_FINDINGS)?;
        self.findings.iter().try_for_each(|finding| {
            check::token("findings.kind", &finding.kind)?;
            check::token("findings.target_id", &finding.target_id)?;
            check::text("findings.what", &finding.what, 4096)
        })
    }
}
