//! One simulated host: the same each time for a seed, with figures that wander as real ones do.

use std::time::Duration;

use pinacle_bus::contract::{
    HostId, PodId, Timestamp,
    host::{DockerState, Heartbeat, HostFacts},
    inventory::{ContainerEntry, Inventory, NetworkEntry, PortEntry, SshEndpoint},
    metrics::{DiskSample, HostSample, Metrics, NetworkSample, PodSample, PressureSample},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

/// When the simulated fleet was made; ids carry it.
const MADE_AT_MS: i64 = 1_767_225_600_000;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const CORES: usize = 8;
const VERSION: &str = env!("CARGO_PKG_VERSION");
const DOCKER: &str = "27.3.1";

/// A simulated host.
pub(super) struct Host {
    pub id: HostId,
    name: String,
    boot_id: String,
    booted_ms: i64,
    last_sample_ms: i64,
    metrics: Metrics,
}

/// What its heartbeats say.
pub(super) struct Pulse {
    id: HostId,
    boot_id: String,
    booted_ms: i64,
    sequence: u64,
}

/// Who host number `number` is, and since when it is up: since some time in the four weeks after the fleet was made, the
/// same in each run, so that a restarted fleet's uptimes go on.
fn identity(seed: u64, number: u32) -> (HostId, String, i64, StdRng) {
    let digest = digest(seed, "host", number, 0);
    let mut random = StdRng::from_seed(digest);
    let id = HostId::derived(made_at(), id_part(digest));
    let booted_ms = MADE_AT_MS + random.random_range(0..28 * 24 * 3_600_000);
    (id, format!("{id}-boot").replace('_', "-"), booted_ms, random)
}

impl Pulse {
    /// Host number `number` of the fleet `seed`.
    pub fn new(seed: u64, number: u32) -> Self {
        let (id, boot_id, booted_ms, _) = identity(seed, number);
        Self { id, boot_id, booted_ms, sequence: 0 }
    }

    /// The next heartbeat.
    pub fn heartbeat(&mut self, stopping: bool) -> Heartbeat {
        self.sequence += 1;
        let now = Timestamp::now();
        let up = now.as_millis().saturating_sub(self.booted_ms).max(0);
        // Slow waves, so that neighbours differ.
        let wave = |period: f64| {
            let phase = (self.sequence as f64 + (self.booted_ms % 1000) as f64) / period;
            ((1.5 + phase.sin()) * 100.0).round() / 100.0
        };
        Heartbeat {
            host_id: self.id,
            sent_at: now,
            sequence: self.sequence,
            agent_version: VERSION.into(),
            boot_id: self.boot_id.clone(),
            uptime_seconds: u64::try_from(up).unwrap_or(0) / 1000,
            load_1: wave(12.0),
            load_5: wave(60.0),
            load_15: wave(180.0),
            docker: DockerState::Up { version: DOCKER.into() },
            stopping,
        }
    }
}

fn digest(seed: u64, what: &str, host: u32, pod: u32) -> [u8; 32] {
    Sha256::digest(format!("pinacle sim {seed} {what} {host} {pod}")).into()
}

fn id_part(digest: [u8; 32]) -> [u8; 15] {
    let mut part = [0; 15];
    for (to, from) in part.iter_mut().zip(digest) {
        *to = from;
    }
    part
}

fn made_at() -> Timestamp {
    Timestamp::from_millis(MADE_AT_MS).unwrap_or_else(Timestamp::now)
}

/// A value that moves by up to `step`, and stays between two others.
fn wander(random: &mut StdRng, value: f64, step: f64, least: f64, most: f64) -> f64 {
    (value + random.random_range(-step..=step)).clamp(least, most)
}

fn part_of(whole: u64, share: f64) -> u64 {
    (whole as f64 * share) as u64
}

impl Host {
    /// Host number `number` of the fleet `seed`.
    pub fn new(seed: u64, number: u32, pods: u32, interval: Duration) -> Self {
        let (id, boot_id, booted_ms, mut random) = identity(seed, number);
        let name = if seed == 1 { format!("sim-{number:05}") } else { format!("sim-{seed}-{number:05}") };
        let pods = (0..pods).map(|pod| new_pod(seed, number, pod, &mut random)).collect();
        Self {
            id,
            name,
            boot_id,
            booted_ms,
            last_sample_ms: 0,
            metrics: Metrics {
                host_id: id,
                sampled_at: made_at(),
                interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
                late: false,
                host: new_sample(&mut random),
                pods,
            },
        }
    }

    /// The next sample. Its time is later than that of the one before.
    pub fn sample(&mut self, random: &mut StdRng) -> &mut Metrics {
        let seconds = self.metrics.interval_ms as f64 / 1000.0;
        let now_ms = Timestamp::now().as_millis().max(self.last_sample_ms + 1);
        self.last_sample_ms = now_ms;
        self.metrics.sampled_at = Timestamp::from_millis(now_ms).unwrap_or_else(Timestamp::now);
        self.metrics.late = false;
        let pods_cpu: f64 = self.metrics.pods.iter().map(|pod| pod.cpu_percent).sum();
        move_host(&mut self.metrics.host, pods_cpu, seconds, random);
        for pod in &mut self.metrics.pods {
            move_pod(pod, seconds, random);
        }
        &mut self.metrics
    }

    /// The newest sample.
    pub fn newest(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// What is on it.
    pub fn inventory(&self) -> Inventory {
        let host = &self.metrics.host;
        let started = Timestamp::from_millis(self.booted_ms);
        Inventory {
            host_id: self.id,
            taken_at: Timestamp::now(),
            hostname: self.name.clone(),
            facts: HostFacts {
                agent_version: VERSION.into(),
                boot_id: self.boot_id.clone(),
                os: "Debian GNU/Linux 12 (bookworm)".into(),
                kernel: "6.1.0-28-amd64".into(),
                architecture: "x86_64".into(),
                cpu_model: "Simulated CPU @ 2.40GHz".into(),
                cpu_count: CORES as u32,
                memory_total_bytes: host.memory_total_bytes,
                disk_total_bytes: host.disks.iter().map(|disk| disk.total_bytes).sum(),
                docker_version: Some(DOCKER.into()),
                runtimes: vec!["runc".into(), "runsc".into()],
                addresses: vec!["192.0.2.1".into()],
                ssh: Some(SshEndpoint { address: None, port: 22, user: None, host_keys: Vec::new() }),
                lima_name: None,
            },
            containers: self.metrics.pods.iter().map(|pod| container(pod.pod_id, started)).collect(),
            images: Vec::new(),
            networks: self.metrics.pods.iter().map(|pod| network(pod.pod_id)).collect(),
            ports: vec![PortEntry { protocol: "tcp".into(), address: "0.0.0.0".into(), port: 22 }],
            truncated: false,
        }
    }
}

fn container(pod: PodId, started: Option<Timestamp>) -> ContainerEntry {
    let id: [u8; 32] = Sha256::digest(pod.to_string()).into();
    ContainerEntry {
        container_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        name: format!("pinacle-pod-{pod}"),
        image: "pinacle/base:1".into(),
        state: "running".into(),
        runtime: Some("runsc".into()),
        pod_id: Some(pod),
        owner: Some("sim".into()),
        operation_id: None,
        started_at: started,
        exit_code: None,
        oom_killed: false,
    }
}

fn network(pod: PodId) -> NetworkEntry {
    NetworkEntry {
        network_id: format!("net-{pod}"),
        name: format!("pinacle-net-{pod}"),
        driver: "bridge".into(),
        subnets: vec!["10.249.7.0/24".into()],
        pod_id: Some(pod),
    }
}

fn new_pod(seed: u64, host: u32, pod: u32, random: &mut StdRng) -> PodSample {
    let limit = (512 << random.random_range(0..4)) * MIB;
    PodSample {
        pod_id: PodId::derived(made_at(), id_part(digest(seed, "pod", host, pod))),
        cpu_percent: random.random_range(0.1..20.0),
        memory_bytes: part_of(limit, random.random_range(0.1..0.6)),
        memory_limit_bytes: Some(limit),
        disk_bytes: Some(random.random_range(50..2000) * MIB),
        network_rx_bytes: random.random_range(0..10 * GIB),
        network_tx_bytes: random.random_range(0..10 * GIB),
        block_read_bytes: random.random_range(0..GIB),
        block_write_bytes: random.random_range(0..GIB),
        pids: random.random_range(3..60),
        throttled_ms: 0,
        oom_kills: 0,
    }
}

fn move_pod(pod: &mut PodSample, seconds: f64, random: &mut StdRng) {
    pod.cpu_percent = wander(random, pod.cpu_percent, 2.0, 0.05, 100.0);
    let limit = pod.memory_limit_bytes.unwrap_or(GIB);
    let step = limit / 100;
    pod.memory_bytes =
        (pod.memory_bytes + random.random_range(0..=2 * step)).saturating_sub(step).clamp(8 * MIB, limit);
    // Work brings traffic; one random number serves for all of it.
    let traffic = part_of(random.random_range(0..200_000), pod.cpu_percent / 10.0 * seconds);
    pod.network_rx_bytes += traffic;
    pod.network_tx_bytes += traffic / 3;
    pod.block_write_bytes += traffic / 10;
    if pod.cpu_percent > 90.0 {
        pod.throttled_ms += part_of(50, seconds);
    }
    pod.pids = (pod.pids + random.random_range(0..=2)).saturating_sub(1).clamp(2, 400);
}

fn new_sample(random: &mut StdRng) -> HostSample {
    let disk = |device: &str, mount: &str, total: u64, used: f64| DiskSample {
        device: device.into(),
        mount: mount.into(),
        file_system: "ext4".into(),
        total_bytes: total,
        used_bytes: part_of(total, used),
        inodes_total: total / 16384,
        inodes_used: part_of(total / 16384, used / 3.0),
    };
    let memory = 64 * GIB;
    HostSample {
        cpu_percent: 100.0,
        cpu_cores_percent: vec![12.0; CORES],
        load_1: 1.0,
        load_5: 1.0,
        load_15: 1.0,
        memory_total_bytes: memory,
        memory_used_bytes: part_of(memory, random.random_range(0.2..0.6)),
        memory_available_bytes: 0,
        memory_cached_bytes: part_of(memory, 0.2),
        swap_total_bytes: 0,
        swap_used_bytes: 0,
        disk_read_bytes: random.random_range(0..100 * GIB),
        disk_write_bytes: random.random_range(0..100 * GIB),
        disk_read_bytes_per_second: 0.0,
        disk_write_bytes_per_second: 0.0,
        network_rx_bytes: random.random_range(0..100 * GIB),
        network_tx_bytes: random.random_range(0..100 * GIB),
        network_rx_bytes_per_second: 0.0,
        network_tx_bytes_per_second: 0.0,
        disks: vec![
            disk("/dev/nvme0n1p1", "/", 100 * GIB, random.random_range(0.1..0.5)),
            disk("/dev/nvme1n1", "/var/lib/docker", 1000 * GIB, random.random_range(0.1..0.5)),
        ],
        networks: vec![NetworkSample {
            name: "eth0".into(),
            rx_bytes: 0,
            tx_bytes: 0,
            rx_bytes_per_second: 0.0,
            tx_bytes_per_second: 0.0,
        }],
        pressure: Some(PressureSample {
            cpu_some_percent: 1.0,
            memory_some_percent: 0.0,
            memory_full_percent: 0.0,
            io_some_percent: 0.5,
            io_full_percent: 0.2,
        }),
        temperatures: Vec::new(),
    }
}

fn move_host(host: &mut HostSample, pods_cpu: f64, seconds: f64, random: &mut StdRng) {
    let mut cpu = 0.0;
    for core in &mut host.cpu_cores_percent {
        let moved = wander(random, f64::from(*core), 5.0, 0.5, 100.0);
        // Two digits, as an agent has them.
        *core = ((moved * 100.0).round() / 100.0) as f32;
        cpu += f64::from(*core);
    }
    host.cpu_percent = (cpu * 100.0).round() / 100.0;
    let load = (cpu.max(pods_cpu) / 100.0).min(4.0 * CORES as f64);
    let decayed = |value: f64, minutes: f64| {
        let kept = (-seconds / (60.0 * minutes)).exp();
        ((value * kept + load * (1.0 - kept)) * 100.0).round() / 100.0
    };
    (host.load_1, host.load_5, host.load_15) =
        (decayed(host.load_1, 1.0), decayed(host.load_5, 5.0), decayed(host.load_15, 15.0));
    let step = host.memory_total_bytes / 200;
    host.memory_used_bytes = (host.memory_used_bytes + random.random_range(0..=2 * step))
        .saturating_sub(step)
        .clamp(GIB, host.memory_total_bytes * 9 / 10);
    host.memory_available_bytes = host.memory_total_bytes - host.memory_used_bytes;
    let rate = |random: &mut StdRng, value: f64| wander(random, value, 100_000.0, 0.0, 100e6).round();
    host.network_rx_bytes_per_second = rate(random, host.network_rx_bytes_per_second);
    host.network_tx_bytes_per_second = rate(random, host.network_tx_bytes_per_second);
    host.disk_read_bytes_per_second = rate(random, host.disk_read_bytes_per_second);
    host.disk_write_bytes_per_second = rate(random, host.disk_write_bytes_per_second);
    let total = |before: u64, rate: f64| before + (rate * seconds) as u64;
    host.network_rx_bytes = total(host.network_rx_bytes, host.network_rx_bytes_per_second);
    host.network_tx_bytes = total(host.network_tx_bytes, host.network_tx_bytes_per_second);
    host.disk_read_bytes = total(host.disk_read_bytes, host.disk_read_bytes_per_second);
    host.disk_write_bytes = total(host.disk_write_bytes, host.disk_write_bytes_per_second);
    if let Some(network) = host.networks.first_mut() {
        network.rx_bytes = host.network_rx_bytes;
        network.tx_bytes = host.network_tx_bytes;
        network.rx_bytes_per_second = host.network_rx_bytes_per_second;
        network.tx_bytes_per_second = host.network_tx_bytes_per_second;
    }
    if let Some(pressure) = &mut host.pressure {
        pressure.cpu_some_percent = wander(random, pressure.cpu_some_percent, 1.0, 0.0, 60.0);
        pressure.io_some_percent = wander(random, pressure.io_some_percent, 0.5, 0.0, 40.0);
        pressure.io_full_percent = pressure.io_some_percent / 2.0;
    }
}

#[cfg(test)]
mod tests {
    use pinacle_bus::contract::{Message, decode, encode};

    use super::*;

    #[test]
    fn the_same_seed_is_the_same_fleet_and_another_is_another() {
        let of = |seed, number| {
            let host = Host::new(seed, number, 3, Duration::from_secs(5));
            (host.id, host.name.clone(), host.boot_id.clone(), host.metrics.pods.clone())
        };
        assert_eq!(of(1, 7), of(1, 7));
        assert_ne!(of(1, 7).0, of(1, 8).0);
        assert_ne!(of(1, 7).0, of(2, 7).0);
        assert_ne!(of(1, 7).3[0].pod_id, of(1, 7).3[1].pod_id);
    }

    #[test]
    fn what_it_says_can_always_be_true() {
        let mut random = StdRng::seed_from_u64(5);
        let mut host = Host::new(5, 1, 50, Duration::from_secs(5));
        let (mut pulse, sampled) = (Pulse::new(5, 1), host.id);
        let inventory = encode(&host.inventory()).unwrap();
        decode::<Inventory>(1, &inventory).unwrap();
        let mut before = Timestamp::from_millis(0).unwrap();
        for sequence in 1..3000 {
            let sample = host.sample(&mut random);
            sample.check().unwrap();
            assert!(sample.sampled_at > before);
            before = sample.sampled_at;
            let heartbeat = pulse.heartbeat(false);
            heartbeat.check().unwrap();
            assert_eq!(heartbeat.host_id, sampled);
            assert_eq!(heartbeat.sequence, sequence);
        }
        let bytes = encode(host.sample(&mut random)).unwrap();
        decode::<Metrics>(1, &bytes).unwrap();
        assert!((10_000..25_000).contains(&bytes.len()), "{}", bytes.len());
    }
}
