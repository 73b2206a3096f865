//! What the kernel's files under `/proc` say, as plain values.
//!
//! Invariant: every parser takes any text, never panics, and leaves out what it cannot read.

mod mounts;
mod sockets;

pub use mounts::{Mount, mounts};
pub use sockets::{Protocol, listening};

/// Ticks of one core, or of all, since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTicks {
    /// In which it did something, or was taken away by the hypervisor.
    pub busy: u64,
    /// All.
    pub total: u64,
}

impl CpuTicks {
    /// How busy it was since `earlier`, from 0 to 1.
    pub fn busy_since(self, earlier: Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        let busy = self.busy.saturating_sub(earlier.busy);
        if total == 0 { 0.0 } else { (busy as f64 / total as f64).clamp(0.0, 1.0) }
    }
}

/// From `/proc/stat`: all cores together, then each into `cores`, which is emptied first.
pub fn cpu_ticks(text: &str, cores: &mut Vec<CpuTicks>) -> CpuTicks {
    cores.clear();
    let mut all = CpuTicks::default();
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time is part of user time already.
        let mut ticks = CpuTicks::default();
        for (position, value) in words.take(8).enumerate() {
            let value: u64 = value.parse().unwrap_or(0);
            ticks.total = ticks.total.saturating_add(value);
            if position != 3 && position != 4 {
                ticks.busy = ticks.busy.saturating_add(value);
            }
        }
        if name == "cpu" { all = ticks } else { cores.push(ticks) }
    }
    all
}

/// `/proc/meminfo`, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel manages.
    pub total: u64,
    /// What programs can still have without swapping.
    pub available: u64,
    /// Page cache, buffers and reclaimable slabs.
    pub cached: u64,
    /// Swap space.
    pub swap_total: u64,
    /// Swap space that is free.
    pub swap_free: u64,
}

/// From `/proc/meminfo`.
pub fn memory(text: &str) -> Memory {
    let mut memory = Memory::default();
    let (mut free, mut available) = (0, None);
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let kibibytes: u64 = rest.split_ascii_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or(0);
        let bytes = kibibytes.saturating_mul(1024);
        match key {
            "MemTotal" => memory.total = bytes,
            "MemFree" => free = bytes,
            "MemAvailable" => available = Some(bytes),
            "Buffers" | "Cached" | "SReclaimable" => memory.cached = memory.cached.saturating_add(bytes),
            "SwapTotal" => memory.swap_total = bytes,
            "SwapFree" => memory.swap_free = bytes,
            _ => {}
        }
    }
    // Kernels before 3.14 do not say; free and cache is what they would have said, nearly.
    memory.available = available.unwrap_or(free.saturating_add(memory.cached)).min(memory.total);
    memory
}

/// The three load averages, from `/proc/loadavg`.
pub fn loads(text: &str) -> [f64; 3] {
    let mut loads = [0.0; 3];
    for (load, word) in loads.iter_mut().zip(text.split_ascii_whitespace()) {
        *load = word.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0).unwrap_or(0.0);
    }
    loads
}

/// Seconds since boot, from `/proc/uptime`.
pub fn uptime_seconds(text: &str) -> u64 {
    text.split('.').next().and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0)
}

/// Bytes since boot, in and out: of a disk read and written, of an interface received and sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read or received.
    pub input: u64,
    /// Written or sent.
    pub output: u64,
}

/// Every block device with its bytes, from `/proc/diskstats`.
pub fn disk_traffic(text: &str) -> impl Iterator<Item = (&str, Traffic)> {
    // A sector is 512 bytes here, whatever the disk's own is.
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.nth(2)?;
        let read: u64 = words.nth(2)?.parse().ok()?;
        let written: u64 = words.nth(3)?.parse().ok()?;
        Some((name, Traffic { input: read.saturating_mul(512), output: written.saturating_mul(512) }))
    })
}

/// Every interface with its bytes, from a `net/dev`.
pub fn interface_traffic(text: &str) -> impl Iterator<Item = (&str, Traffic)> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.rsplit_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let input = words.next()?.parse().ok()?;
        let output = words.nth(7)?.parse().ok()?;
        Some((name.trim(), Traffic { input, output }))
    })
}

/// The interfaces that carry a default route, from `/proc/net/route`.
pub fn default_routes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        (words.next()? == "00000000").then_some(name)
    })
}

/// `avg10` of the line `kind` (`some` or `full`) of a file of `/proc/pressure`, in percent.
pub fn pressure(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(kind))?;
    let value: f64 = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()?;
    value.is_finite().then(|| value.clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests;
