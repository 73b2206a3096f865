//! What people want done, and the record of its being done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    HostId, OperationId, RequestId, Timestamp,
    host::Maintenance,
    key::PodSecrets,
    message::{Invalid, Message, check},
};

/// What somebody wants done to a thing. The subject says to which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// This request; also what JetStream deduplicates on.
    pub request_id: RequestId,
    /// The operation that will carry it out, named by the asker, so that it can be followed from the start.
    pub operation_id: OperationId,
    /// The kind of thing, such as `pod`.
    pub kind: String,
    /// The thing's id.
    pub target_id: String,
    /// What to do, such as `create`.
    pub verb: String,
    /// Who asks.
    pub requested_by: String,
    /// When.
    pub requested_at: Timestamp,
    /// When the asker no longer wants it.
    pub deadline_at: Option<Timestamp>,
    /// What the verb needs to know.
    pub parameters: serde_json::Value,
}

impl Message for Request {
    const NAME: &'static str = "request";
    const MAX_BYTES: usize = 256 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::token("kind", &self.kind)?;
        check::token("target_id", &self.target_id)?;
        check::token("verb", &self.verb)?;
        check::text("requested_by", &self.requested_by, 255)?;
        check::json("parameters", &self.parameters, Self::MAX_BYTES)
    }
}

/// What the gateway answered a request with an idempotency key with, in the bucket `idempotency` under the key's digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdempotentRequest {
    /// What was published, and is published again when the key comes again.
    pub request: Request,
}

impl Message for IdempotentRequest {
    const NAME: &'static str = "idempotent_request";
    const MAX_BYTES: usize = Request::MAX_BYTES + 1024;

    fn check(&self) -> Result<(), Invalid> {
        self.request.check()
    }
}

/// The parameters of a request `req.pod.<pod>.cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOperation {
    /// Which operation of the pod's: the one under way, or one that waits.
    pub operation_id: OperationId,
}

/// The parameters of a request `req.pod.<pod>.transfer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferPod {
    /// Whose the pod is from then on.
    pub owner: String,
    /// The new owner's secrets of the names that the pod has, in place of the former owner's; null = it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PodSecrets>,
}

/// The parameters of a request `req.pod.<pod>.start` or `restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPod {
    /// The newest values of the pod's secrets; null = those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<OwnersSecrets>,
}

/// Values of secrets, good for a pod as long as it is this owner's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnersSecrets {
    /// Whose they are.
    pub owner: String,
    /// The values, of the names that the pod has.
    #[serde(flatten)]
    pub secrets: PodSecrets,
}

/// The parameters of a request `req.host.<host>.transfer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferHost {
    /// Whose the host is from then on; null = the installation's own.
    pub owner: Option<String>,
}

/// The parameters of a request `req.host.<host>.label`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelHost {
    /// Labels to set.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Labels to take away.
    #[serde(default)]
    pub remove: BTreeSet<String>,
}

/// The parameters of a request `req.host.<host>.enrol`: on which terms a host joins, or joins again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolHost {
    /// What it is to be called; another one is found when that is taken.
    pub name: String,
    /// Whose it is; null = the installation's own.
    pub owner: Option<String>,
    /// Labels that it begins with.
    pub labels: BTreeMap<String, String>,
    /// Whose pods it takes; empty = everybody's.
    pub allowed_owners: BTreeSet<String>,
    /// The SSH keys that it is known by from now on; empty = those of its first inventory.
    pub ssh_host_keys: Vec<String>,
}

/// The parameters of a request `req.host.<host>.note`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteHost {
    /// What is to be remembered; empty = nothing.
    pub notes: String,
}

/// The parameters of a request `req.host.<host>.maintain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintainHost {
    /// All windows from now on.
    pub windows: Vec<Maintenance>,
}

/// The parameters of a request `req.host.<host>.remove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveHost {
    /// Whether its samples, events and commands are to be deleted from the history.
    pub delete_data: bool,
}

/// A request's row is in the database. Source: ingest, after the commit; in no stream, for whoever waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCommitted {
    /// The request.
    pub request_id: RequestId,
    /// The operation that carries it out.
    pub operation_id: OperationId,
    /// The request's sequence in its stream.
    pub stream_sequence: u64,
}

impl Message for RequestCommitted {
    const NAME: &'static str = "request_committed";
    const MAX_BYTES: usize = 4096;

    fn check(&self) -> Result<(), Invalid> {
        check::count("stream_sequence", self.stream_sequence)
    }
}

/// How far an operation, or a step of it, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl Progress {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The record of one request being carried out. Published whole with each change, so that the newest one tells all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// This operation.
    pub operation_id: OperationId,
    /// The request that it carries out.
    pub request_id: RequestId,
    /// The kind of thing that it works on.
    pub kind: String,
    /// The thing's id.
    pub target_id: String,
    /// What is done.
    pub verb: String,
    /// Who asked for it; `pinacle` for what the installation does by itself.
    pub requested_by: String,
    /// The host that it works on, once known.
    pub host_id: Option<HostId>,
    /// How often another copy of the orchestrator has taken it over.
    pub takeovers: u32,
    /// How far it is.
    pub progress: Progress,
    /// Why it waits, failed or was cancelled, in words that people understand.
    pub cause: Option<String>,
    /// When it was taken up.
    pub started_at: Timestamp,
    /// When it must have ended.
    pub deadline_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its steps, in order.
    pub steps: Vec<OperationStep>,
}

/// A step of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationStep {
    /// Its label, such as `create_network`.
    pub label: String,
    /// How far it is.
    pub progress: Progress,
    /// What went wrong.
    pub cause: Option<String>,
    /// What it is at, or what it waits for, such as `copying the image: 40 %`.
    pub note: Option<String>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Message for Operation {
    const NAME: &'static str = "operation";
    const MAX_BYTES: usize = 64 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::token("kind", &self.kind)?;
        check::token("target_id", &self.target_id)?;
        check::token("verb", &self.verb)?;
        check::text("requested_by", &self.requested_by, 255)?;
        check::text("cause", self.cause.as_deref().unwrap_or_default(), 4096)?;
        check::length("steps", self.steps.len(), 256)?;
        self.steps.iter().try_for_each(|step| {
            check::token("steps.label", &step.label)?;
            check::text("steps.cause", step.cause.as_deref().unwrap_or_default(), 4096)?;
            check::text("steps.note", step.note.as_deref().unwrap_or_default(), 4096)
        })
    }
}
