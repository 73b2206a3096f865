//! The bus's messages, and the history's series, as the OpenAPI document describes them. The API hands them out as they are; here stand their shapes
//! alone, because neither knows of HTTP. A test holds each against what the contract writes.

mod answer;
mod pod;
mod series;

use serde::Serialize;
use utoipa::ToSchema;

pub use answer::*;
pub use pod::*;
pub use series::*;

/// Whether a host can run containers.
#[derive(Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DockerState {
    /// It answers.
    Up {
        /// The engine's version.
        version: String,
    },
    /// It is installed, but does not answer.
    Down {
        /// What the last attempt said.
        reason: String,
    },
    /// There is no Docker socket.
    Absent,
}

/// How a host is, as the orchestrator sees it.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum HostState {
    /// Heartbeats arrive.
    Online,
    /// A heartbeat is missing, its connection closed, or its Docker is down.
    Degraded,
    /// Silent for longer than a host may be, or stopped on purpose.
    Offline,
    /// Nobody can tell yet: just admitted, or the bus was away.
    Unknown,
}

/// Why a host is in its state.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum StateCause {
    /// Its inventory came for the first time.
    Admitted,
    /// Heartbeats arrive.
    Heartbeat,
    /// The last heartbeat is older than one interval and some grace.
    HeartbeatMissed,
    /// The bus reported that the agent's connection closed.
    ConnectionClosed,
    /// Docker does not answer on the host.
    DockerDown,
    /// No heartbeat for longer than a host may be silent: lost.
    Silent,
    /// The agent said farewell: stopped, not lost.
    Stopped,
}

/// A window of maintenance.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct Maintenance {
    /// When it begins.
    #[schema(format = DateTime)]
    from: String,
    /// When it has ended.
    #[schema(format = DateTime)]
    until: String,
    /// What for; may be empty.
    reason: String,
}

/// What a change of state rests on, all by the orchestrator's own clock.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct Evidence {
    /// When the last heartbeat arrived.
    #[schema(format = DateTime)]
    last_heartbeat_at: Option<String>,
    /// Its age when the change was decided.
    heartbeat_age_ms: Option<u64>,
    /// Its sequence number.
    heartbeat_sequence: Option<u64>,
    /// The host's clock less the orchestrator's when it arrived.
    clock_offset_ms: Option<i64>,
    /// When the bus last reported that the agent's connection closed.
    #[schema(format = DateTime)]
    connection_closed_at: Option<String>,
    /// The reason that the bus gave for it.
    connection_closed_reason: Option<String>,
}

/// What rarely changes about a host, from its newest inventory.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct HostFacts {
    /// The agent's release.
    agent_version: String,
    /// The kernel's id of this boot.
    boot_id: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    os: String,
    /// Such as `6.1.0-18-amd64`.
    kernel: String,
    /// Such as `x86_64`.
    architecture: String,
    /// As the CPU calls itself.
    cpu_model: String,
    /// Logical cores.
    cpu_count: u32,
    /// Memory that the kernel manages.
    memory_total_bytes: u64,
    /// All real file systems together.
    disk_total_bytes: u64,
    /// The engine's version; null = none.
    docker_version: Option<String>,
    /// Docker's runtimes, such as `runc` and `runsc`.
    runtimes: Vec<String>,
    /// Its addresses, without loopback and link-local ones.
    addresses: Vec<String>,
    /// Where it takes SSH.
    ssh: Option<SshEndpoint>,
    /// The Lima machine that it is, if it is one.
    lima_name: Option<String>,
}

/// Where a pod is in its life.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum PodPhase {
    /// Asked for.
    Pending,
    /// A host is being chosen.
    Placing,
    /// Network, volume and container are being made.
    Provisioning,
    /// The container is starting.
    Starting,
    /// It answers.
    Running,
    /// Frozen by its owner.
    Paused,
    /// Being stopped.
    Stopping,
    /// Stopped; its volumes are kept.
    Stopped,
    /// Being removed.
    Deleting,
    /// Removed.
    Deleted,
    /// Something went wrong; the cause says what.
    Failed,
    /// Its host is away.
    Lost,
    /// Being put away.
    Hibernating,
    /// Put away.
    Hibernated,
    /// Being brought back.
    Waking,
}

