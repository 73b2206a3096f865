//! Hosts join by a request that the gateway makes when an enrolment token is exchanged, and go by another.

use pinacle_bus::contract::{
    HostId, Timestamp,
    host::{Evidence, HostFacts, HostRecord, HostState, StateCause},
    pod::{Desired, PodPhase, PodRecord},
    request::{EnrolHost, RemoveHost, Request},
    topology::StreamName,
};
use tracing::info;

use super::{MOST_CONFLICTS, Terms, TermsError, parameters};
use crate::{lease::won, operation::context::Engine, reconcile::ReconcileError, record, tell};

impl Terms {
    /// A host joins, or joins again: its record is there afterwards, before its agent has said anything.
    pub(super) async fn enrol(
        &self,
        request: &Request,
        host: HostId,
    ) -> Result<Result<HostRecord, String>, TermsError> {
        let wanted: EnrolHost = match parameters(request) {
            Ok(wanted) => wanted,
            Err(why) => return Ok(Err(why)),
        };
        for _ in 0..MOST_CONFLICTS {
            let known = self.registry.records().get(&host.to_string()).await?;
            let mut record = match &known {
                Some(entry) => entry.record.clone(),
                None => self.begun(host, &wanted.name),
            };
            record.owner.clone_from(&wanted.owner);
            record.allowed_owners.clone_from(&wanted.allowed_owners);
            record.labels.extend(wanted.labels.clone());
            if !wanted.ssh_host_keys.is_empty() {
                record.pinned_host_keys.clone_from(&wanted.ssh_host_keys);
            }
            if let Err(invalid) = pinacle_bus::contract::Message::check(&record) {
                return Ok(Err(format!("its record cannot hold that: {invalid}")));
            }
            let key = host.to_string();
            let written = match known {
                Some(entry) if entry.record == record => true,
                Some(entry) => won(self.registry.records().update(&key, &record, entry.revision).await)?,
                None => {
                    let made = won(self.registry.records().create(&key, &record).await)?;
                    if made {
                        info!(host = %host, name = record.name, owner = record.owner, "enrolled a host");
                        self.names.put(host, &record.name, record.admitted_at);
                    }
                    made
                }
            };
            if written {
                if record.cause == StateCause::Admitted {
                    self.registry.ensure_announced(&record).await?;
                }
                return Ok(Ok(record));
            }
        }
        Err(TermsError::Contended(host))
    }

    fn begun(&self, host: HostId, name: &str) -> HostRecord {
        let now = Timestamp::now();
        HostRecord {
            host_id: host,
            name: self.names.free_for(host, name),
            state: HostState::Unknown,
            cause: StateCause::Admitted,
            state_since: now,
            evidence: Evidence::default(),
            admitted_at: now,
            cordoned: false,
            labels: [].into(),
            allowed_owners: [].into(),
            pinned_host_keys: Vec::new(),
            facts: HostFacts::default(),
            owner: None,
            notes: String::new(),
            maintenance: Vec::new(),
            disabled: false,
        }
    }

    /// A host goes. Its pods are settled first, so that none of them waits for a host that never comes back.
    pub(super) async fn remove(
        &self,
        engine: &Engine,
        request: &Request,
        host: HostId,
    ) -> Result<Result<HostRecord, String>, TermsError> {
        let wanted: RemoveHost = match parameters(request) {
            Ok(wanted) => wanted,
            Err(why) => return Ok(Err(why)),
        };
        let key = host.to_string();
        let Some(entry) = self.registry.records().get(&key).await? else {
            return Ok(Err(format!("there is no host {host}")));
        };
        let mut busy = false;
        for pod in engine.view.pods() {
            let pod = &pod.entry.record;
            if pod.host_id == Some(host) && pod.phase != PodPhase::Deleted {
                busy |= !self.settle(engine, pod, &entry.record, request, wanted).await?;
            }
        }
        if busy {
            return Err(TermsError::NotYet);
        }
        if let Some(ledger) = engine.ledgers.get(host).await? {
            engine.ledgers.forget(host, ledger).await?;
        }
        self.registry.records().delete(&key, entry.revision).await?;
        self.names.remove(host);
        // Otherwise the first consumer that reads its last inventory again would admit it anew.
        for stream in [StreamName::Inventory, StreamName::Heartbeats] {
            self.bus.forget(stream, host).await?;
        }
        info!(host = %host, name = entry.record.name, by = request.requested_by, "removed a host");
        Ok(Ok(entry.record))
    }

    /// A pod whose host goes: it is on no host any more. Says whether that is written; not while an operation is under
    /// way, which is cancelled then.
    async fn settle(
        &self,
        engine: &Engine,
        pod: &PodRecord,
        host: &HostRecord,
        request: &Request,
        wanted: RemoveHost,
    ) -> Result<bool, TermsError> {
        let key = pod.pod_id.to_string();
        let Some(entry) = engine.pods.get(&key).await? else { return Ok(true) };
        let mut pod = entry.record.clone();
        if pod.host_id != Some(host.host_id) {
            return Ok(true);
        }
        let under_way = pod.operation.as_ref().is_some_and(|operation| operation.ended_at.is_none());
        if under_way {
            if pod.cancelled_by.is_none() {
                pod.cancelled_by = Some(request.requested_by.clone());
                won(engine.pods.update(&key, &pod, entry.revision).await)?;
            }
            return Ok(false);
        }
        (pod.host_id, pod.external_port, pod.subnet, pod.residue) = (None, None, None, false);
        if wanted.delete_data {
            pod.desired = Desired::Deleted;
            record::settle(&mut pod, PodPhase::Deleted, None);
        } else {
            pod.desired = Desired::Stopped;
            let cause = format!("its host {} was removed; what it had is still on that machine", host.name);
            record::settle(&mut pod, PodPhase::Failed, Some(cause));
        }
        if !won(engine.pods.update(&key, &pod, entry.revision).await)? {
            return Ok(false);
        }
        tell::phase_changed(&self.bus, &pod).await?;
        Ok(true)
    }
}

impl From<crate::registry::RegistryError> for TermsError {
    fn from(error: crate::registry::RegistryError) -> Self {
        match error {
            crate::registry::RegistryError::Bus(error) => Self::Bus(ReconcileError::from(error)),
            crate::registry::RegistryError::Contended(host) => Self::Contended(host),
            crate::registry::RegistryError::Event(error) => Self::Bus(ReconcileError::from(error)),
        }
    }
}
