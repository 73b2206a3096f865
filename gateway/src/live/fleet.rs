//! What is known of each host and pod right now, from the bus alone: the live record, the newest heartbeat and the newest
//! sample. It is right while Postgres lags or is away.
//!
//! Only what belongs to an admitted host is kept, and of a host's pods those of its newest sample: what a hostile agent
//! sends cannot make memory grow.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use pinacle_bus::contract::{
    HostId, OperationId, PodId, Timestamp,
    host::{Heartbeat, HostRecord},
    key::PodSecrets,
    metrics::{Metrics, PodSample},
    pod::{CreatePod, PodPhase, PodRecord},
};
use serde::Serialize;

use super::board::{Board, Next, Owned};
use crate::api::view;

/// The live state.
#[derive(Default)]
pub struct Fleet {
    /// The hosts.
    pub hosts: Board<HostId, HostLive>,
    /// The pods.
    pub pods: Board<PodId, PodLive>,
}

/// Something with the time of its arrival here.
#[derive(Debug, Clone)]
pub struct Received<T> {
    /// By the gateway's clock.
    pub received_at: Timestamp,
    /// What came.
    pub value: T,
}

/// A host. Parts are shared between versions, and each JSON is written at most once, however many clients take it.
#[derive(Clone)]
pub struct HostLive {
    /// Its live record.
    pub record: Arc<HostRecord>,
    /// Its newest heartbeat.
    pub heartbeat: Option<Arc<Received<Heartbeat>>>,
    /// Its newest sample.
    pub sample: Option<Arc<Received<Metrics>>>,
    brief: OnceLock<Bytes>,
    detail: OnceLock<Bytes>,
}

/// A pod: at least one of its record, the request for it and a sample.
#[derive(Clone)]
pub struct PodLive {
    /// The pod.
    pub pod_id: PodId,
    /// Its live record; samples may come before it.
    pub record: Option<Arc<PodRecord>>,
    /// What it was asked for with, until it has a record.
    pub asked: Option<Arc<PodAsked>>,
    /// Its newest sample.
    pub sample: Option<Arc<PodSampled>>,
    json: OnceLock<Bytes>,
}

/// The request for a pod that has no record yet: whoever asked sees it all the same.
#[derive(Debug, Clone)]
pub struct PodAsked {
    /// What will make it.
    pub operation_id: OperationId,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// What it is to be.
    pub create: CreatePod,
}

/// A pod's sample with what the message around it says.
#[derive(Debug, Clone)]
pub struct PodSampled {
    /// Who sampled it.
    pub host_id: HostId,
    /// When, by the host's clock.
    pub sampled_at: Timestamp,
    /// When it came, by the gateway's clock.
    pub received_at: Timestamp,
    /// The figures.
    pub sample: PodSample,
}

/// What became of a message from an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is the newest.
    Yes,
    /// A newer one is known, or it waited in a spool.
    Older,
    /// No admitted host has this id.
    UnknownHost,
}

/// How a message from an agent came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// As it was published, in the agent's order.
    Live,
    /// Read back from its stream when the gateway started.
    Stored,
}

impl HostLive {
    fn with(&self, heartbeat: Option<Arc<Received<Heartbeat>>>, sample: Option<Arc<Received<Metrics>>>) -> Self {
        Self::new(self.record.clone(), heartbeat, sample)
    }

    fn new(
        record: Arc<HostRecord>,
        heartbeat: Option<Arc<Received<Heartbeat>>>,
        sample: Option<Arc<Received<Metrics>>>,
    ) -> Self {
        Self { record, heartbeat, sample, brief: OnceLock::new(), detail: OnceLock::new() }
    }

    /// As in the topic `hosts`.
    pub fn brief(&self) -> Bytes {
        json(&self.brief, || view::HostBrief::from(self))
    }

    /// As `GET /hosts/{host}` and the topic `host:<id>` have it.
    pub fn detail(&self) -> Bytes {
        json(&self.detail, || view::HostDetail::from(self))
    }
}

impl PodLive {
    fn new(pod_id: PodId, record: Option<Arc<PodRecord>>, sample: Option<Arc<PodSampled>>) -> Self {
        Self { pod_id, record, asked: None, sample, json: OnceLock::new() }
    }

    /// The same pod with another sample.
    fn sampled(&self, sample: Option<Arc<PodSampled>>) -> Self {
        Self { asked: self.asked.clone(), ..Self::new(self.pod_id, self.record.clone(), sample) }
    }

    /// As everywhere in the API.
    pub fn json(&self) -> Bytes {
        json(&self.json, || view::PodView::from(self))
    }

