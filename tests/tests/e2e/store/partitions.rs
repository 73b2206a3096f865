//! Days come and go while samples are written, and nobody waits.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chrono::{NaiveDate, NaiveTime, TimeDelta, Utc};
use pinacle_store::{Expiring, MetricsWriter, Partitioned};
use pinacle_tests::eventually;
use sqlx::Connection;

use super::fixture::{HostSample, PodSample, Stage, host_id, past_hour, pod_id};

fn today() -> NaiveDate {
    Utc::now().date_naive()
}

fn day(days_ago: i64) -> NaiveDate {
    today() - TimeDelta::days(days_ago)
}

#[tokio::test]
async fn days_are_made_once_and_dropped_once() {
    let stage = Stage::new().await;
    let listed = stage.database.partitions_list(Partitioned::Raw).await.unwrap();
    assert_eq!(listed.len(), 10);
    assert_eq!((listed[0].day, listed[9].day), (day(3), day(-1)));
    let again = stage.database.partitions_ensure(day(3), day(-1)).await.unwrap();
    assert_eq!((again.changed, again.left), (0, 0));
    let dropped = stage.database.partitions_drop(Partitioned::Raw, day(1)).await.unwrap();
    assert_eq!((dropped.changed, dropped.left), (4, 0));
    assert_eq!(stage.database.partitions_list(Partitioned::Raw).await.unwrap()[0].day, day(1));
    assert_eq!(stage.database.partitions_list(Partitioned::Minute).await.unwrap()[0].day, day(3));
    assert_eq!(stage.database.partitions_drop(Partitioned::Raw, day(1)).await.unwrap().changed, 0);
}

#[tokio::test]
async fn copies_that_make_days_at_once_do_not_trip_over_each_other() {
    let stage = Stage::new().await;
    let calls = (0..5).map(|_| stage.database.partitions_ensure(day(10), day(-10)));
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    eventually(Duration::from_secs(20), "every day to be there", async || {
        stage.database.partitions_ensure(day(10), day(-10)).await.unwrap();
        let days = stage.database.partitions_list(Partitioned::Minute).await.unwrap().len();
        if days == 42 { Ok(()) } else { Err(days) }
    })
    .await;
}

#[tokio::test]
async fn days_are_made_and_dropped_while_samples_are_written() {
    let stage = Stage::new().await;
    let stopped = AtomicBool::new(false);
    let writing = async |seed: i64| {
        let mut writer = MetricsWriter::new(stage.database.clone());
        let (host, pod, mut rows) = (host_id(), pod_id(), 0_u64);
        while !stopped.load(Ordering::Relaxed) {
            let time = past_hour() + TimeDelta::microseconds(rows as i64 * 4 + seed);
            let (host, pod) = (HostSample::new(&host, time, 1), PodSample::new(&pod, &host, time, 1));
            let written = writer.write(&[host.row()], &[pod.row()]).await.unwrap();
            rows += written.host_rows;
        }
        rows
    };
    let changing = async {
        for round in 0..5 {
            stage.database.partitions_ensure(day(30), day(25)).await.unwrap();
            eventually(Duration::from_secs(30), "old days to be dropped", async || {
                stage.database.partitions_drop(Partitioned::Raw, day(20)).await.unwrap();
                stage.database.partitions_drop(Partitioned::Minute, day(20)).await.unwrap();
                let oldest = stage.database.partitions_list(Partitioned::Raw).await.unwrap()[0].day;
                if oldest == day(3) { Ok(()) } else { Err((round, oldest)) }
            })
            .await;
        }
        stopped.store(true, Ordering::Relaxed);
    };
    let (one, other, ()) = tokio::join!(writing(0), writing(1), changing);
    assert!(one > 0 && other > 0);
    assert_eq!(stage.count("SELECT count(*) FROM host_metrics").await as u64, one + other);
    assert_eq!(stage.count("SELECT count(*) FROM pod_metrics").await as u64, one + other);
}

#[tokio::test]
async fn a_day_in_use_is_left_for_later_and_its_writer_goes_on() {
    let stage = Stage::new().await;
    let mut reader = stage.sql.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM host_metrics").execute(&mut *reader).await.unwrap();
    let dropped = stage.database.partitions_drop(Partitioned::Raw, day(2));
    let sample = HostSample::new(&host_id(), past_hour(), 1);
    let mut writer = MetricsWriter::new(stage.database.clone());
    let rows = [sample.row()];
    let (dropped, written) = tokio::join!(dropped, writer.write(&rows, &[]));
    assert_eq!(written.unwrap().host_rows, 1);
    assert!(dropped.unwrap().left > 0);
    reader.commit().await.unwrap();
    eventually(Duration::from_secs(30), "the day to be dropped", async || {
        let dropped = stage.database.partitions_drop(Partitioned::Raw, day(2)).await.unwrap();
        let oldest = stage.database.partitions_list(Partitioned::Raw).await.unwrap()[0].day;
        if oldest == day(2) { Ok(()) } else { Err((dropped, oldest)) }
    })
    .await;
}

