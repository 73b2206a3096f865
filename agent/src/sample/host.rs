//! The host's figures: the whole machine's, and not the agent's own.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::statvfs::statvfs;
use pinacle_bus::contract::metrics::{DiskSample, HostSample, NetworkSample, PressureSample, TemperatureSample};
use sysinfo::Components;
use tokio::time::Instant;

use super::{Roots, rate, rounded};
use crate::{
    procfs::{self, CpuTicks, Mount, Traffic},
    reading::{Scratch, Source},
};

/// Mounts, devices and sensors come and go rarely, and looking for them costs more than reading them.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What a message holds at most of each.
const MOST_PARTS: usize = 1024;

/// Reads the host's figures; keeps what rates count from.
#[derive(Debug)]
pub struct HostSampler {
    sys: PathBuf,
    stat: Source,
    meminfo: Source,
    loadavg: Source,
    diskstats: Source,
    net_dev: Source,
    route: Source,
    mountinfo: Source,
    pressure: [Source; 3],
    components: Option<Components>,
    parts: Parts,
    looked_at: Instant,
    before: Counters,
    cores: Vec<CpuTicks>,
}

/// What the machine has.
#[derive(Debug, Default)]
struct Parts {
    mounts: Vec<Mount>,
    disks: HashSet<String>,
    interfaces: HashSet<String>,
    temperatures: Vec<TemperatureSample>,
}

/// What rates count from.
#[derive(Debug, Default)]
struct Counters {
    at: Option<Instant>,
    cpu: CpuTicks,
    cores: Vec<CpuTicks>,
    disk: Traffic,
    networks: Vec<(String, Traffic)>,
}

impl HostSampler {
    pub(super) fn new(roots: &Roots, scratch: &mut Scratch, now: Instant) -> Self {
        let proc = |name: &str| Source::new(roots.proc.join(name));
        let mut sampler = Self {
            sys: roots.sys.clone(),
            stat: proc("stat"),
            meminfo: proc("meminfo"),
            loadavg: proc("loadavg"),
            diskstats: proc("diskstats"),
            net_dev: proc("net/dev"),
            route: proc("net/route"),
            mountinfo: proc("self/mountinfo"),
            pressure: ["cpu", "memory", "io"].map(|name| proc(&format!("pressure/{name}"))),
            // sysinfo knows the kernel's ways to name sensors; there are none on most virtual machines.
            components: Components::new().ok(),
            parts: Parts::default(),
            looked_at: now,
            before: Counters::default(),
            cores: Vec::new(),
        };
        sampler.look(scratch, now);
        sampler.take(scratch, now);
        sampler
    }

    pub(super) fn take(&mut self, scratch: &mut Scratch, now: Instant) -> HostSample {
        if now.saturating_duration_since(self.looked_at) >= LOOK_AGAIN {
            self.look(scratch, now);
        }
        let elapsed = self.before.at.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        self.before.at = Some(now);
        let (cpu_percent, cpu_cores_percent) = self.cpu(scratch);
        let memory = self.meminfo.read(scratch, true).map(procfs::memory).unwrap_or_default();
        let [load_1, load_5, load_15] = self.loadavg.read(scratch, true).map(procfs::loads).unwrap_or_default();
        let (disk, disk_before) = self.disk(scratch);
        let networks = self.networks(scratch, elapsed);
        let sum = |of: fn(&NetworkSample) -> u64| networks.iter().map(of).fold(0, u64::saturating_add);
        HostSample {
            cpu_percent,
            cpu_cores_percent,
            load_1,
            load_5,
            load_15,
            memory_total_bytes: memory.total,
            memory_used_bytes: memory.total.saturating_sub(memory.available),
            memory_available_bytes: memory.available,
            memory_cached_bytes: memory.cached,
            swap_total_bytes: memory.swap_total,
            swap_used_bytes: memory.swap_total.saturating_sub(memory.swap_free),
            disk_read_bytes: disk.input,
            disk_write_bytes: disk.output,
            disk_read_bytes_per_second: rate(disk.input, disk_before.input, elapsed),
            disk_write_bytes_per_second: rate(disk.output, disk_before.output, elapsed),
            network_rx_bytes: sum(|network| network.rx_bytes),
            network_tx_bytes: sum(|network| network.tx_bytes),
            network_rx_bytes_per_second: rounded(networks.iter().map(|network| network.rx_bytes_per_second).sum()),
            network_tx_bytes_per_second: rounded(networks.iter().map(|network| network.tx_bytes_per_second).sum()),
            disks: self.disks(),
            networks,
            pressure: self.pressure(scratch),
            temperatures: self.parts.temperatures.clone(),
        }
    }

