//! Ingest from JetStream to committed rows, against a bare `COPY` of the same rows into the same tables.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use pinacle_bus::{
    client::Bus,
    contract::{Subject, Timestamp, encode, topology::INGEST_METRICS},
};
use pinacle_tests::{Launch, Nats, Postgres, User};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use crate::{
    fleet::{self, Host},
    report::{Report, median},
    usage::{Usage, pass},
};

const HOSTS: usize = 400;
const PODS: usize = 50;
const SAMPLES: u64 = 40;
const ROUNDS: usize = 3;
const TABLES: [&str; 2] = ["host_metrics", "pod_metrics"];

pub async fn run() -> Report {
    let mut nats = Nats::start().await;
    let mut postgres = Postgres::durable().await;
    let database = postgres.database().await;
    let bus = nats.bus_with_topology().await;
    let fleet = fleet::admit(&bus, HOSTS, PODS).await;
    let messages = SAMPLES * HOSTS as u64;
    let bytes = fill(&bus, &fleet).await;
    let rows = messages * (PODS as u64 + 1);
    println!("{messages} messages of {} KB wait in JetStream: {rows} rows", bytes / messages / 1000);

    let mut connection = PgConnection::connect(&database).await.unwrap();
    let (mut ratios, mut ours, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let servers = [nats.process().pid(), postgres.process().pid()];
    let mut table = Vec::new();
    for round in 1..=ROUNDS {
        empty(&mut connection).await;
        let (ingest, cpu) = ingest(&nats, &database, messages, servers).await;
        let copied = take(&mut connection).await;
        assert_eq!(count(&mut connection).await, rows, "every sample must be there once");
        empty(&mut connection).await;
        let postgres_alone = Usage::begin(servers[1]);
        let copy = copy(&mut connection, &copied).await;
        let copy_cpu = postgres_alone.cpu_seconds();
        let per_second = |time: Duration| rows as f64 / time.as_secs_f64();
        println!("round {round}: ingest {:.0} rows/s, bare COPY {:.0} rows/s", per_second(ingest), per_second(copy));
        ratios.push(per_second(ingest) / per_second(copy));
        ours.push(per_second(ingest));
        bare.push(per_second(copy));
        table.push(vec![
            round.to_string(),
            format!("{:.0}", per_second(ingest)),
            format!("{:.0}", per_second(copy)),
            format!("{:.2}", per_second(ingest) / per_second(copy)),
            cpu.map(|seconds| format!("{seconds:.2}")).join(", "),
            format!("{copy_cpu:.2}"),
        ]);
    }
    table.push(vec![
        "median".into(),
        format!("{:.0}", median(&mut ours)),
        format!("{:.0}", median(&mut bare)),
        format!("{:.2}", median(&mut ratios)),
        String::new(),
        String::new(),
    ]);
    let mut report = Report::new(
        "Ingest, from JetStream to committed rows",
        &format!(
            "{messages} messages of {HOSTS} hosts with {PODS} pods wait in METRICS; the clock runs from ingest's first message to the \
             last acknowledgement, which follows the commit. The reference copies the very rows that came out, in binary, in one \
             transaction over one connection, into the same emptied tables (partitions, primary keys). NATS, ingest and Postgres \
             share the machine's cores; the bare `COPY` has them for itself. Ingest writes over two connections, as it does by default; the bare `COPY` over one."
        ),
    );
    report.table(
        &[
            "round",
            "ingest, rows/s",
            "bare COPY, rows/s",
            "ratio",
            "CPU seconds of NATS, Postgres, ingest",
            "of Postgres in the bare COPY",
        ],
        &table,
    );
    report.goal("ratio", median(&mut ratios), 0.8, true);
    report
}

/// Publishes every sample; returns their bytes.
async fn fill(bus: &Bus, fleet: &[Host]) -> u64 {
    let (template, now) = (fleet::template(), Timestamp::now());
    let jobs = (0..SAMPLES).flat_map(|number| fleet.iter().map(move |host| (number, host)));
    stream::iter(jobs)
        .map(|(number, host)| {
            let metrics = fleet::sample(&template, host, number, fleet::intervals_before(now, SAMPLES - number));
            let payload = encode(&metrics).unwrap();
            let bytes = payload.len() as u64;
            async move {
                let subject = Subject::Metrics(host.id).to_string();
                bus.publish_bytes(&subject, &metrics.message_id(), payload.into()).await.unwrap();
                bytes
            }
        })
        .buffer_unordered(256)
        .fold(0, |sum, bytes| std::future::ready(sum + bytes))
        .await
}

/// Lets ingest write all that waits; returns the time from its first message to the last acknowledgement, and the CPU
/// seconds of NATS, Postgres and ingest.
async fn ingest(nats: &Nats, database: &str, messages: u64, servers: [u32; 2]) -> (Duration, [f64; 3]) {
    let jetstream = nats.jetstream().await;
    // Anew in each round, so that it begins at the beginning; the first round may find none.
    let _ = jetstream.delete_consumer_from_stream(INGEST_METRICS.name, INGEST_METRICS.stream.as_str()).await;
    let mut ingest = Launch::service("pinacle-ingest")
        .envs(nats.env(User::INGEST))
        .env("PINACLE__DATABASE__URL", database)
        .with_admin_port()
        .spawn();
    let mut began = None;
    let usage = [servers[0], servers[1], ingest.pid()].map(Usage::begin);
    let time = loop {
        let consumer: Result<async_nats::jetstream::consumer::PullConsumer, _> =
            jetstream.get_consumer_from_stream(INGEST_METRICS.name, INGEST_METRICS.stream.as_str()).await;
        if let Ok(mut consumer) = consumer {
            let info = consumer.info().await.unwrap();
            if began.is_none() && info.delivered.stream_sequence > 0 {
                began = Some(Instant::now());
            }
            if let Some(began) = began
                && info.num_pending == 0
                && info.num_ack_pending == 0
                && info.delivered.consumer_sequence >= messages
            {
                break began.elapsed();
            }
        }
        pass(Duration::from_millis(5)).await;
    };
    let cpu = usage.each_ref().map(Usage::cpu_seconds);
    ingest.sigterm(Duration::from_secs(30)).await;
    (time, cpu)
}

async fn empty(connection: &mut PgConnection) {
    sqlx::raw_sql("TRUNCATE host_metrics, pod_metrics, rollup_pending").execute(&mut *connection).await.unwrap();
    sqlx::raw_sql("CHECKPOINT").execute(connection).await.unwrap();
}

async fn count(connection: &mut PgConnection) -> u64 {
    let sql = "SELECT (SELECT count(*) FROM host_metrics) + (SELECT count(*) FROM pod_metrics)";
    let rows: i64 = sqlx::query_scalar(sql).fetch_one(connection).await.unwrap();
    rows.try_into().unwrap()
}

/// The rows of each table in `COPY`'s binary form.
async fn take(connection: &mut PgConnection) -> Vec<Vec<u8>> {
    let mut copied = Vec::new();
    for table in TABLES {
        let sql = format!("COPY (SELECT * FROM {table}) TO STDOUT (FORMAT binary)");
        let mut rows = connection.copy_out_raw(&sql).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = rows.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        copied.push(bytes);
    }
    copied
}

/// Copies the rows back; returns the time until they are committed.
async fn copy(connection: &mut PgConnection, copied: &[Vec<u8>]) -> Duration {
    let began = Instant::now();
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
    for (table, bytes) in TABLES.iter().zip(copied) {
        let mut writer = connection.copy_in_raw(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await.unwrap();
        for chunk in bytes.chunks(1 << 20) {
            writer.send(chunk).await.unwrap();
        }
        writer.finish().await.unwrap();
    }
    sqlx::raw_sql("COMMIT").execute(connection).await.unwrap();
    began.elapsed()
}
