//! Hosts and pods as people see them, in HTTP and WebSocket alike: borrowed from the live state, written once.

use std::collections::{BTreeMap, BTreeSet};

use pinacle_bus::contract::{
    HostId, OperationId, PodId, Timestamp,
    host::{DockerState, Evidence, HostFacts, HostState, Maintenance, StateCause},
    metrics::HostSample,
    pod::PodPhase,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::schema;
use crate::live::{
    board::Owned,
    fleet::{HostLive, PodLive},
};

/// What a list of hosts needs, and the WebSocket's topic `hosts`.
#[derive(Serialize, ToSchema)]
pub struct HostBrief<'a> {
    /// The host.
    #[schema(value_type = String, example = "host_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    host_id: HostId,
    /// What people call it.
    #[schema(value_type = String)]
    name: &'a str,
    /// How it is, as the orchestrator sees it.
    #[schema(value_type = schema::HostState)]
    state: HostState,
    /// Why.
    #[schema(value_type = schema::StateCause)]
    cause: StateCause,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    state_since: Timestamp,
    /// Closed for new pods by a person.
    cordoned: bool,
    /// Its agent may not connect until somebody enables it again. Pods on it go on.
    disabled: bool,
    /// When its newest heartbeat came, by the gateway's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    heartbeat_at: Option<Timestamp>,
    /// Its newest figures.
    metrics: Option<HostFigures>,
}

/// The main figures of a host's newest sample.
#[derive(Serialize, ToSchema)]
pub struct HostFigures {
    /// When, by the host's own clock.
    #[schema(value_type = String, format = DateTime)]
    sampled_at: Timestamp,
    /// When it came, by the gateway's clock.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// All cores together; 100 = one core.
    cpu_percent: f64,
    /// Load average over 1 minute.
    load_1: f64,
    /// Memory that the kernel manages.
    memory_total_bytes: u64,
    /// Total less available.
    memory_used_bytes: u64,
    /// Swap space in use.
    swap_used_bytes: u64,
    /// All real file systems together.
    disk_total_bytes: u64,
    /// All real file systems together.
    disk_used_bytes: u64,
    /// Read a second, over the interval.
    disk_read_bytes_per_second: f64,
    /// Written a second, over the interval.
    disk_write_bytes_per_second: f64,
    /// Received a second, over the interval.
    network_rx_bytes_per_second: f64,
    /// Sent a second, over the interval.
    network_tx_bytes_per_second: f64,
    /// Pods that it samples.
    pods: usize,
}

/// A host in a list of `GET /api/v1/hosts`.
#[derive(Serialize, ToSchema)]
pub struct HostView<'a> {
    /// As in the topic `hosts`.
    #[serde(flatten)]
    brief: HostBrief<'a>,
    /// When it was admitted.
    #[schema(value_type = String, format = DateTime)]
    admitted_at: Timestamp,
    /// What its state rests on.
    #[schema(value_type = schema::Evidence)]
    evidence: &'a Evidence,
    /// For placement.
    #[schema(value_type = BTreeMap<String, String>)]
    labels: &'a BTreeMap<String, String>,
    /// Whose pods it takes; empty = everybody's.
    #[schema(value_type = Vec<String>)]
    allowed_owners: &'a BTreeSet<String>,
    /// Whose it is: a user or a team; null = the installation's own.
    #[schema(value_type = Option<String>)]
    owner: Option<&'a str>,
    /// What people want to remember about it.
    #[schema(value_type = String)]
    notes: &'a str,
    /// When it takes no new pods.
    #[schema(value_type = Vec<schema::Maintenance>)]
    maintenance: &'a [Maintenance],
    /// What rarely changes about it.
    #[schema(value_type = schema::HostFacts)]
    facts: &'a HostFacts,
}

/// One host in full: `GET /api/v1/hosts/{host}` and the topic `host:<id>`.
#[derive(Serialize, ToSchema)]
pub struct HostDetail<'a> {
    /// As in a list.
    #[serde(flatten)]
    host: HostView<'a>,
    /// Its newest heartbeat.
    heartbeat: Option<HeartbeatView<'a>>,
    /// Its newest sample in full; when it was taken stands in `metrics`.
    #[schema(value_type = Option<schema::HostSample>)]
    sample: Option<&'a HostSample>,
    /// The pods that it samples.
    #[schema(value_type = Vec<String>)]
    pod_ids: Vec<PodId>,
}