    /// What its owner calls it.
    pub fn name(&self) -> Option<&str> {
        let asked = || self.asked.as_ref().map(|asked| asked.create.name.as_str());
        self.record.as_ref().map(|record| record.name.as_str()).or_else(asked)
    }

    /// The secrets that it was made with.
    pub fn secrets(&self) -> Option<&PodSecrets> {
        match &self.record {
            Some(record) => record.secrets.as_ref(),
            None => self.asked.as_ref().and_then(|asked| asked.create.secrets.as_ref()),
        }
    }

    /// Whether values of them are in its memory, or may be on their way there.
    pub fn holds_secrets(&self) -> bool {
        self.record.as_ref().map_or(self.secrets().is_some(), |record| record.holds_secrets())
    }

    /// Its tier's name.
    pub fn tier(&self) -> Option<&str> {
        let asked = || self.asked.as_ref().map(|asked| asked.create.tier.as_str());
        self.record.as_ref().map(|record| record.spec.tier.as_str()).or_else(asked)
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Option<PodPhase> {
        let asked = || self.asked.as_ref().map(|_| PodPhase::Pending);
        self.record.as_ref().map(|record| record.phase).or_else(asked)
    }

    /// The host that it is on.
    pub fn host_id(&self) -> Option<HostId> {
        match &self.record {
            Some(record) => record.host_id,
            None => self.sample.as_ref().map(|sample| sample.host_id),
        }
    }
}

impl Owned for HostLive {
    fn owner(&self) -> Option<&str> {
        self.record.owner.as_deref()
    }
}

impl Owned for PodLive {
    fn owner(&self) -> Option<&str> {
        let asked = || self.asked.as_ref().map(|asked| asked.create.owner.as_str());
        self.record.as_ref().map(|record| record.owner.as_str()).or_else(asked)
    }
}

pub(super) fn json<T: Serialize>(cell: &OnceLock<Bytes>, view: impl FnOnce() -> T) -> Bytes {
    // Our own views always have a JSON form; were one not to, clients see that nothing is known.
    cell.get_or_init(|| serde_json::to_vec(&view()).map_or_else(|_| Bytes::from_static(b"null"), Bytes::from)).clone()
}

impl Fleet {
    /// A host's record was written. Whether it has another owner than before.
    pub fn host_put(&self, record: HostRecord) -> bool {
        let mut passed_on = false;
        let record = Arc::new(record);
        self.hosts.change([record.host_id], |_, before| {
            passed_on = before.is_some_and(|before| before.record.owner != record.owner);
            let (heartbeat, sample) =
                before.map_or((None, None), |before| (before.heartbeat.clone(), before.sample.clone()));
            Next::Put(HostLive::new(record.clone(), heartbeat, sample))
        });
        passed_on
    }

    /// A host's record was removed: what came from it goes, too.
    pub fn host_removed(&self, host: HostId) {
        let mut pods = Vec::new();
        self.hosts.change([host], |_, before| {
            pods = before.map(sampled_pods).unwrap_or_default();
            Next::Remove
        });
        self.pods.change(pods, |_, pod| without_sample(host, pod));
    }

    /// A pod's record was written. Whether it has another owner than before.
    pub fn pod_put(&self, record: PodRecord) -> bool {
        let mut passed_on = false;
        let record = Arc::new(record);
        self.pods.change([record.pod_id], |pod_id, before| {
            let sample = before.and_then(|before| before.sample.clone());
            // A sample of another host than the record's is not this pod's, whoever sent it.
            let sample = sample.filter(|sample| record.host_id.is_none_or(|host| host == sample.host_id));
            let before_that = before.and_then(|before| before.record.as_ref());
            passed_on = before_that.is_some_and(|before| before.owner != record.owner);
            Next::Put(PodLive::new(*pod_id, Some(record.clone()), sample))
        });
        passed_on
    }

    /// Whose the pod or the host with this id is, as far as it is known.
    pub fn owner_of(&self, target_id: &str) -> Option<String> {
        if let Ok(host) = target_id.parse() {
            return self.hosts.get(&host).and_then(|host| host.owner().map(str::to_owned));
        }
        let pod = target_id.parse().ok().and_then(|pod| self.pods.get(&pod));
        pod.and_then(|pod| pod.owner().map(str::to_owned))
    }