/// One sample of a host and of all its pods. Source: the agent, each interval.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct Metrics {
    /// The host that was sampled.
    host_id: String,
    /// When, by the host's own clock.
    #[schema(format = DateTime)]
    sampled_at: String,
    /// The time that rates and percentages were measured over.
    interval_ms: u64,
    /// Whether it waited in the agent's spool, because the bus was away.
    late: bool,
    /// The host's figures.
    host: HostSample,
    /// The pods' figures, one entry a pod.
    pods: Vec<PodSample>,
}

/// The figures of a host. Source: `/proc` and `/sys`, for the whole machine and not for the agent.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct HostSample {
    /// All cores together; 100 = one core.
    cpu_percent: f64,
    /// Each core; 100 = fully used.
    cpu_cores_percent: Vec<f32>,
    /// Load average over 1 minute.
    load_1: f64,
    /// Load average over 5 minutes.
    load_5: f64,
    /// Load average over 15 minutes.
    load_15: f64,
    /// Memory that the kernel manages.
    memory_total_bytes: u64,
    /// Total less available.
    memory_used_bytes: u64,
    /// What programs can still have without swapping.
    memory_available_bytes: u64,
    /// Page cache, buffers and reclaimable slabs.
    memory_cached_bytes: u64,
    /// Swap space.
    swap_total_bytes: u64,
    /// Swap space in use.
    swap_used_bytes: u64,
    /// Read from all real disks since boot.
    disk_read_bytes: u64,
    /// Written to all real disks since boot.
    disk_write_bytes: u64,
    /// Read a second, over the interval.
    disk_read_bytes_per_second: f64,
    /// Written a second, over the interval.
    disk_write_bytes_per_second: f64,
    /// Received on all physical interfaces since boot (not loopback, bridges or pods' ends).
    network_rx_bytes: u64,
    /// Sent on all physical interfaces since boot.
    network_tx_bytes: u64,
    /// Received a second, over the interval.
    network_rx_bytes_per_second: f64,
    /// Sent a second, over the interval.
    network_tx_bytes_per_second: f64,
    /// Every mounted real file system, once each.
    disks: Vec<DiskSample>,
    /// Every physical interface.
    networks: Vec<NetworkSample>,
    /// Pressure stall information, where the kernel has it.
    pressure: Option<PressureSample>,
    /// Sensors, where there are any.
    temperatures: Vec<TemperatureSample>,
}

/// A file system on a real disk.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct DiskSample {
    /// The device, such as `/dev/sda1`.
    device: String,
    /// Where it is mounted.
    mount: String,
    /// Such as `ext4`.
    file_system: String,
    /// Its size.
    total_bytes: u64,
    /// Size less what is free, as `df` has it.
    used_bytes: u64,
    /// Its inodes; 0 where it has no fixed number.
    inodes_total: u64,
    /// Inodes in use.
    inodes_used: u64,
}

/// A network interface.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct NetworkSample {
    /// Such as `eth0`.
    name: String,
    /// Received since boot.
    rx_bytes: u64,
    /// Sent since boot.
    tx_bytes: u64,
    /// Received a second, over the interval.
    rx_bytes_per_second: f64,
    /// Sent a second, over the interval.
    tx_bytes_per_second: f64,
}

/// The share of the last 10 seconds in which tasks waited, in percent of the time. Source: `/proc/pressure`, `avg10`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct PressureSample {
    /// Some task waited for a CPU.
    cpu_some_percent: f64,
    /// Some task waited for memory.
    memory_some_percent: f64,
    /// All tasks waited for memory.
    memory_full_percent: f64,
    /// Some task waited for a disk.
    io_some_percent: f64,
    /// All tasks waited for a disk.
    io_full_percent: f64,
}

/// A sensor.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct TemperatureSample {
    /// The sensor's name.
    label: String,
    /// Degrees.
    celsius: f64,
}

/// The figures of a pod. Source: its cgroup, its network namespace, its writable layer. Totals count from the
/// container's start.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct PodSample {
    /// The pod.
    pod_id: String,
    /// 100 = one core.
    cpu_percent: f64,
    /// In use, without page cache that can go at once.
    memory_bytes: u64,
    /// The limit; null = none.
    memory_limit_bytes: Option<u64>,
    /// The writable layer; null until measured, which happens on a slow clock.
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

#[cfg(test)]
mod tests;
