//! What every reconciler is given, and the ways in which it may change something.

use std::{sync::Arc, time::Duration};

use pinacle_bus::{
    client::{AskError, Bucket, Bus, Entry},
    contract::{
        HostId, PodId,
        command::TakeInventory,
        host::{HostRecord, HostState},
        ledger::{HostLedger, Lease},
        pod::PodRecord,
        reconciler::ReconcilerStatus,
    },
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::ReconcileError;
use crate::{
    keys::Keys,
    lease::won,
    settings::Orchestrator,
    ssh::{Connections, Endpoint},
    tell,
    view::{OnHost, View},
};

pub use crate::record::{PINACLE, enqueue, is_idle, settle};

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
    pub keys: Keys,
    pub connections: Connections,
    pub settings: Arc<Orchestrator>,
    pub holder: Arc<str>,
    pub shutdown: CancellationToken,
}

/// Whether a host can be asked.
pub fn is_there(host: &HostRecord) -> bool {
    matches!(host.state, HostState::Online | HostState::Degraded)
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
        Endpoint::of(host, &self.settings.ssh_user)
    }

    /// A host's name; its id when it has no record.
    pub fn name_of(&self, host: HostId) -> String {
        self.view.host(host).map_or_else(|| host.to_string(), |host| host.name.clone())
    }
}
