//! The pods' figures: from their control groups and network namespaces, without asking Docker.

use std::{collections::HashMap, path::PathBuf};

use pinacle_bus::contract::{PodId, metrics::PodSample};
use tokio::time::Instant;
use tracing::debug;

use super::{Roots, rounded};
use crate::{
    cgroup::{Group, Usage, Version},
    docker::Pod,
    procfs::{self, Traffic},
    reading::Scratch,
};

/// Up to so many pods keep their files open; beyond, a process's usual 1024 descriptors would not do.
const KEEP_OPEN: usize = 80;
/// What a message holds at most.
const MOST_PODS: usize = 1000;

/// Reads the pods' figures; keeps what rates count from.
#[derive(Debug)]
pub struct PodSampler {
    version: Version,
    cgroup: PathBuf,
    proc: PathBuf,
    known: HashMap<PodId, Known>,
    round: u64,
}

#[derive(Debug)]
struct Known {
    /// A pod that was stopped and started has another process, and its counters begin anew.
    pid: u32,
    group: Group,
    net_dev: PathBuf,
    before: Option<(Instant, u64)>,
    round: u64,
}

impl PodSampler {
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            version: Version::at(&roots.cgroup),
            cgroup: roots.cgroup.clone(),
            proc: roots.proc.clone(),
            known: HashMap::new(),
            round: 0,
        }
    }

    /// One entry for each pod that runs, from the second time on that it is seen: its CPU percentage needs two.
    pub(super) fn take(&mut self, scratch: &mut Scratch, pods: &[Pod]) -> Vec<PodSample> {
        self.round += 1;
        let keep = pods.len() <= KEEP_OPEN;
        let mut samples = Vec::with_capacity(pods.len().min(MOST_PODS));
        for pod in pods.iter().take(MOST_PODS) {
            match self.one(scratch, pod, keep) {
                Ok(Some(sample)) => samples.push(sample),
                Ok(None) => {}
                // It ended a moment ago and Docker's event is on its way, or it is just being made.
                Err(error) => {
                    debug!(pod_id = %pod.pod_id, %error, "no figures of a pod");
                    self.known.remove(&pod.pod_id);
                }
            }
        }
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
        samples
    }

    fn one(&mut self, scratch: &mut Scratch, pod: &Pod, keep: bool) -> std::io::Result<Option<PodSample>> {
        if self.known.get(&pod.pod_id).is_none_or(|known| known.pid != pod.pid) {
            let group = Group::of(self.version, &self.cgroup, &self.proc, pod.pid)?;
            let net_dev = self.proc.join(pod.pid.to_string()).join("net/dev");
            self.known.insert(pod.pod_id, Known { pid: pod.pid, group, net_dev, before: None, round: self.round });
        }
        let Some(known) = self.known.get_mut(&pod.pod_id) else { return Ok(None) };
        known.round = self.round;
        let usage = known.group.read(scratch, keep)?;
        let now = Instant::now();
        let Some((at, before)) = known.before.replace((now, usage.cpu_nanoseconds)) else { return Ok(None) };
        // An open descriptor would keep the network namespace of a dead pod alive, so this file is opened each time.
        let network = scratch.read(&known.net_dev).map(outside).unwrap_or_default();
        let elapsed = now.saturating_duration_since(at).as_nanos() as f64;
        let used = usage.cpu_nanoseconds.saturating_sub(before) as f64;
        let cpu_percent = if elapsed > 0.0 { rounded(used / elapsed * 100.0) } else { 0.0 };
        Ok(Some(sample(pod, &usage, network, cpu_percent)))
    }
}

/// All interfaces of a pod but its loopback. With the host's network these are the host's.
fn outside(text: &str) -> Traffic {
    procfs::interface_traffic(text).filter(|(name, _)| *name != "lo").fold(Traffic::default(), |sum, (_, traffic)| {
        Traffic { input: sum.input.saturating_add(traffic.input), output: sum.output.saturating_add(traffic.output) }
    })
}

fn sample(pod: &Pod, usage: &Usage, network: Traffic, cpu_percent: f64) -> PodSample {
    PodSample {
        pod_id: pod.pod_id,
        cpu_percent,
        memory_bytes: usage.memory_bytes,
        memory_limit_bytes: usage.memory_limit_bytes,
        disk_bytes: pod.disk.get(),
        network_rx_bytes: network.input,
        network_tx_bytes: network.output,
        block_read_bytes: usage.block_read_bytes,
        block_write_bytes: usage.block_write_bytes,
        pids: usage.pids,
        throttled_ms: usage.throttled_ms,
        oom_kills: usage.oom_kills,
    }
}
