//! What an agent measures: one message a sample, with the host and all of its pods.
//!
//! A sample is identified by its host and its time: the same pair sent twice is the same sample.

use serde::{Deserialize, Serialize};

use super::{
    HostId, PodId, Timestamp,
    message::{Invalid, Message, check},
};

/// One sample of a host and of all its pods. Source: the agent, each interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The host that was sampled.
    pub host_id: HostId,
    /// When, by the host's own clock.
    pub sampled_at: Timestamp,
    /// The time that rates and percentages were measured over.
    pub interval_ms: u64,
    /// Whether it waited in the agent's spool, because the bus was away.
    pub late: bool,
    /// The host's figures.
    pub host: HostSample,
    /// The pods' figures, one entry a pod.
    pub pods: Vec<PodSample>,
}

impl Metrics {
    /// What JetStream deduplicates on.
    pub fn message_id(&self) -> String {
        format!("{}.{}", self.host_id, self.sampled_at.as_millis())
    }
}

/// The figures of a host. Source: `/proc` and `/sys`, for the whole machine and not for the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSample {
    /// All cores together; 100 = one core.
    pub cpu_percent: f64,
    /// Each core; 100 = fully used.
    pub cpu_cores_percent: Vec<f32>,
    /// Load average over 1 minute.
    pub load_1: f64,
    /// Load average over 5 minutes.
    pub load_5: f64,
    /// Load average over 15 minutes.
    pub load_15: f64,
    /// Memory that the kernel manages.
    pub memory_total_bytes: u64,
    /// Total less available.
    pub memory_used_bytes: u64,
    /// What programs can still have without swapping.
    pub memory_available_bytes: u64,
    /// Page cache, buffers and reclaimable slabs.
    pub memory_cached_bytes: u64,
    /// Swap space.
    pub swap_total_bytes: u64,
    /// Swap space in use.
    pub swap_used_bytes: u64,
    /// Read from all real disks since boot.
    pub disk_read_bytes: u64,
    /// Written to all real disks since boot.
    pub disk_write_bytes: u64,
    /// Read a second, over the interval.
    pub disk_read_bytes_per_second: f64,
    /// Written a second, over the interval.
    pub disk_write_bytes_per_second: f64,
    /// Received on all physical interfaces since boot (not loopback, bridges or pods' ends).
    pub network_rx_bytes: u64,
    /// Sent on all physical interfaces since boot.
    pub network_tx_bytes: u64,
    /// Received a second, over the interval.
    pub network_rx_bytes_per_second: f64,
    /// Sent a second, over the interval.
    pub network_tx_bytes_per_second: f64,
    /// Every mounted real file system, once each.
    pub disks: Vec<DiskSample>,
    /// Every physical interface.
    pub networks: Vec<NetworkSample>,
    /// Pressure stall information, where the kernel has it.
    pub pressure: Option<PressureSample>,
    /// Sensors, where there are any.
    pub temperatures: Vec<TemperatureSample>,
}

/// A file system on a real disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskSample {
    /// The device, such as `/dev/sda1`.
    pub device: String,
    /// Where it is mounted.
    pub mount: String,
    /// Such as `ext4`.
    pub file_system: String,
    /// Its size.
    pub total_bytes: u64,
    /// Size less what is free, as `df` has it.
    pub used_bytes: u64,
    /// Its inodes; 0 where it has no fixed number.
    pub inodes_total: u64,
    /// Inodes in use.
    pub inodes_used: u64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkSample {
    /// Such as `eth0`.
    pub name: String,
    /// Received since boot.
    pub rx_bytes: u64,
    /// Sent since boot.
    pub tx_bytes: u64,
    /// Received a second, over the interval.
    pub rx_bytes_per_second: f64,
    /// Sent a second, over the interval.
    pub tx_bytes_per_second: f64,
}

/// The share of the last 10 seconds in which tasks waited, in percent of the time. Source: `/proc/pressure`, `avg10`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PressureSample {
    /// Some task waited for a CPU.
    pub cpu_some_percent: f64,
    /// Some task waited for memory.
    pub memory_some_percent: f64,
    /// All tasks waited for memory.
    pub memory_full_percent: f64,
    /// Some task waited for a disk.
    pub io_some_percent: f64,
    /// All tasks waited for a disk.
    pub io_full_percent: f64,
}

/// A sensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemperatureSample {
    /// The sensor's name.
    pub label: String,
    /// Degrees.
    pub celsius: f64,
}

/// The figures of a pod. Source: its cgroup, its network namespace, its writable layer. Totals count from the
/// container's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSample {
    /// The pod.
    pub pod_id: PodId,
    /// 100 = one core.
    pub cpu_percent: f64,
    /// In use, without page cache that can go at once.
    pub memory_bytes: u64,
    /// The limit; null = none.
    pub memory_limit_bytes: Option<u64>,
    /// The writable layer; null until measured, which happens on a slow clock.
    pub disk_bytes: Option<u64>,
    /// Received since start.
    pub network_rx_bytes: u64,
    /// Sent since start.
    pub network_tx_bytes: u64,
    /// Read from block devices since start.
    pub block_read_bytes: u64,
    /// Written to block devices since start.
    pub block_write_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Time held back by its CPU limit since start.
    pub throttled_ms: u64,
    /// Processes killed for memory since start.
    pub oom_kills: u64,
}

