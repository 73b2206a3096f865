//! Samples into the tables, when nothing is killed.

use std::time::Duration;

use pinacle_bus::contract::{Timestamp, metrics::Metrics};
use pinacle_tests::{Process, consistently, eventually};
use serde_json::Value;

use super::stage::{LONG, Stage, Tables, times};

/// Postgres writes 2.0 as 2.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn every_field_of_a_sample_is_in_its_row() {
    let stage = Stage::start().await;
    let ingest = stage.ingest("ingest").await;
    let host = stage.admitted(2).await;
    let sample = Metrics { late: true, ..host.sample(Timestamp::now()) };
    stage.publish(&sample).await;
    let mut wanted = Tables::default();
    wanted.expect(&sample);
    stage.settles_at(&wanted).await;

    let row: Value =
        sqlx::query_scalar("SELECT to_jsonb(host_metrics) FROM host_metrics").fetch_one(&stage.pool).await.unwrap();
    let mut figures = serde_json::to_value(&sample.host).unwrap();
    let pressure = figures.as_object_mut().unwrap().remove("pressure").unwrap();
    for (field, value) in figures.as_object().unwrap() {
        assert_eq!(plain(&row[field]), plain(value), "{field}");
    }
    for (field, value) in pressure.as_object().unwrap() {
        assert_eq!(plain(&row[format!("pressure_{field}")]), plain(value), "{field}");
    }
    assert_eq!((&row["late"], &row["interval_ms"]), (&true.into(), &sample.interval_ms.into()));
    assert_eq!(row["stream_sequence"], 1);

    let pod = serde_json::to_value(&sample.pods[1]).unwrap();
    let row: Value = sqlx::query_scalar("SELECT to_jsonb(pod_metrics) FROM pod_metrics WHERE pod_id = $1")
        .bind(sample.pods[1].pod_id.to_string())
        .fetch_one(&stage.pool)
        .await
        .unwrap();
    for (field, value) in pod.as_object().unwrap() {
        assert_eq!(plain(&row[field]), plain(value), "{field}");
    }
    assert_eq!(row["host_id"], host.id.to_string());
    assert_eq!(ingest.metric("pinacle_ingest_lag_seconds_count", &[]).await, Some(1.0));
}

#[tokio::test]
async fn duplicates_late_resends_and_disorder_change_nothing() {
    let stage = Stage::start().await;
    let ingest = stage.ingest("ingest").await;
    let host = stage.admitted(3).await;
    let mut wanted = Tables::default();
    let mut samples: Vec<Metrics> = times(60, 1000).into_iter().map(|at| host.sample(at)).collect();
    samples.iter().for_each(|sample| wanted.expect(sample));
    // Newest first, and each one twice under its own id: the stream drops the second.
    samples.reverse();
    for sample in &samples {
        stage.publish(sample).await;
        stage.publish(sample).await;
    }
    stage.settles_at(&wanted).await;
    assert_eq!(ingest.metric("pinacle_ingest_duplicates_total", &[]).await, Some(0.0));
    // Again under other ids, as after the stream forgot them, some together with what is new.
    let newer = host.sample(Timestamp::now());
    wanted.expect(&newer);
    for (number, sample) in samples.iter().step_by(2).chain([&newer]).chain(samples.iter().skip(30)).enumerate() {
        stage.publish_as(sample, &format!("again {number}")).await;
    }
    stage.settles_at(&wanted).await;
    let rows_a_sample = 4.0;
    assert_eq!(ingest.metric("pinacle_ingest_duplicates_total", &[]).await, Some(60.0 * rows_a_sample));
    assert_eq!(ingest.metric("pinacle_ingest_rows_total", &["host_metrics"]).await, Some(61.0));
}

#[tokio::test]
async fn two_copies_share_the_work() {
    let stage = Stage::start().await;
    let small =
        |name| stage.launch(name).env("PINACLE__INGEST__BATCH_ROWS", "100").env("PINACLE__INGEST__PREFETCH", "20");
    let copies = [small("ingest-1").start().await, small("ingest-2").start().await];
    let host = stage.admitted(4).await;
    let mut wanted = Tables::default();
    let rows = async || {
        let of =
            async |copy: &Process| copy.metric("pinacle_ingest_rows_total", &["host_metrics"]).await.unwrap_or(0.0);
        [of(&copies[0]).await, of(&copies[1]).await]
    };
    let mut samples = times(20_000, 100).into_iter().map(|at| host.sample(at));
    let mut published = 0;
    // One may join later than the other: more comes until both had some.
    while rows().await.contains(&0.0) {
        let some: Vec<Metrics> = samples.by_ref().take(500).collect();
        assert!(!some.is_empty(), "one copy had nothing to do: {:?}", rows().await);
        some.iter().for_each(|sample| wanted.expect(sample));
        published += some.len();
        stage.publish_all(&some).await;
        stage.settles_at(&wanted).await;
    }
    assert_eq!(rows().await.iter().sum::<f64>(), published as f64);
}

