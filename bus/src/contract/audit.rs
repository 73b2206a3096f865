//! The audit log: who did what, on what, from where, and how it ended.

use serde::{Deserialize, Serialize};

use super::{
    AuditId, OperationId, RequestId, Timestamp,
    message::{Invalid, Message, check},
};

/// The key in the bucket `status` under which ingest notes the newest entry of the chain: outside of the database, so that
/// an end which was cut off there is missed here.
pub const AUDIT_HEAD: &str = "audit_head";

/// Somebody did something, or tried to. The detail of the event `evt.audit.<audit_id>.<action>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// This entry.
    pub audit_id: AuditId,
    /// When.
    pub at: Timestamp,
    /// Who: a person's id, `installation` for the holder of the installation's token, `nobody` for whoever did not say.
    pub actor: String,
    /// By what they were known: `token`, `session` or `none`.
    pub via: String,
    /// The id of that token or session; null for the installation's.
    pub credential_id: Option<String>,
    /// From where, an IP address.
    pub address: String,
    /// What, one word, such as `pod_create`.
    pub action: String,
    /// On what kind of thing, such as `pod`.
    pub target_kind: Option<String>,
    /// On which thing: its id, or the name that was given for it.
    pub target_id: Option<String>,
    /// Whose that thing is.
    pub owner: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The HTTP status of the answer; null when the entry was written before there was one.
    pub status: Option<u16>,
    /// The id of the HTTP request, as in the header `x-request-id`.
    pub request_id: String,
    /// The request on the bus that it led to.
    pub bus_request_id: Option<RequestId>,
    /// The operation that carries that request out.
    pub operation_id: Option<OperationId>,
    /// What else there is to know, without secrets.
    pub detail: serde_json::Value,
}

/// How what was done ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl AuditOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Succeeded, Self::Refused, Self::Failed];

    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Message for AuditEntry {
    const NAME: &'static str = "audit_entry";
    const MAX_BYTES: usize = 16 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::text("actor", &self.actor, 64)?;
        check::token("via", &self.via)?;
        check::text("credential_id", self.credential_id.as_deref().unwrap_or_default(), 64)?;
        check::text("address", &self.address, 64)?;
        check::token("action", &self.action)?;
        check::text("target_kind", self.target_kind.as_deref().unwrap_or_default(), 64)?;
        check::text("target_id", self.target_id.as_deref().unwrap_or_default(), 255)?;
        check::text("owner", self.owner.as_deref().unwrap_or_default(), 255)?;
        check::text("request_id", &self.request_id, 64)?;
        check::json("detail", &self.detail, 8192)
    }
}

/// The newest entry of the chain, in the bucket `status` under [`AUDIT_HEAD`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Its number in the chain.
    pub seq: u64,
    /// Its hash, in hexadecimal.
    pub hash: String,
    /// When it was noted.
    pub noted_at: Timestamp,
}

impl Message for AuditHead {
    const NAME: &'static str = "audit_head";
    const MAX_BYTES: usize = 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::count("seq", self.seq)?;
        let is_hash = self.hash.len() == 64 && self.hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hash { Ok(()) } else { Err(Invalid { field: "hash", why: "is no SHA-256 in hexadecimal".into() }) }
    }
}
