//! A host's terms: whether it takes new pods, whose, its labels and the SSH keys it is known by. People change them by
//! requests `req.host.<host>.<verb>`; each is one compare-and-set of the host's record, done at once.

mod join;

use std::collections::BTreeSet;

use pinacle_bus::{
    client::Bus,
    contract::{
        HostId, Subject, Timestamp,
        event::{Event, HOST_TERMS_CHANGED},
        host::HostRecord,
        inventory::Inventory,
        message::Message,
        request::{LabelHost, MaintainHost, NoteHost, Operation, OperationStep, Progress, Request, TransferHost},
        subject::EventKind,
        topology::StreamName,
    },
};
use serde::Deserialize;

use crate::{
    lease::won, names::Names, operation::context::Engine, reconcile::ReconcileError, registry::Registry, tell,
};

/// What can be asked of a host.
pub const VERBS: [&str; 12] = [
    "enrol",
    "remove",
    "disable",
    "enable",
    "cordon",
    "uncordon",
    "label",
    "note",
    "maintain",
    "allow",
    "trust-keys",
    "transfer",
];
/// How often a record is read again when somebody else keeps writing it.
const MOST_CONFLICTS: usize = 5;

/// The parameters of a request `req.host.<host>.allow`.
#[derive(Debug, Deserialize)]
struct AllowOwners {
    /// Whose pods it takes; empty = everybody's.
    owners: BTreeSet<String>,
}

/// Why a request about a host's terms did not come to its end. It is to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] ReconcileError),
    /// Others keep writing the record.
    #[error("the record of {0} is written by others all the time")]
    Contended(HostId),
    /// What is under way on the host must end first.
    #[error("something is under way on the host")]
    NotYet,
}

impl From<pinacle_bus::client::BusError> for TermsError {
    fn from(error: pinacle_bus::client::BusError) -> Self {
        Self::Bus(error.into())
    }
}

/// Changes terms of hosts. Cheap to clone.
#[derive(Clone)]
pub struct Terms {
    bus: Bus,
    registry: Registry,
    names: Names,
}

impl Terms {
    /// Writes to `registry`; `names` are those taken already.
    pub fn new(bus: Bus, registry: Registry, names: Names) -> Self {
        Self { bus, registry, names }
    }

    /// Carries out a request of kind `host` and tells its outcome, also that it cannot be done. Once more is the same.
    ///
    /// # Errors
    /// When it is to be tried again.
    pub async fn handle(&self, engine: &Engine, request: &Request) -> Result<(), TermsError> {
        let cause = match self.carry_out(engine, request).await? {
            Ok(record) => {
                self.tell_terms(request, &record).await?;
                None
            }
            Err(cause) => Some(cause),
        };
        self.tell_operation(request, cause).await
    }

    /// The record as it is then, or why not.
    async fn carry_out(&self, engine: &Engine, request: &Request) -> Result<Result<HostRecord, String>, TermsError> {
        if request.deadline_at.is_some_and(|deadline| deadline < Timestamp::now()) {
            return Ok(Err("nobody wanted it any more when its turn came".into()));
        }
        let Ok(host) = request.target_id.parse::<HostId>() else {
            return Ok(Err(format!("{} is no host's id", request.target_id)));
        };
        match request.verb.as_str() {
            "enrol" => return self.enrol(request, host).await,
            "remove" => return self.remove(engine, request, host).await,
            _ => {}
        }
        for _ in 0..MOST_CONFLICTS {
            let Some(entry) = self.registry.records().get(&host.to_string()).await? else {
                return Ok(Err(format!("there is no host {host}")));
            };
            let mut record = entry.record.clone();
            if let Err(why) = self.apply(request, &mut record).await? {
                return Ok(Err(why));
            }
            if let Err(invalid) = record.check() {
                return Ok(Err(format!("its record cannot hold that: {invalid}")));
            }
            if record == entry.record
                || won(self.registry.records().update(&host.to_string(), &record, entry.revision).await)?
            {
                return Ok(Ok(record));
            }
        }
        Err(TermsError::Contended(host))
    }

