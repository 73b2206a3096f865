//! What the commands read of hosts, pods, events and dead letters. Fields that no command shows are left out.

use std::collections::BTreeMap;

use pinacle_bus::contract::{Timestamp, host::Maintenance};
use serde::Deserialize;
use serde_json::Value;

/// A host in a list.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Host {
    pub host_id: String,
    pub name: String,
    pub state: String,
    pub cause: String,
    pub state_since: Timestamp,
    #[serde(default)]
    pub cordoned: bool,
    #[serde(default)]
    pub disabled: bool,
    pub metrics: Option<HostFigures>,
}

/// The main figures of a host.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HostFigures {
    pub received_at: Timestamp,
    pub cpu_percent: f64,
    pub load_1: f64,
    pub memory_total_bytes: u64,
    pub memory_used_bytes: u64,
    pub disk_total_bytes: u64,
    pub disk_used_bytes: u64,
    pub network_rx_bytes_per_second: f64,
    pub network_tx_bytes_per_second: f64,
    pub pods: usize,
}

/// One host in full.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HostDetail {
    #[serde(flatten)]
    pub host: Host,
    pub admitted_at: Timestamp,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub owner: Option<String>,
    #[serde(default)]
    pub notes: String,
    #[serde(default)]
    pub maintenance: Vec<Maintenance>,
    pub facts: Facts,
    pub heartbeat: Option<Heartbeat>,
    pub sample: Option<Sample>,
    #[serde(default)]
    pub pod_ids: Vec<String>,
}

/// What rarely changes about a host.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Facts {
    pub agent_version: String,
    pub os: String,
    pub kernel: String,
    pub architecture: String,
    pub cpu_model: String,
    pub cpu_count: u32,
    pub docker_version: Option<String>,
    #[serde(default)]
    pub runtimes: Vec<String>,
    #[serde(default)]
    pub addresses: Vec<String>,
    pub ssh: Option<Ssh>,
    pub lima_name: Option<String>,
}

/// Where a host takes SSH.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ssh {
    pub address: Option<String>,
    pub port: u16,
}

/// The newest heartbeat.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Heartbeat {
    pub received_at: Timestamp,
    pub uptime_seconds: u64,
}

/// The newest sample.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Sample {
    pub cpu_percent: f64,
    #[serde(default)]
    pub cpu_cores_percent: Vec<f64>,
    pub load_1: f64,
    pub load_5: f64,
    pub load_15: f64,
    pub memory_total_bytes: u64,
    pub memory_used_bytes: u64,
    pub memory_cached_bytes: u64,
    pub swap_total_bytes: u64,
    pub swap_used_bytes: u64,
    pub disk_read_bytes_per_second: f64,
    pub disk_write_bytes_per_second: f64,
    pub network_rx_bytes_per_second: f64,
    pub network_tx_bytes_per_second: f64,
    #[serde(default)]
    pub disks: Vec<Disk>,
    pub pressure: Option<Pressure>,
    #[serde(default)]
    pub temperatures: Vec<Temperature>,
}

/// A file system.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Disk {
    pub mount: String,
    pub device: String,
    pub total_bytes: u64,
    pub used_bytes: u64,
}

/// Pressure.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pressure {
    pub cpu_some_percent: f64,
    pub memory_some_percent: f64,
    pub io_some_percent: f64,
}

/// A sensor.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Temperature {
    pub label: String,
    pub celsius: f64,
}

/// A pod. What stands in its live record is null while there is none.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pod {
    pub pod_id: String,
    pub name: Option<String>,
    pub owner: Option<String>,
    pub host_id: Option<String>,
    pub phase: Option<String>,
    pub cause: Option<String>,
    pub phase_since: Option<Timestamp>,
    pub created_at: Option<Timestamp>,
    pub tier: Option<String>,
    pub image: Option<String>,
    pub external_port: Option<u16>,
    pub operation_id: Option<String>,
    pub metrics: Option<PodFigures>,
}

impl Pod {
    /// Its name, or its id while it has no record.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.pod_id)
    }
}

/// The figures of a pod.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PodFigures {
    pub received_at: Timestamp,
    pub cpu_percent: f64,
    pub memory_bytes: u64,
    pub memory_limit_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    pub block_read_bytes: u64,
    pub block_write_bytes: u64,
    pub pids: u64,
    pub throttled_ms: u64,
    pub oom_kills: u64,
}

/// Something that happened.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    pub at: Timestamp,
    pub kind: String,
    pub target_id: String,
    pub what: String,
    pub message: String,
}

/// What answers a request that was taken in.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Accepted {
    pub operation_id: String,
}

/// The record of a request being carried out.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Operation {
    pub operation_id: String,
    pub kind: String,
    pub target_id: String,
    pub verb: String,
    pub progress: String,
    pub requested_by: Option<String>,
    pub host_id: Option<String>,
    pub cause: Option<String>,
    pub started_at: Option<Timestamp>,
    pub deadline_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    #[serde(default)]
    pub takeovers: u32,
    #[serde(default)]
    pub steps: Vec<OperationStep>,
}

impl Operation {
    /// Whether nothing more comes of it.
    pub fn ended(&self) -> bool {
        matches!(self.progress.as_str(), "succeeded" | "failed" | "cancelled")
    }
}

/// A step of an operation.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OperationStep {
    pub label: String,
    pub progress: String,
    pub cause: Option<String>,
    pub note: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// A command that ran, or runs, on a host.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ExecRecord {
    pub operation_id: String,
    pub sequence: u32,
    pub step: String,
    pub label: String,
    pub command: String,
    pub container_command: Option<String>,
    pub stdout: String,
    pub stderr: String,
    pub exit_code: Option<i32>,
    pub started_at: Timestamp,
    pub duration_ms: Option<u64>,
}

/// Lines of a pod's output.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LogChunk {
    pub lines: Vec<Value>,
    #[serde(default)]
    pub truncated: bool,
}

/// A line of a pod's output.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LogLine {
    pub stream: String,
    pub text: String,
}

/// What a reconciler found and did in its last run.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Reconciler {
    pub name: String,
    pub ran_at: Timestamp,
    pub duration_ms: u64,
    pub examined: u64,
    pub repaired: u64,
    #[serde(default)]
    pub findings: Vec<Finding>,
    pub error: Option<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Finding {
    pub kind: String,
    pub target_id: String,
    pub what: String,
    pub since: Timestamp,
}

/// A message that could not be handled.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DeadLetter {
    pub dead_letter_id: String,
    pub at: Timestamp,
    pub stream: String,
    pub consumer: String,
    pub subject: String,
    pub reason: String,
    pub tries: u64,
    pub payload_bytes: u64,
    #[serde(default)]
    pub payload_base64: Option<String>,
    pub resent_at: Option<Timestamp>,
    pub dropped_at: Option<Timestamp>,
}