    /// A pod was asked for.
    pub fn pod_asked(&self, pod: PodId, asked: PodAsked) {
        let asked = Arc::new(asked);
        self.pods.change([pod], |pod_id, before| match before {
            Some(before) if before.record.is_some() || before.asked.is_some() => Next::Keep,
            before => {
                let sample = before.and_then(|before| before.sample.clone());
                Next::Put(PodLive { asked: Some(asked.clone()), ..PodLive::new(*pod_id, None, sample) })
            }
        });
    }

    /// Nothing became of the request for a pod.
    pub fn pod_refused(&self, pod: PodId, operation: OperationId) {
        self.pods.change([pod], |pod_id, before| match before {
            Some(before) if before.asked.as_ref().is_some_and(|asked| asked.operation_id == operation) => {
                match &before.sample {
                    Some(sample) => Next::Put(PodLive::new(*pod_id, None, Some(sample.clone()))),
                    None => Next::Remove,
                }
            }
            _ => Next::Keep,
        });
    }

    /// A pod's record was removed. While its host still samples it, it is there.
    pub fn pod_removed(&self, pod: PodId) {
        self.pods.change([pod], |pod_id, before| match before.and_then(|before| before.sample.clone()) {
            Some(sample) => Next::Put(PodLive::new(*pod_id, None, Some(sample))),
            None => Next::Remove,
        });
    }

    /// A heartbeat came.
    pub fn heartbeat(&self, heartbeat: Received<Heartbeat>, arrival: Arrival) -> Taken {
        let mut taken = Taken::UnknownHost;
        let heartbeat = Arc::new(heartbeat);
        self.hosts.change([heartbeat.value.host_id], |_, host| {
            let Some(host) = host else { return Next::Keep };
            if arrival == Arrival::Stored && host.heartbeat.is_some() {
                taken = Taken::Older;
                return Next::Keep;
            }
            taken = Taken::Yes;
            Next::Put(host.with(Some(heartbeat.clone()), host.sample.clone()))
        });
        taken
    }

    /// A sample came. One that waited in a spool, or was read back from its stream, never replaces another; live ones
    /// count in the order of their arrival, since a host's clock may be set back.
    pub fn metrics(&self, metrics: Received<Metrics>, arrival: Arrival) -> Taken {
        let metrics = Arc::new(metrics);
        let host_id = metrics.value.host_id;
        let mut taken = Taken::UnknownHost;
        let mut before = Vec::new();
        self.hosts.change([host_id], |_, host| {
            let Some(host) = host else { return Next::Keep };
            if host.sample.is_some() && (metrics.value.late || arrival == Arrival::Stored) {
                taken = Taken::Older;
                return Next::Keep;
            }
            taken = Taken::Yes;
            before = sampled_pods(host);
            Next::Put(host.with(host.heartbeat.clone(), Some(metrics.clone())))
        });
        if taken != Taken::Yes {
            return taken;
        }
        let now: BTreeSet<PodId> = metrics.value.pods.iter().map(|pod| pod.pod_id).collect();
        let gone = before.into_iter().filter(|pod| !now.contains(pod));
        self.pods.change(gone, |_, pod| without_sample(host_id, pod));
        let mut samples = metrics.value.pods.iter();
        self.pods.change(metrics.value.pods.iter().map(|pod| pod.pod_id), |pod_id, before| {
            let Some(sample) = samples.next() else { return Next::Keep };
            let record = before.and_then(|before| before.record.as_ref());
            if record.is_some_and(|record| record.host_id.is_some_and(|host| host != host_id)) {
                return Next::Keep;
            }
            let sampled = PodSampled {
                host_id,
                sampled_at: metrics.value.sampled_at,
                received_at: metrics.received_at,
                sample: sample.clone(),
            };
            let sampled = Some(Arc::new(sampled));
            Next::Put(match before {
                Some(before) => before.sampled(sampled),
                None => PodLive::new(*pod_id, None, sampled),
            })
        });
        Taken::Yes
    }
}

fn sampled_pods(host: &HostLive) -> Vec<PodId> {
    host.sample.as_ref().map(|sample| sample.value.pods.iter().map(|pod| pod.pod_id).collect()).unwrap_or_default()
}

/// A pod that `host` no longer samples. If another host samples it meanwhile, it stays as it is.
fn without_sample(host: HostId, pod: Option<&PodLive>) -> Next<PodLive> {
    match pod {
        Some(pod) if pod.sample.as_ref().is_some_and(|sample| sample.host_id == host) => {
            if pod.record.is_some() || pod.asked.is_some() { Next::Put(pod.sampled(None)) } else { Next::Remove }
        }
        _ => Next::Keep,
    }
}

#[cfg(test)]
mod tests;