#[tokio::test]
async fn sigterm_writes_what_is_in_hand_and_leaves_the_rest_on_the_bus() {
    let stage = Stage::start().await;
    // A batch that would wait for ten seconds: only the stop writes it.
    let mut ingest = stage.launch("ingest").env("PINACLE__INGEST__BATCH_AGE_MS", "10000").start().await;
    let host = stage.admitted(2).await;
    let mut wanted = Tables::default();
    let samples: Vec<Metrics> = times(50, 1000).into_iter().map(|at| host.sample(at)).collect();
    samples.iter().for_each(|sample| wanted.expect(sample));
    stage.publish_all(&samples).await;
    eventually(LONG, "ingest to have them in hand", async || {
        match stage.unfinished("METRICS", "ingest-metrics").await {
            Ok((0, 50)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let status = ingest.sigterm(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}\n{}", ingest.tail());
    // Written and acknowledged by the one that stopped: nobody else runs.
    stage.settles_at(&wanted).await;
}

#[tokio::test]
async fn sigterm_while_postgres_is_away_loses_nothing() {
    let mut stage = Stage::start().await;
    let mut ingest = stage.ingest("ingest").await;
    let host = stage.admitted(2).await;
    stage.postgres.kill9().await;
    let mut wanted = Tables::default();
    let samples: Vec<Metrics> = times(50, 1000).into_iter().map(|at| host.sample(at)).collect();
    samples.iter().for_each(|sample| wanted.expect(sample));
    stage.publish_all(&samples).await;
    eventually(LONG, "ingest to know that Postgres is away", async || match ingest.get("/readyz").await {
        Ok((503, body)) if body.contains("database") => Ok(()),
        other => Err(other),
    })
    .await;
    let status = ingest.sigterm(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}\n{}", ingest.tail());
    stage.postgres.restart().await;
    ingest.restart().await;
    stage.settles_at(&wanted).await;
}

#[tokio::test]
async fn samples_are_rolled_up_and_late_ones_correct_the_rollup() {
    let stage = Stage::start().await;
    let _ingest = stage.launch("ingest").env("PINACLE__INGEST__ROLLUP_INTERVAL_MS", "200").start().await;
    let host = stage.admitted(1).await;
    // Two days ago: no partition was made for it ahead of time, either.
    let minute =
        Timestamp::from_millis((Timestamp::now().as_millis() - 2 * 86_400_000) / 3_600_000 * 3_600_000).unwrap();
    let sample = |second, cpu| {
        let mut sample = host.sample(minute.plus(Duration::from_secs(second)));
        sample.host.cpu_percent = cpu;
        sample
    };
    stage.publish_all(&[sample(5, 10.0), sample(10, 30.0)]).await;
    let maximum = async |wanted: f64, table: &'static str| {
        eventually(LONG, "the rollup", async || {
            let sql = format!("SELECT cpu_percent_max FROM {table}");
            let found: Vec<f64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_all(&stage.pool)
                .await
                .map_err(|error| error.to_string())?;
            if found == [wanted] { Ok(()) } else { Err(format!("{table}: {found:?}")) }
        })
        .await;
    };
    maximum(30.0, "host_metrics_1m").await;
    maximum(30.0, "host_metrics_1h").await;
    stage.publish(&sample(15, 50.0)).await;
    maximum(50.0, "host_metrics_1m").await;
    maximum(50.0, "host_metrics_1h").await;
    stage.count_becomes(1, "SELECT count(*) FROM pod_metrics_1m").await;
}

#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_with_what_is_too_old() {
    let stage = Stage::start().await;
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'host_metrics'::regclass";
    let mut ingest = stage.ingest("ingest").await;
    stage.count_becomes(3, days).await;
    let host = stage.admitted(1).await;
    let old = host.sample(Timestamp::now().minus(Duration::from_secs(3 * 86_400)));
    let new = host.sample(Timestamp::now());
    stage.publish_all(&[old.clone(), new.clone()]).await;
    let mut wanted = Tables::default();
    wanted.expect(&old);
    wanted.expect(&new);
    stage.settles_at(&wanted).await;
    stage.count_becomes(4, days).await;
    sqlx::query("INSERT INTO exec_log (operation_id, sequence, host_id, step, label, command, stdout, stderr, started_at, stream_sequence) \
         SELECT 'op', n, 'host', 's', 'l', 'c', '', '', now() - interval '31 days', n FROM generate_series(1, 12000) n")
        .execute(&stage.pool).await.unwrap();

    ingest.relaunch(|launch| launch.env("PINACLE__INGEST__RAW_DAYS", "2"));
    ingest.restart().await;
    stage.count_becomes(3, days).await;
    stage.count_becomes(0, "SELECT count(*) FROM exec_log").await;
    let mut wanted = Tables::default();
    wanted.expect(&new);
    stage.settles_at(&wanted).await;
}

#[tokio::test]
async fn what_operators_watch_shows_before_the_first_sample() {
    let stage = Stage::start().await;
    let ingest = stage.ingest("ingest").await;
    let (_, text) = ingest.get("/metrics").await.unwrap();
    for name in [
        "pinacle_ingest_rows_total",
        "pinacle_ingest_batches_total",
        "pinacle_ingest_duplicates_total",
        "pinacle_ingest_dead_letters_total{reason=\"unknown_host\"}",
        "pinacle_ingest_retries_total",
        "pinacle_ingest_database_up 1",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    // Nobody publishes: it stays ready.
    consistently(Duration::from_secs(1), "readiness", async || match ingest.get("/readyz").await {
        Ok((200, _)) => Ok(()),
        other => Err(other),
    })
    .await;
}
