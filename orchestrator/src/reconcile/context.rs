//! What every reconciler is given, and the ways in which it may change something.

use std::{sync::Arc, time::Duration};

use pinacle_bus::{
    client::{AskError, Bucket, Bus, BusError, BusErrorKind, Entry},
    contract::{
        HostId, OperationId, PodId, RequestId, Timestamp,
        command::TakeInventory,
        host::{HostRecord, HostState},
        ledger::{HostLedger, Lease},
        pod::{LONGEST_QUEUE, PodPhase, PodRecord},
        reconciler::ReconcilerStatus,
        request::Request,
    },
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    ReconcileError, tell,
    view::{OnHost, View},
};
use crate::{
    operation::plan::Verb,
    settings::Orchestrator,
    ssh::{Connections, Endpoint},
};

/// Who asks when the installation does something by itself.
pub const PINACLE: &str = "pinacle";
/// An agent that has its hands full takes its inventory within this.
const INVENTORY_WITHIN: Duration = Duration::from_secs(5);

/// What every reconciler is given. Cheap to clone.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is what its type says")]
pub struct Context {
    pub bus: Bus,
    pub view: View,
    pub pods: Bucket<PodRecord>,
    pub ledgers: Bucket<HostLedger>,
    pub leases: Bucket<Lease>,
    pub statuses: Bucket<ReconcilerStatus>,
    pub connections: Connections,
    pub settings: Arc<Orchestrator>,
    pub holder: Arc<str>,
    pub shutdown: CancellationToken,
}

/// Whether nothing is under way or waits, so that a reconciler may act.
pub fn is_idle(record: &PodRecord) -> bool {
    record.operation.is_none() && record.queue.is_empty()
}

/// Whether a host can be asked.
pub fn is_there(host: &HostRecord) -> bool {
    matches!(host.state, HostState::Online | HostState::Degraded)
}

/// Puts a request of the installation's own into a record's queue. Says whether there was room.
pub fn enqueue(record: &mut PodRecord, verb: Verb) -> bool {
    if record.queue.len() >= LONGEST_QUEUE {
        return false;
    }
    record.queue.push(Request {
        request_id: RequestId::new(),
        operation_id: OperationId::new(),
        kind: "pod".into(),
        target_id: record.pod_id.to_string(),
        verb: verb.as_str().into(),
        requested_by: PINACLE.into(),
        requested_at: Timestamp::now(),
        deadline_at: None,
        parameters: serde_json::json!({}),
    });
    true
}

/// Puts a record into a phase.
pub fn settle(record: &mut PodRecord, phase: PodPhase, cause: Option<String>) {
    if record.phase != phase {
        record.phase_since = crate::announcement::following(record.phase_since, Timestamp::now());
    }
    record.phase = phase;
    record.cause = cause;
}

impl Context {
    /// Changes the record that was judged, unless somebody else changed it since; says whether it was written. A new
    /// phase is told.
    ///
    /// # Errors
    /// When the bus does not do it.
    pub async fn change(
        &self,
        judged: &Entry<PodRecord>,
        change: impl FnOnce(&mut PodRecord),
    ) -> Result<bool, ReconcileError> {
        let mut record = judged.record.clone();
        change(&mut record);
        if !won(self.pods.update(&record.pod_id.to_string(), &record, judged.revision).await)? {
            return Ok(false);
        }
        if record.phase != judged.record.phase {
            let cause = record.cause.as_deref().unwrap_or_default();
            info!(pod = %record.pod_id, phase = record.phase.as_str(), cause, "a reconciler changed a pod's phase");
            tell::phase_changed(&self.bus, &record).await?;
        }
        Ok(true)
    }

    /// The pod's record as it is now, if nobody works on it; for what cannot be undone.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn is_busy_now(&self, pod: PodId) -> Result<bool, ReconcileError> {
        Ok(self.pods.get(&pod.to_string()).await?.is_some_and(|entry| !is_idle(&entry.record)))
    }

    /// What is on a host now: asked after the records were read, so that it cannot be older than they are.
    ///
    /// # Errors
    /// Why the agent gave no answer.
    pub async fn look(&self, host: HostId) -> Result<OnHost, AskError> {
        self.bus.ask(host, &TakeInventory {}, INVENTORY_WITHIN).await.map(OnHost::from)
    }

    /// Where a host takes SSH; `None` when it does not say.
    pub fn endpoint(&self, host: &HostRecord) -> Option<Endpoint> {
        let ssh = host.facts.ssh.as_ref()?;
        Some(Endpoint {
            address: ssh.address.clone().or_else(|| host.facts.addresses.first().cloned())?,
            port: ssh.port,
            user: ssh.user.clone().unwrap_or_else(|| self.settings.ssh_user.clone()),
            host_keys: host.pinned_host_keys.clone(),
            lima_name: host.facts.lima_name.clone(),
        })
    }

    /// A host's name; its id when it has no record.
    pub fn name_of(&self, host: HostId) -> String {
        self.view.host(host).map_or_else(|| host.to_string(), |host| host.name.clone())
    }
}

/// A write by compare-and-set: whether it was ours.
///
/// # Errors
/// When it failed for another reason than that somebody else wrote first.
pub fn won<T>(written: Result<T, BusError>) -> Result<bool, BusError> {
    match written {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == BusErrorKind::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}
