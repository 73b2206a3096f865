//! Hosts that exist on the bus alone, and samples of theirs.

use std::{collections::BTreeMap, time::Duration};

use pinacle_bus::{
    client::Bus,
    contract::{
        HostId, PodId, Timestamp,
        host::{Evidence, HostFacts, HostRecord, HostState, StateCause},
        metrics::Metrics,
        topology::HOSTS,
    },
};

/// A host and its pods.
pub struct Host {
    pub id: HostId,
    pub pods: Vec<PodId>,
}

/// Writes the records of `hosts` new hosts, as the orchestrator does when it admits them.
pub async fn admit(bus: &Bus, hosts: usize, pods: usize) -> Vec<Host> {
    let bucket = bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
    let mut fleet = Vec::with_capacity(hosts);
    for number in 0..hosts {
        let host = Host { id: HostId::new(), pods: (0..pods).map(|_| PodId::new()).collect() };
        bucket.create(&host.id.to_string(), &record(host.id, number)).await.unwrap();
        fleet.push(host);
    }
    fleet
}

/// The record of a host that was just admitted.
pub fn record(host_id: HostId, number: usize) -> HostRecord {
    let now = Timestamp::now();
    HostRecord {
        host_id,
        name: format!("bench-{number}"),
        state: HostState::Online,
        cause: StateCause::Heartbeat,
        state_since: now,
        evidence: Evidence::default(),
        admitted_at: now,
        cordoned: false,
        owner: None,
        notes: String::new(),
        maintenance: Vec::new(),
        disabled: false,
        allowed_owners: [].into(),
        pinned_host_keys: Vec::new(),
        labels: BTreeMap::new(),
        facts: HostFacts {
            agent_version: "0.1.0".into(),
            boot_id: "bench".into(),
            os: "Debian".into(),
            kernel: "6".into(),
            architecture: "x86_64".into(),
            cpu_model: "bench".into(),
            cpu_count: 2,
            memory_total_bytes: 1 << 34,
            disk_total_bytes: 1 << 38,
            docker_version: None,
            runtimes: Vec::new(),
            addresses: Vec::new(),
            ssh: None,
            lima_name: None,
        },
    }
}

/// Sample number `number` of a host, its figures like real ones in size and in how they differ.
pub fn sample(template: &Metrics, host: &Host, number: u64, at: Timestamp) -> Metrics {
    let mut metrics = Metrics { host_id: host.id, sampled_at: at, ..template.clone() };
    let pod = template.pods.first().unwrap();
    metrics.pods = host
        .pods
        .iter()
        .zip(1_u64..)
        .map(|(id, place)| {
            let mut pod = pod.clone();
            pod.pod_id = *id;
            pod.cpu_percent = ((number * 37 + place * 11) % 10_000) as f64 / 100.0;
            pod.memory_bytes = 50_000_000 + (number * 7919 + place * 104_729) % 900_000_000;
            pod.disk_bytes = Some(1_000_000_000 + place * 4096);
            pod.network_rx_bytes = number * 123_456 + place;
            pod.network_tx_bytes = number * 65_432 + place;
            pod.block_read_bytes = number * 4096;
            pod.block_write_bytes = number * 8192;
            pod
        })
        .collect();
    metrics
}

/// The sample that all others are made from.
pub fn template() -> Metrics {
    serde_json::from_str(include_str!("../../../../bus/golden/v1/metrics.json")).unwrap()
}

/// Time of the sample that is `back` intervals of 5 s older than `now`.
pub fn intervals_before(now: Timestamp, back: u64) -> Timestamp {
    now.minus(Duration::from_secs(5 * back))
}
