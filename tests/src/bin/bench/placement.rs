//! Placement: how long it takes to choose a host among many and to reserve room there, beside the write that makes it
//! last.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use pinacle_bus::{
    client::{Bucket, Bus},
    contract::{
        HostId, PodId, Subject, Timestamp,
        host::HostRecord,
        inventory::SshEndpoint,
        ledger::{HostLedger, PORTS, Reservation},
        pod::{Desired, PodPhase, PodRecord, PodSpec, RestartPolicy, Tier},
        topology::{HOSTS, LEDGER},
    },
    settings::load,
};
use pinacle_orchestrator::{
    ledger::Ledgers,
    placement::{Demand, Rules, reserve},
    settings::OrchestratorSettings,
    view::View,
};
use pinacle_tests::{Nats, eventually};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    fleet,
    report::{Report, quantile, rounds},
    usage::pass,
};

const FLEETS: [usize; 3] = [100, 1_000, 10_000];
/// On each host before.
const PODS: u8 = 10;
const DECISIONS: usize = 1_000;
const CORES: u32 = 32;
const LONG: Duration = Duration::from_secs(120);

struct Row {
    hosts: usize,
    /// Microseconds of each decision, and of each write of a ledger.
    decisions: Vec<f64>,
    writes: Vec<f64>,
    /// Decided and written, as many at once as an orchestrator has operations.
    lasting_per_second: f64,
}

pub async fn run() -> Report {
    let settings: OrchestratorSettings = load(None, []).unwrap();
    let at_once = settings.orchestrator.operations_at_once;
    let rules = Rules::from(&settings.orchestrator);
    let mut rows = Vec::new();
    for hosts in FLEETS {
        let mut row = measure(hosts, &rules, at_once).await;
        println!(
            "{hosts} hosts: {:.0} µs a decision, {:.0} µs its write",
            quantile(&mut row.decisions, 0.5),
            quantile(&mut row.writes, 0.5)
        );
        rows.push(row);
    }
    report(rows, at_once)
}

async fn measure(hosts: usize, rules: &Rules, at_once: usize) -> Row {
    let nats = Nats::start().await;
    let bus = nats.bus_with_topology().await;
    fill(&bus, hosts).await;
    let view = View::default();
    let mut following = JoinSet::new();
    following.spawn(view.clone().follow(bus.clone(), CancellationToken::new()));
    eventually(LONG, "the view to know all", async || match (view.is_complete(), view.ledgers().len()) {
        (true, known) if known == hosts => Ok(()),
        other => Err(other),
    })
    .await;
    tell_loads(&bus, &view).await;

    let ledgers: Bucket<HostLedger> = bus.bucket(&LEDGER).await.unwrap();
    let count = rounds(DECISIONS);
    let (mut decisions, mut writes) = (Vec::new(), Vec::new());
    for pod in pods(count) {
        let began = Instant::now();
        let (revision, ledger) = decide(&view, &pod, rules);
        decisions.push(began.elapsed().as_secs_f64() * 1e6);
        let began = Instant::now();
        ledgers.update(&ledger.host_id.to_string(), &ledger, revision).await.unwrap();
        writes.push(began.elapsed().as_secs_f64() * 1e6);
        // The next one is to know of this one.
        ledger_is_known(&view, &ledger).await;
    }
    let placing = Ledgers::open(&bus, view).await.unwrap();
    let began = Instant::now();
    let placed = stream::iter(pods(count)).map(|pod| {
        let placing = &placing;
        async move { placing.place(&demand(&pod), rules).await.unwrap() }
    });
    placed.buffer_unordered(at_once).for_each(|_| std::future::ready(())).await;
    let lasting_per_second = count as f64 / began.elapsed().as_secs_f64();
    Row { hosts, decisions, writes, lasting_per_second }
}

/// What [`Ledgers::place`] does before it writes.
fn decide(view: &View, pod: &PodRecord, rules: &Rules) -> (u64, HostLedger) {
    let demand = demand(pod);
    assert_eq!(view.reserved_on(pod.pod_id), None);
    let host = view.choose(&demand, rules, &BTreeSet::new()).unwrap();
    let (record, on_host) = (view.host(host).unwrap(), view.on_host(host));
    let entry = view.ledger(host).unwrap().entry.clone();
    let mut ledger = entry.record;
    reserve(&mut ledger, &demand, &record, on_host.as_deref(), rules, Timestamp::now()).unwrap();
    (entry.revision, ledger)
}

async fn ledger_is_known(view: &View, ledger: &HostLedger) {
    let mut changes = view.room_changes();
    while view.ledger(ledger.host_id).is_none_or(|booked| booked.entry.record != *ledger) {
        changes.changed().await.unwrap();
    }
}

fn demand(pod: &PodRecord) -> Demand<'_> {
    Demand { pod, tier: tier() }
}

fn tier() -> &'static Tier {
    Tier::find("dev.small").unwrap()
}

