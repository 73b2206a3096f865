//! What processes take of the machine. Source: `/proc`.

use std::{fs, time::Duration};

use tokio::time::Instant;

/// CPU and memory of a process and its children.
pub struct Usage {
    pid: u32,
    began: Instant,
    ticks: u64,
}

impl Usage {
    /// Begins to measure.
    pub fn begin(pid: u32) -> Self {
        Self { pid, began: Instant::now(), ticks: ticks(pid) }
    }

    /// CPU since then, in seconds of one core.
    pub fn cpu_seconds(&self) -> f64 {
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap() as f64;
        ticks(self.pid).saturating_sub(self.ticks) as f64 / per_second
    }

    /// CPU since then: 100 = one core.
    pub fn cpu_percent(&self) -> f64 {
        self.cpu_seconds() / self.began.elapsed().as_secs_f64() * 100.0
    }

    /// Memory now, shared pages divided among those who share them.
    pub fn memory_mib(&self) -> f64 {
        family(self.pid).into_iter().map(proportional_kib).sum::<u64>() as f64 / 1024.0
    }
}

/// Resident memory of one process alone.
pub fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kib(&status, "VmRSS:") as f64 / 1024.0
}

/// A process, and those that it started and that live.
fn family(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()).flat_map(family));
    }
    pids
}

/// User and system time of a family, in clock ticks, with that of its members that have ended.
fn ticks(pid: u32) -> u64 {
    let of_one = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name may hold blanks; the fields behind its bracket do not.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        fields.get(11..15).map_or(0, |times| times.iter().sum())
    };
    family(pid).into_iter().map(of_one).sum()
}

fn proportional_kib(pid: u32) -> u64 {
    kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), "Pss:")
}

fn kib(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Waits while something is measured; a sleep is the measurement here.
pub async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}
