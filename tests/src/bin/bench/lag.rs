//! From publication to committed row, for fleets of growing size, and what each part takes of the machine meanwhile.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use pinacle_bus::contract::topology::INGEST_METRICS;
use pinacle_tests::{Launch, Nats, Postgres, Process, User, eventually, stack::ORCHESTRATOR_KEY};

use crate::{
    report::Report,
    usage::{Usage, pass},
};

const FLEETS: [u32; 4] = [1_000, 2_000, 5_000, 10_000];
const PODS: u32 = 50;
/// Samples that came before their host's admission wait for it, at most so long at a time; those are no figure of a
/// fleet that runs. So the measurement begins so long after the last admission.
const WARM_UP: Duration = Duration::from_secs(25);
const MEASURED: Duration = Duration::from_secs(45);

struct Row {
    hosts: u32,
    published_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    backlog: u64,
    cpu: [f64; 3],
    memory: [f64; 3],
    sim_cpu: f64,
}

pub async fn run() -> Report {
    let mut rows = Vec::new();
    for hosts in FLEETS {
        let row = measure(hosts).await;
        println!(
            "{hosts} hosts: {:.0} samples/s, p50 {:.0} ms, p99 {:.0} ms, {} left over",
            row.published_per_second, row.p50_ms, row.p99_ms, row.backlog
        );
        rows.push(row);
    }
    let mut report = Report::new(
        "From publication to committed row",
        &format!(
            "`pinacle sim` publishes samples of N hosts with {PODS} pods every 5 s, beside NATS, Postgres, ingest and the orchestrator \
             on the same machine; {} s after the last host's admission, {} s are measured. The lag runs from JetStream's time of the sample to the end of \
             the commit; p50 and p99 are read from ingest's histogram (bounds 1.5 apart). CPU: 100 % = one core. Memory: shared pages \
             divided among those who share them.",
            WARM_UP.as_secs(),
            MEASURED.as_secs()
        ),
    );
    let cells = rows.iter().map(|row| {
        let part = |place: usize| format!("{:.0} %, {:.0} MiB", row.cpu[place], row.memory[place]);
        vec![
            row.hosts.to_string(),
            format!("{:.0} of {}", row.published_per_second, row.hosts / 5),
            format!("{:.0} ms", row.p50_ms),
            format!("{:.0} ms", row.p99_ms),
            part(0),
            part(1),
            part(2),
            format!("{:.2}", row.cpu.iter().sum::<f64>() * 10.0 / f64::from(row.hosts)),
            format!("{:.0} %", row.sim_cpu),
            row.backlog.to_string(),
        ]
    });
    report.table(
        &[
            "hosts",
            "samples/s of those due",
            "p50",
            "p99",
            "NATS",
            "ingest",
            "Postgres",
            "cores per 1,000 hosts",
            "sim",
            "samples left",
        ],
        &cells.collect::<Vec<_>>(),
    );
    for row in &rows {
        report.note(&format!("{} hosts: {}.", row.hosts, verdict(row)));
    }
    if let Some(first) = rows.first() {
        report.goal("p99 at 1,000 hosts, ms", first.p99_ms, 250.0, false);
    }
    report
}

/// What gives way, if anything does.
fn verdict(row: &Row) -> &'static str {
    let due = f64::from(row.hosts) / 5.0;
    if row.published_per_second < due * 0.98 {
        "the machine does not bring all samples into JetStream in time"
    } else if row.backlog as f64 > due * 2.0 {
        "ingest and Postgres fall behind: samples pile up in JetStream, where nothing is lost"
    } else {
        "everything keeps up"
    }
}

async fn measure(hosts: u32) -> Row {
    let mut nats = Nats::start().await;
    let mut postgres = Postgres::durable().await;
    let database = postgres.database().await;
    let mut orchestrator = Launch::service("pinacle-orchestrator")
        .env("PINACLE__ORCHESTRATOR__KEY", ORCHESTRATOR_KEY)
        .envs(nats.env(User::ORCHESTRATOR))
        .ready_on_admin_port()
        .start()
        .await;
    let mut ingest = Launch::service("pinacle-ingest")
        .envs(nats.env(User::INGEST))
        .env("PINACLE__DATABASE__URL", &database)
        .ready_on_admin_port()
        .start()
        .await;
    let mut sim = Launch::service("pinacle")
        .args(["sim", "--hosts", &hosts.to_string(), "--pods", &PODS.to_string(), "--interval", "5s"])
        .envs(nats.env(User::SIMULATOR))
        .spawn();
    eventually(Duration::from_secs(300), "the admission of all hosts", async || {
        match nats.jetstream().await.get_stream("KV_hosts").await {
            Ok(stream) if stream.cached_info().state.messages >= u64::from(hosts) => Ok(()),
            other => Err(other.map(|stream| stream.cached_info().state.messages)),
        }
    })
    .await;
    pass(WARM_UP).await;

    let parts = [nats.process().pid(), ingest.pid(), postgres.process().pid()].map(Usage::begin);
    let sim_usage = Usage::begin(sim.pid());
    let before = histogram(&ingest).await;
    let published = published(&nats).await;
    pass(MEASURED).await;
    let after = histogram(&ingest).await;
    let counts: Vec<(f64, f64)> = after
        .iter()
        .zip(before.iter().chain(std::iter::repeat(&(0.0, 0.0))))
        .map(|(new, old)| (new.0, new.1 - old.1))
        .collect();
    let row = Row {
        hosts,
        published_per_second: (self::published(&nats).await - published) as f64 / MEASURED.as_secs_f64(),
        p50_ms: quantile(&counts, 0.5) * 1000.0,
        p99_ms: quantile(&counts, 0.99) * 1000.0,
        backlog: backlog(&nats).await,
        cpu: parts.each_ref().map(Usage::cpu_percent),
        memory: parts.each_ref().map(Usage::memory_mib),
        sim_cpu: sim_usage.cpu_percent(),
    };
    sim.kill9().await;
    ingest.kill9().await;
    orchestrator.kill9().await;
    row
}

async fn published(nats: &Nats) -> u64 {
    nats.jetstream().await.get_stream("METRICS").await.unwrap().cached_info().state.last_sequence
}

async fn backlog(nats: &Nats) -> u64 {
    let consumer: PullConsumer = nats
        .jetstream()
        .await
        .get_consumer_from_stream(INGEST_METRICS.name, INGEST_METRICS.stream.as_str())
        .await
        .unwrap();
    consumer.cached_info().num_pending
}

/// Upper bounds in seconds and how many lags were at most that, cumulated.
async fn histogram(ingest: &Process) -> Vec<(f64, f64)> {
    let (_, text) = ingest.get("/metrics").await.unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("pinacle_ingest_lag_seconds_bucket{")?.split_once("le=\""))
        .filter_map(|(_, rest)| {
            let (bound, count) = rest.split_once("\"}")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.trim().parse().ok()?))
        })
        .collect()
}

/// The quantile of a cumulated histogram, straight between the bounds around it.
fn quantile(counts: &[(f64, f64)], quantile: f64) -> f64 {
    let wanted = counts.last().map_or(0.0, |last| last.1) * quantile;
    let mut below = (0.0, 0.0);
    for bucket in counts {
        if bucket.1 >= wanted {
            let share = if bucket.1 > below.1 { (wanted - below.1) / (bucket.1 - below.1) } else { 1.0 };
            return if bucket.0.is_finite() { below.0 + (bucket.0 - below.0) * share } else { f64::INFINITY };
        }
        below = *bucket;
    }
    f64::NAN
}