/// Writes the records and ledgers of so many hosts, each with some pods.
async fn fill(bus: &Bus, hosts: usize) {
    let (records, ledgers): (Bucket<HostRecord>, Bucket<HostLedger>) =
        (bus.bucket(&HOSTS).await.unwrap(), bus.bucket(&LEDGER).await.unwrap());
    stream::iter(0..hosts)
        .for_each_concurrent(256, async |number| {
            let record = host(number);
            let key = record.host_id.to_string();
            ledgers.create(&key, &ledger(record.host_id)).await.unwrap();
            records.create(&key, &record).await.unwrap();
        })
        .await;
}

fn host(number: usize) -> HostRecord {
    let mut record = fleet::record(HostId::new(), number);
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned();
    record.pinned_host_keys = vec![key.clone()];
    let facts = &mut record.facts;
    (facts.cpu_count, facts.memory_total_bytes, facts.disk_total_bytes) = (CORES, 1 << 38, 1 << 43);
    (facts.docker_version, facts.runtimes) = (Some("20.10.24".into()), vec!["runc".into(), "runsc".into()]);
    let ssh = SshEndpoint { address: Some("10.0.0.1".into()), port: 22, user: None, host_keys: vec![key] };
    facts.ssh = Some(ssh);
    record
}

fn ledger(host_id: HostId) -> HostLedger {
    let reservation = |place: u8| Reservation {
        cpu_millis: tier().cpu_millis,
        memory_bytes: tier().memory_bytes,
        disk_bytes: tier().disk_bytes,
        external_port: PORTS.start() + u16::from(place),
        subnet: place + 1,
        reserved_at: Timestamp::now(),
    };
    HostLedger { host_id, reservations: (0..PODS).map(|place| (PodId::new(), reservation(place))).collect() }
}

/// A sample of each host, as its agent sends them: how busy it is.
async fn tell_loads(bus: &Bus, view: &View) {
    let template = fleet::template();
    for host in view.hosts() {
        let own = fleet::Host { id: host.host_id, pods: Vec::new() };
        let sample = fleet::sample(&template, &own, 1, Timestamp::now());
        bus.publish_unacked(&Subject::Metrics(host.host_id), &sample).await.unwrap();
    }
    // The last of them is on its way.
    pass(Duration::from_secs(1)).await;
}

fn pods(count: usize) -> impl Iterator<Item = PodRecord> {
    let spec = PodSpec {
        tier: tier().name.into(),
        image: "pinacle/base:1".into(),
        runtime: "runsc".into(),
        environment: BTreeMap::new(),
        host_labels: BTreeMap::new(),
        only_host: None,
        restart: RestartPolicy::Always,
    };
    (0..count).map(move |number| PodRecord {
        pod_id: PodId::new(),
        name: format!("bench-{number}"),
        owner: "bench".into(),
        spec: spec.clone(),
        desired: Desired::Running,
        phase: PodPhase::Placing,
        cause: None,
        phase_since: Timestamp::now(),
        created_at: Timestamp::now(),
        host_id: None,
        external_port: None,
        subnet: None,
        residue: false,
        restarts: 0,
        restarted_at: None,
        restart_at: None,
        operation: None,
        cancelled_by: None,
        queue: Vec::new(),
        ended_operations: Vec::new(),
        fence: 1,
        secrets: None,
    })
}

fn report(rows: Vec<Row>, at_once: usize) -> Report {
    let mut report = Report::new(
        "Placement decisions",
        &format!(
            "N hosts with {PODS} pods each, all of which would take one more; what an orchestrator knows of them is read from the bus, as it \
             does. A decision looks whether the pod has room already, judges every host, takes the best, and reserves capacity, a port \
             and a network in a copy of its ledger; {} of them, one after the other, on one core. The reference is the \
             compare-and-set that makes each decision last, in the same run. The last column is both together, {at_once} pods at \
             once, as many as an orchestrator has under way: they compete for the best host.",
            rows.first().map_or(0, |row| row.decisions.len())
        ),
    );
    let rows = rows.into_iter().map(|mut row| {
        let middle = quantile(&mut row.decisions, 0.5);
        let write = quantile(&mut row.writes, 0.5);
        let mean = row.decisions.iter().sum::<f64>() / row.decisions.len() as f64;
        vec![
            row.hosts.to_string(),
            format!("{:.0}", 1e6 / mean),
            format!("{middle:.0} µs"),
            format!("{:.0} µs", quantile(&mut row.decisions, 0.95)),
            format!("{:.3} µs", middle / row.hosts as f64),
            format!("{write:.0} µs"),
            format!("{:.2}", middle / write),
            format!("{:.0}", row.lasting_per_second),
        ]
    });
    report.table(
        &["hosts", "decisions/s", "p50", "p95", "a host", "its write, p50", "ratio", "decided and written/s"],
        &rows.collect::<Vec<_>>(),
    );
    report
}