    /// Looks for what the machine has.
    fn look(&mut self, scratch: &mut Scratch, now: Instant) {
        self.looked_at = now;
        // Docker adds a line for each container, some of them long: this file is not read each time.
        self.parts.mounts = self.mountinfo.read(scratch, false).map(procfs::mounts).unwrap_or_default();
        self.parts.mounts.truncate(MOST_PARTS);
        // What has a device behind it is real: not loop, RAM and mapped disks, nor bridges and pods' ends.
        self.parts.disks = with_device(&self.sys.join("block"));
        self.parts.disks.retain(|name| !name.starts_with("sr") && !name.starts_with("fd"));
        self.parts.interfaces = with_device(&self.sys.join("class/net"));
        if self.parts.interfaces.is_empty() {
            // A guest whose only interface is virtual, too: what leads out of it counts.
            let routes = self.route.read(scratch, false).unwrap_or_default();
            self.parts.interfaces = procfs::default_routes(routes).map(str::to_owned).collect();
        }
        if let Some(components) = &mut self.components {
            components.refresh(true);
            self.parts.temperatures = components
                .iter()
                .filter_map(|sensor| {
                    let celsius = sensor.temperature().map(f64::from).filter(|value| (-273.15..1e4).contains(value))?;
                    Some(TemperatureSample { label: sensor.label().chars().take(60).collect(), celsius })
                })
                .take(MOST_PARTS)
                .collect();
        }
    }

    fn cpu(&mut self, scratch: &mut Scratch) -> (f64, Vec<f32>) {
        let Ok(text) = self.stat.read(scratch, true) else { return (0.0, Vec::new()) };
        let all = procfs::cpu_ticks(text, &mut self.cores);
        if self.cores.len() != self.before.cores.len() {
            // A core came or went, so that positions no longer match.
            self.before.cores.clone_from(&self.cores);
        }
        let percent = rounded(all.busy_since(self.before.cpu) * 100.0 * self.cores.len().max(1) as f64);
        let cores = self
            .cores
            .iter()
            .zip(&self.before.cores)
            .map(|(now, before)| rounded(now.busy_since(*before) * 100.0) as f32)
            .collect();
        self.before.cpu = all;
        std::mem::swap(&mut self.cores, &mut self.before.cores);
        (percent, cores)
    }

    fn disk(&mut self, scratch: &mut Scratch) -> (Traffic, Traffic) {
        let before = self.before.disk;
        if let Ok(text) = self.diskstats.read(scratch, true) {
            let mut sum = Traffic::default();
            for (_, traffic) in procfs::disk_traffic(text).filter(|(name, _)| self.parts.disks.contains(*name)) {
                sum.input = sum.input.saturating_add(traffic.input);
                sum.output = sum.output.saturating_add(traffic.output);
            }
            self.before.disk = sum;
        }
        (self.before.disk, before)
    }

    fn networks(&mut self, scratch: &mut Scratch, elapsed: Duration) -> Vec<NetworkSample> {
        let Ok(text) = self.net_dev.read(scratch, true) else { return Vec::new() };
        let mut networks = Vec::with_capacity(self.parts.interfaces.len());
        let mut counters = Vec::with_capacity(self.parts.interfaces.len());
        let real = procfs::interface_traffic(text).filter(|(name, _)| self.parts.interfaces.contains(*name));
        for (name, now) in real.take(MOST_PARTS) {
            let known = self.before.networks.iter().find(|(known, _)| known == name);
            // One that has just appeared has no rate yet.
            let before = known.map_or(now, |(_, traffic)| *traffic);
            networks.push(NetworkSample {
                name: name.to_owned(),
                rx_bytes: now.input,
                tx_bytes: now.output,
                rx_bytes_per_second: rate(now.input, before.input, elapsed),
                tx_bytes_per_second: rate(now.output, before.output, elapsed),
            });
            counters.push((name.to_owned(), now));
        }
        self.before.networks = counters;
        networks
    }

    fn pressure(&mut self, scratch: &mut Scratch) -> Option<PressureSample> {
        let [cpu, memory, io] = &mut self.pressure;
        let text = cpu.read(scratch, true).ok()?;
        let cpu_some_percent = procfs::pressure(text, "some")?;
        let text = memory.read(scratch, true).ok()?;
        let (memory_some, memory_full) = (procfs::pressure(text, "some")?, procfs::pressure(text, "full")?);
        let text = io.read(scratch, true).ok()?;
        Some(PressureSample {
            cpu_some_percent,
            memory_some_percent: memory_some,
            memory_full_percent: memory_full,
            io_some_percent: procfs::pressure(text, "some")?,
            io_full_percent: procfs::pressure(text, "full")?,
        })
    }

    fn disks(&self) -> Vec<DiskSample> {
        self.parts.mounts.iter().filter_map(size).collect()
    }
}

/// `None` when it was unmounted since, or is not to be seen from here.
fn size(mount: &Mount) -> Option<DiskSample> {
    let found = statvfs(Path::new(&mount.point)).ok()?;
    let block = found.fragment_size();
    let (blocks, free) = (found.blocks(), found.blocks_free());
    Some(DiskSample {
        device: mount.device.clone(),
        mount: mount.point.clone(),
        file_system: mount.file_system.clone(),
        total_bytes: blocks.saturating_mul(block),
        used_bytes: blocks.saturating_sub(free).saturating_mul(block),
        inodes_total: found.files(),
        inodes_used: found.files().saturating_sub(found.files_free()),
    })
}

/// Size of all real disks together.
pub fn disk_total_bytes(mountinfo: &str) -> u64 {
    procfs::mounts(mountinfo).iter().filter_map(size).map(|disk| disk.total_bytes).fold(0, u64::saturating_add)
}

/// Names of the entries of a folder of `/sys` that have a device behind them.
fn with_device(folder: &Path) -> HashSet<String> {
    let Ok(entries) = folder.read_dir() else { return HashSet::new() };
    entries
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
