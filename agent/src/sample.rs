//! Taking a sample: the host and all of its pods, from the kernel's own files.
//!
//! Invariant: the times of two samples of one run differ and ascend, whatever the machine's clock does; rates are
//! measured by a clock that cannot be set.

mod host;
mod pods;

use std::{path::PathBuf, time::Duration};

use pinacle_bus::contract::{HostId, Timestamp, metrics::Metrics};
use tokio::time::Instant;

pub use self::host::disk_total_bytes;
use self::{host::HostSampler, pods::PodSampler};
use crate::{docker::Pod, reading::Scratch, settings::AgentSettings};

/// Where the kernel's file systems are mounted.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
    /// Usually `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
}

impl Roots {
    /// As set.
    pub fn new(settings: &AgentSettings) -> Self {
        Self { proc: settings.proc_dir.clone(), sys: settings.sys_dir.clone(), cgroup: settings.cgroup_dir.clone() }
    }
}

/// Takes samples. Each one rests on the one before.
#[derive(Debug)]
pub struct Sampler {
    host_id: HostId,
    host: HostSampler,
    pods: PodSampler,
    scratch: Scratch,
    timeline: Timeline,
}

impl Sampler {
    /// Reads the first counters, which the first sample's rates count from.
    pub fn new(host_id: HostId, roots: &Roots) -> Self {
        let mut scratch = Scratch::default();
        let now = Instant::now();
        Self {
            host_id,
            host: HostSampler::new(roots, &mut scratch, now),
            pods: PodSampler::new(roots),
            scratch,
            timeline: Timeline { last: Timestamp::now(), at: now },
        }
    }

    /// Takes a sample now. It blocks for a millisecond or a few.
    pub fn take(&mut self, pods: &[Pod]) -> Metrics {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.timeline.at);
        let sampled_at = self.timeline.advance(Timestamp::now(), now);
        Metrics {
            host_id: self.host_id,
            sampled_at,
            interval_ms: (elapsed.as_secs_f64() * 1000.0).round() as u64,
            late: false,
            host: self.host.take(&mut self.scratch, now),
            pods: self.pods.take(&mut self.scratch, pods),
        }
    }

    /// When the last sample was taken.
    pub fn last_taken(&self) -> Instant {
        self.timeline.at
    }
}

/// The times of samples.
#[derive(Debug)]
struct Timeline {
    last: Timestamp,
    at: Instant,
}

impl Timeline {
    /// The time of a sample that is taken at `now`, when the machine's clock shows `clock`.
    ///
    /// When that clock was set back the line goes on at half the pace, until the clock has caught up: an hour is mended
    /// within two, and no time comes twice.
    fn advance(&mut self, clock: Timestamp, now: Instant) -> Timestamp {
        let passed = now.saturating_duration_since(self.at);
        let slowed = self.last.plus((passed / 2).max(Duration::from_millis(1)));
        self.last = if clock > self.last { clock } else { slowed };
        self.at = now;
        self.last
    }
}

/// Bytes a second.
fn rate(now: u64, before: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { rounded(now.saturating_sub(before) as f64 / seconds) } else { 0.0 }
}

/// To two digits: what follows is noise, and every digit is paid for on the bus by each pod of each host.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