/// A host's newest heartbeat.
#[derive(Serialize, ToSchema)]
pub struct HeartbeatView<'a> {
    /// When it came, by the gateway's clock.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// When it was sent, by the host's own clock.
    #[schema(value_type = String, format = DateTime)]
    sent_at: Timestamp,
    /// Counts up from 1 at each start of the agent.
    sequence: u64,
    /// The agent's release.
    #[schema(value_type = String)]
    agent_version: &'a str,
    /// The kernel's id of this boot.
    #[schema(value_type = String)]
    boot_id: &'a str,
    /// Since the machine's boot.
    uptime_seconds: u64,
    /// Load average over 1 minute.
    load_1: f64,
    /// Load average over 5 minutes.
    load_5: f64,
    /// Load average over 15 minutes.
    load_15: f64,
    /// Docker's state.
    #[schema(value_type = schema::DockerState)]
    docker: &'a DockerState,
    /// Whether it was the farewell of an agent that was stopped on purpose.
    stopping: bool,
}

/// A pod. What stands in its live record is null while there is none: samples may come before it.
#[derive(Serialize, ToSchema)]
pub struct PodView<'a> {
    /// The pod.
    #[schema(value_type = String, example = "pod_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    pod_id: PodId,
    /// What its owner calls it.
    #[schema(value_type = Option<String>)]
    name: Option<&'a str>,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    owner: Option<&'a str>,
    /// The host that it is on.
    #[schema(value_type = Option<String>)]
    host_id: Option<HostId>,
    /// Where it is in its life.
    #[schema(value_type = Option<schema::PodPhase>)]
    phase: Option<PodPhase>,
    /// Why, in words that its owner understands; null when all is well.
    #[schema(value_type = Option<String>)]
    cause: Option<&'a str>,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    phase_since: Option<Timestamp>,
    /// When it was asked for.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// The operation under way.
    #[schema(value_type = Option<String>)]
    operation_id: Option<OperationId>,
    /// Requests that wait behind it.
    waiting: usize,
    /// How often in a row it was started again after it had ended by itself.
    restarts: Option<u32>,
    /// Its tier.
    #[schema(value_type = Option<String>)]
    tier: Option<&'a str>,
    /// The image.
    #[schema(value_type = Option<String>)]
    image: Option<&'a str>,
    /// The host's port that leads to the pod.
    external_port: Option<u16>,
    /// Its newest figures.
    metrics: Option<PodFigures>,
}

/// A pod's newest sample. Totals count from the container's start.
#[derive(Serialize, ToSchema)]
pub struct PodFigures {
    /// When, by the host's own clock.
    #[schema(value_type = String, format = DateTime)]
    sampled_at: Timestamp,
    /// When it came, by the gateway's clock.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// 100 = one core.
    cpu_percent: f64,
    /// In use, without page cache that can go at once.
    memory_bytes: u64,
    /// The limit; null = none.
    memory_limit_bytes: Option<u64>,
    /// The writable layer; null until measured.
    disk_bytes: Option<u64>,
    /// Received since start.
    network_rx_bytes: u64,
    /// Sent since start.
    network_tx_bytes: u64,
    /// Read from block devices since start.
    block_read_bytes: u64,
    /// Written to block devices since start.
    block_write_bytes: u64,
    /// Processes and threads.
    pids: u64,
    /// Time held back by its CPU limit since start.
    throttled_ms: u64,
    /// Processes killed for memory since start.
    oom_kills: u64,
}

impl<'a> From<&'a HostLive> for HostBrief<'a> {
    fn from(host: &'a HostLive) -> Self {
        let record = &*host.record;
        Self {
            host_id: record.host_id,
            name: &record.name,
            state: record.state,
            cause: record.cause,
            state_since: record.state_since,
            cordoned: record.cordoned,
            disabled: record.disabled,
            heartbeat_at: host.heartbeat.as_ref().map(|heartbeat| heartbeat.received_at),
            metrics: HostFigures::newest(host),
        }
    }
}