#[tokio::test]
async fn what_a_process_left_half_done_is_finished() {
    let stage = Stage::new().await;
    let name = |day: NaiveDate| format!("host_metrics_{}", day.format("%Y%m%d"));
    let run = async |sql: String| sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&stage.sql).await.unwrap();
    // Died after detaching, before dropping; died after making, before attaching.
    run(format!("ALTER TABLE host_metrics DETACH PARTITION {}", name(day(3)))).await;
    run(format!("CREATE TABLE {} (LIKE host_metrics INCLUDING ALL)", name(day(-2)))).await;
    // Died in the middle of detaching.
    let mut reader = stage.sql.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM host_metrics").execute(&mut *reader).await.unwrap();
    let mut died = sqlx::PgConnection::connect(&stage.url).await.unwrap();
    let detach = format!("ALTER TABLE host_metrics DETACH PARTITION {} CONCURRENTLY", name(day(2)));
    sqlx::raw_sql("SET statement_timeout = '1s'").execute(&mut died).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(detach)).execute(&mut died).await.unwrap_err();
    drop((died, reader.rollback().await.unwrap()));

    stage.database.partitions_ensure(today(), day(-2)).await.unwrap();
    stage.database.partitions_drop(Partitioned::Raw, day(1)).await.unwrap();
    let days: Vec<_> = stage.database.partitions_list(Partitioned::Raw).await.unwrap();
    let days: Vec<_> = days.iter().filter(|it| it.table == "host_metrics").map(|it| it.day).collect();
    assert_eq!(days, [day(1), day(0), day(-1), day(-2)]);
    let left = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^host_metrics_[0-9]{8}$'";
    assert_eq!(stage.count(left).await, 4);
}

#[tokio::test]
async fn what_is_too_old_goes_in_bounded_batches_and_the_rest_stays() {
    let stage = Stage::new().await;
    let old = day(40).and_time(NaiveTime::MIN).and_utc();
    for (table, rows) in [
        ("host_event", "SELECT 'evt_' || n, 'h', $1 + n * interval '1 day', 'w', 'm', '{}', n"),
        ("pod_event", "SELECT 'evt_' || n, 'p', $1 + n * interval '1 day', 'w', 'm', '{}', n"),
        ("request", "SELECT 'req_' || n, 'o', 'pod', 't', 'v', 'b', $1 + n * interval '1 day', NULL, '{}', n"),
        (
            "operation",
            "SELECT 'op_' || n, 'r', 'pod', 't', 'v', 'p', NULL, $1 + n * interval '1 day', $1, \
             CASE WHEN n <> 5 THEN $1 + n * interval '1 day' END, n",
        ),
        ("operation_step", "SELECT 'op_' || n, 0, 'l', 'p', NULL, NULL, NULL, n"),
        (
            "exec_log",
            "SELECT 'op_' || n, n, 'h', NULL, 's', 'l', 'c', NULL, '', '', 0, $1 + n * interval '1 day', 1, n",
        ),
        (
            "dead_letter",
            "SELECT 'dead_' || n, $1 + n * interval '1 day', 's', 'c', n, 'x', 1, 'r', 1, '', 0, NULL, NULL, n",
        ),
    ] {
        let sql =
            format!("INSERT INTO {table} {rows} FROM generate_series(0, 39) AS n WHERE $1::timestamptz <> 'epoch'");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(old).execute(&stage.sql).await.unwrap();
    }
    let before = day(30).and_time(NaiveTime::MIN).and_utc();
    for what in Expiring::ALL {
        let mut deleted = Vec::new();
        loop {
            match stage.database.expired_delete(what, before, 4).await.unwrap() {
                0 => break,
                rows => deleted.push(rows),
            }
        }
        let expected: &[u64] = match what {
            Expiring::HourRollups => &[],
            Expiring::Events => &[8, 8, 4],
            // One operation has not ended.
            Expiring::Requests => &[8, 8, 3],
            Expiring::Exec | Expiring::DeadLetters => &[4, 4, 2],
        };
        assert_eq!(deleted, expected, "{what:?}");
    }
    assert_eq!(stage.count("SELECT count(*) FROM operation").await, 31);
    assert_eq!(stage.count("SELECT count(*) FROM operation_step").await, 31);
    assert_eq!(stage.count("SELECT count(*) FROM host_event").await, 30);
}