const MOST_PODS: usize = 1000;
const MOST_PARTS: usize = 1024;

impl Message for Metrics {
    const NAME: &'static str = "metrics";
    /// 1000 pods have about 330 bytes each; NATS itself takes 1 MiB.
    const MAX_BYTES: usize = 512 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::within("interval_ms", self.interval_ms as f64, 0.0, 86_400_000.0)?;
        check::length("pods", self.pods.len(), MOST_PODS)?;
        self.host.check()?;
        self.pods.iter().try_for_each(PodSample::check)?;
        // Two figures for one pod at one time cannot both be true, and only one fits its row.
        let mut ids: Vec<PodId> = self.pods.iter().map(|pod| pod.pod_id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Invalid { field: "pods", why: "names a pod twice".into() });
        }
        Ok(())
    }
}

impl HostSample {
    fn check(&self) -> Result<(), Invalid> {
        check::percent("cpu_percent", self.cpu_percent)?;
        check::length("cpu_cores_percent", self.cpu_cores_percent.len(), 4096)?;
        self.cpu_cores_percent
            .iter()
            .try_for_each(|core| check::within("cpu_cores_percent", f64::from(*core), 0.0, 101.0))?;
        for (field, load) in [("load_1", self.load_1), ("load_5", self.load_5), ("load_15", self.load_15)] {
            check::within(field, load, 0.0, 1e6)?;
        }
        for (field, bytes) in [
            ("memory_total_bytes", self.memory_total_bytes),
            ("memory_used_bytes", self.memory_used_bytes),
            ("memory_available_bytes", self.memory_available_bytes),
            ("memory_cached_bytes", self.memory_cached_bytes),
            ("swap_total_bytes", self.swap_total_bytes),
            ("swap_used_bytes", self.swap_used_bytes),
            ("disk_read_bytes", self.disk_read_bytes),
            ("disk_write_bytes", self.disk_write_bytes),
            ("network_rx_bytes", self.network_rx_bytes),
            ("network_tx_bytes", self.network_tx_bytes),
        ] {
            check::count(field, bytes)?;
        }
        for (field, rate) in [
            ("disk_read_bytes_per_second", self.disk_read_bytes_per_second),
            ("disk_write_bytes_per_second", self.disk_write_bytes_per_second),
            ("network_rx_bytes_per_second", self.network_rx_bytes_per_second),
            ("network_tx_bytes_per_second", self.network_tx_bytes_per_second),
        ] {
            check::within(field, rate, 0.0, 1e15)?;
        }
        self.check_parts()
    }

    fn check_parts(&self) -> Result<(), Invalid> {
        check::length("disks", self.disks.len(), MOST_PARTS)?;
        for disk in &self.disks {
            for (field, text) in
                [("disks.device", &disk.device), ("disks.mount", &disk.mount), ("disks.file_system", &disk.file_system)]
            {
                check::text(field, text, 4096)?;
            }
            for (field, count) in [
                ("disks.total_bytes", disk.total_bytes),
                ("disks.used_bytes", disk.used_bytes),
                ("disks.inodes_total", disk.inodes_total),
                ("disks.inodes_used", disk.inodes_used),
            ] {
                check::count(field, count)?;
            }
        }
        check::length("networks", self.networks.len(), MOST_PARTS)?;
        for network in &self.networks {
            check::text("networks.name", &network.name, 64)?;
            check::count("networks.rx_bytes", network.rx_bytes)?;
            check::count("networks.tx_bytes", network.tx_bytes)?;
            check::within("networks.rx_bytes_per_second", network.rx_bytes_per_second, 0.0, 1e15)?;
            check::within("networks.tx_bytes_per_second", network.tx_bytes_per_second, 0.0, 1e15)?;
        }
        if let Some(pressure) = &self.pressure {
            for (field, share) in [
                ("pressure.cpu_some_percent", pressure.cpu_some_percent),
                ("pressure.memory_some_percent", pressure.memory_some_percent),
                ("pressure.memory_full_percent", pressure.memory_full_percent),
                ("pressure.io_some_percent", pressure.io_some_percent),
                ("pressure.io_full_percent", pressure.io_full_percent),
            ] {
                check::within(field, share, 0.0, 100.0)?;
            }
        }
        check::length("temperatures", self.temperatures.len(), MOST_PARTS)?;
        self.temperatures.iter().try_for_each(|sensor| {
            check::text("temperatures.label", &sensor.label, 255)?;
            check::within("temperatures.celsius", sensor.celsius, -273.15, 10_000.0)
        })
    }
}

impl PodSample {
    fn check(&self) -> Result<(), Invalid> {
        check::percent("pods.cpu_percent", self.cpu_percent)?;
        for (field, count) in [
            ("pods.memory_bytes", self.memory_bytes),
            ("pods.memory_limit_bytes", self.memory_limit_bytes.unwrap_or(0)),
            ("pods.disk_bytes", self.disk_bytes.unwrap_or(0)),
            ("pods.network_rx_bytes", self.network_rx_bytes),
            ("pods.network_tx_bytes", self.network_tx_bytes),
            ("pods.block_read_bytes", self.block_read_bytes),
            ("pods.block_write_bytes", self.block_write_bytes),
            ("pods.pids", self.pids),
            ("pods.throttled_ms", self.throttled_ms),
            ("pods.oom_kills", self.oom_kills),
        ] {
            check::count(field, count)?;
        }
        Ok(())
    }
}