impl HostFigures {
    fn newest(host: &HostLive) -> Option<Self> {
        let metrics = host.sample.as_ref()?;
        let sample = &metrics.value.host;
        let sum = |part: fn(&pinacle_bus::contract::metrics::DiskSample) -> u64| {
            sample.disks.iter().map(part).fold(0, u64::saturating_add)
        };
        Some(Self {
            sampled_at: metrics.value.sampled_at,
            received_at: metrics.received_at,
            cpu_percent: sample.cpu_percent,
            load_1: sample.load_1,
            memory_total_bytes: sample.memory_total_bytes,
            memory_used_bytes: sample.memory_used_bytes,
            swap_used_bytes: sample.swap_used_bytes,
            disk_total_bytes: sum(|disk| disk.total_bytes),
            disk_used_bytes: sum(|disk| disk.used_bytes),
            disk_read_bytes_per_second: sample.disk_read_bytes_per_second,
            disk_write_bytes_per_second: sample.disk_write_bytes_per_second,
            network_rx_bytes_per_second: sample.network_rx_bytes_per_second,
            network_tx_bytes_per_second: sample.network_tx_bytes_per_second,
            pods: metrics.value.pods.len(),
        })
    }
}

impl<'a> From<&'a HostLive> for HostView<'a> {
    fn from(host: &'a HostLive) -> Self {
        let record = &*host.record;
        Self {
            brief: HostBrief::from(host),
            admitted_at: record.admitted_at,
            evidence: &record.evidence,
            labels: &record.labels,
            allowed_owners: &record.allowed_owners,
            owner: record.owner.as_deref(),
            notes: &record.notes,
            maintenance: &record.maintenance,
            facts: &record.facts,
        }
    }
}

impl<'a> From<&'a HostLive> for HostDetail<'a> {
    fn from(host: &'a HostLive) -> Self {
        let sample = host.sample.as_ref().map(|sample| &sample.value);
        Self {
            host: HostView::from(host),
            heartbeat: host.heartbeat.as_ref().map(|heartbeat| {
                let value = &heartbeat.value;
                HeartbeatView {
                    received_at: heartbeat.received_at,
                    sent_at: value.sent_at,
                    sequence: value.sequence,
                    agent_version: &value.agent_version,
                    boot_id: &value.boot_id,
                    uptime_seconds: value.uptime_seconds,
                    load_1: value.load_1,
                    load_5: value.load_5,
                    load_15: value.load_15,
                    docker: &value.docker,
                    stopping: value.stopping,
                }
            }),
            sample: sample.map(|sample| &sample.host),
            pod_ids: sample.map(|sample| sample.pods.iter().map(|pod| pod.pod_id).collect()).unwrap_or_default(),
        }
    }
}

impl<'a> From<&'a PodLive> for PodView<'a> {
    fn from(pod: &'a PodLive) -> Self {
        let (record, asked) = (pod.record.as_deref(), pod.asked.as_deref());
        let requested_at = asked.map(|asked| asked.requested_at);
        let operation = record.and_then(|record| record.operation.as_ref()).map(|operation| operation.operation_id);
        Self {
            pod_id: pod.pod_id,
            name: pod.name(),
            owner: pod.owner(),
            host_id: pod.host_id(),
            phase: pod.phase(),
            cause: record.and_then(|record| record.cause.as_deref()),
            phase_since: record.map(|record| record.phase_since).or(requested_at),
            created_at: record.map(|record| record.created_at).or(requested_at),
            operation_id: operation.or(asked.map(|asked| asked.operation_id)),
            waiting: record.map(|record| record.queue.len()).unwrap_or_default(),
            restarts: record.map(|record| record.restarts),
            tier: record.map(|record| &record.spec.tier).or(asked.map(|asked| &asked.create.tier)).map(String::as_str),
            image: record
                .map(|record| &record.spec.image)
                .or(asked.and_then(|asked| asked.create.image.as_ref()))
                .map(String::as_str),
            external_port: record.and_then(|record| record.external_port),
            metrics: pod.sample.as_deref().map(|sampled| PodFigures {
                sampled_at: sampled.sampled_at,
                received_at: sampled.received_at,
                cpu_percent: sampled.sample.cpu_percent,
                memory_bytes: sampled.sample.memory_bytes,
                memory_limit_bytes: sampled.sample.memory_limit_bytes,
                disk_bytes: sampled.sample.disk_bytes,
                network_rx_bytes: sampled.sample.network_rx_bytes,
                network_tx_bytes: sampled.sample.network_tx_bytes,
                block_read_bytes: sampled.sample.block_read_bytes,
                block_write_bytes: sampled.sample.block_write_bytes,
                pids: sampled.sample.pids,
                throttled_ms: sampled.sample.throttled_ms,
                oom_kills: sampled.sample.oom_kills,
            }),
        }
    }
}