    async fn apply(&self, request: &Request, record: &mut HostRecord) -> Result<Result<(), String>, TermsError> {
        match request.verb.as_str() {
            "disable" => record.disabled = true,
            "enable" => record.disabled = false,
            "cordon" => record.cordoned = true,
            "uncordon" => record.cordoned = false,
            "note" => match parameters::<NoteHost>(request) {
                Ok(change) => record.notes = change.notes,
                Err(why) => return Ok(Err(why)),
            },
            "maintain" => match parameters::<MaintainHost>(request) {
                Ok(change) => record.maintenance = change.windows,
                Err(why) => return Ok(Err(why)),
            },
            "label" => match parameters::<LabelHost>(request) {
                Ok(change) => {
                    record.labels.retain(|key, _| !change.remove.contains(key));
                    record.labels.extend(change.set);
                }
                Err(why) => return Ok(Err(why)),
            },
            "allow" => match parameters::<AllowOwners>(request) {
                Ok(change) => record.allowed_owners = change.owners,
                Err(why) => return Ok(Err(why)),
            },
            "transfer" => match parameters::<TransferHost>(request) {
                // Once more must not undo what its new owner has said since.
                Ok(change) if record.owner == change.owner => {}
                // Whoever has a machine can read what runs there, so that it takes no others' pods for having been given.
                Ok(change) => {
                    record.allowed_owners = change.owner.iter().cloned().collect();
                    record.owner = change.owner;
                }
                Err(why) => return Ok(Err(why)),
            },
            "trust-keys" => {
                let last = self.bus.last(StreamName::Inventory, &Subject::Inventory(record.host_id)).await?;
                let offered = last
                    .and_then(|stored| stored.decode::<Inventory>().ok())
                    .and_then(|inventory| inventory.facts.ssh)
                    .map(|ssh| ssh.host_keys)
                    .unwrap_or_default();
                if offered.is_empty() {
                    return Ok(Err(format!("the agent of {} names no SSH host keys", record.name)));
                }
                record.pinned_host_keys = offered;
            }
            verb => return Ok(Err(format!("a host knows no {verb}, but {}", VERBS.join(", ")))),
        }
        Ok(Ok(()))
    }

    async fn tell_terms(&self, request: &Request, record: &HostRecord) -> Result<(), TermsError> {
        let event = Event {
            event_id: tell::event_id(request.requested_at, &format!("{} {HOST_TERMS_CHANGED}", request.request_id)),
            at: Timestamp::now(),
            kind: EventKind::Host,
            target_id: record.host_id.to_string(),
            what: HOST_TERMS_CHANGED.into(),
            message: tell::line(&format!("{}: {} by {}", record.name, request.verb, request.requested_by)),
            detail: serde_json::to_value(record).map_err(ReconcileError::from)?,
        };
        Ok(tell::publish(&self.bus, &event).await?)
    }

    async fn tell_operation(&self, request: &Request, cause: Option<String>) -> Result<(), TermsError> {
        let now = Timestamp::now();
        let progress = if cause.is_none() { Progress::Succeeded } else { Progress::Failed };
        let cause = cause.as_deref().map(tell::line);
        let step = OperationStep {
            label: request.verb.clone(),
            progress,
            cause: cause.clone(),
            note: None,
            started_at: Some(now),
            ended_at: Some(now),
        };
        let operation = Operation {
            operation_id: request.operation_id,
            request_id: request.request_id,
            kind: request.kind.clone(),
            target_id: request.target_id.clone(),
            verb: request.verb.clone(),
            requested_by: request.requested_by.clone(),
            host_id: request.target_id.parse().ok(),
            takeovers: 0,
            progress,
            cause,
            // As in every try, so that its event has one id.
            started_at: request.requested_at,
            deadline_at: request.deadline_at.unwrap_or(now),
            ended_at: Some(now),
            steps: vec![step],
        };
        let message = format!("{} of a host {}", request.verb, progress.as_str());
        Ok(tell::operation(&self.bus, &operation, &message).await?)
    }
}

fn parameters<T: for<'de> Deserialize<'de>>(request: &Request) -> Result<T, String> {
    T::deserialize(&request.parameters).map_err(|error| format!("its parameters are not as they must be: {error}"))
}
