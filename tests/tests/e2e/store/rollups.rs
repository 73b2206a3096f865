//! Rollups equal what the samples say, however late those come.

use chrono::{DateTime, TimeDelta, Utc};
use pinacle_store::{Database, MetricsWriter, Partitioned};
use sqlx::PgPool;

use super::fixture::{HostSample, PodSample, Stage, host_id, past_hour, pod_id};

/// Runs until nothing is left to do.
pub async fn roll_all(database: &Database) -> (u64, u64) {
    let (mut minutes, mut hours) = (0, 0);
    loop {
        let done = database.rollup_run(7).await.unwrap();
        assert!(!done.busy);
        (minutes, hours) = (minutes + done.minutes, hours + done.hours);
        if done.remaining == 0 && done.minutes == 0 && done.hours == 0 {
            return (minutes, hours);
        }
    }
}

/// Rows of a rollup that differ from the same computed plainly from the samples.
pub async fn wrong_rows(pool: &PgPool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (level, unit) in [("1m", "minute"), ("1h", "hour")] {
        let host = "count(*) samples, avg(cpu_percent) cpu_percent_avg, max(cpu_percent) cpu_percent_max, \
             avg(load_1) load_1_avg, max(load_15) load_15_max, avg(memory_used_bytes) memory_used_bytes_avg, \
             max(memory_used_bytes) memory_used_bytes_max, max(network_rx_bytes) network_rx_bytes, \
             avg(network_tx_bytes_per_second) network_tx_bytes_per_second_avg, \
             max(pressure_io_full_percent) pressure_io_full_percent_max";
        let pod = "count(*) samples, avg(cpu_percent) cpu_percent_avg, max(cpu_percent) cpu_percent_max, \
             avg(memory_bytes) memory_bytes_avg, max(memory_bytes) memory_bytes_max, max(disk_bytes) disk_bytes, \
             max(memory_limit_bytes) memory_limit_bytes, avg(pids) pids_avg, max(oom_kills) oom_kills";
        for (table, key, figures) in [("host_metrics", "host_id", host), ("pod_metrics", "pod_id", pod)] {
            let same = figures.split(", ").map(|figure| {
                let name = figure.rsplit(' ').next().unwrap();
                let scale = format!("greatest(1, abs(rolled.{name}::double precision))");
                format!(
                    "((plain.{name} IS NULL AND rolled.{name} IS NULL) OR \
                     abs(plain.{name}::double precision - rolled.{name}::double precision) <= 1e-9 * {scale})"
                )
            });
            let same = same.collect::<Vec<_>>().join(" AND ");
            let sql = format!(
                "SELECT format('{table}_{level} %s: %s, %s', {key}, plain, rolled) FROM \
                 (SELECT {key}, date_trunc('{unit}', time, 'UTC') AS time, {figures} FROM {table} GROUP BY 1, 2) AS plain \
                 FULL JOIN {table}_{level} AS rolled USING ({key}, time) WHERE ({same}) IS NOT TRUE"
            );
            let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
            wrong.extend(rows);
        }
    }
    wrong
}

async fn write(database: &Database, hosts: &[HostSample], pods: &[PodSample]) {
    let hosts: Vec<_> = hosts.iter().map(HostSample::row).collect();
    let pods: Vec<_> = pods.iter().map(PodSample::row).collect();
    MetricsWriter::new(database.clone()).write(&hosts, &pods).await.unwrap();
}

/// Two hours of two hosts with two pods each, a sample every 20 seconds with a hole here and there.
fn two_hours(start: DateTime<Utc>) -> (Vec<HostSample>, Vec<PodSample>) {
    let (mut hosts, mut pods) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (host, its_pods) = (host_id(), [pod_id(), pod_id()]);
        for at in (0..360_u64).filter(|at| at % 7 != 3) {
            let time = start + TimeDelta::seconds(at as i64 * 20);
            hosts.push(HostSample::new(&host, time, at * at % 101));
            pods.extend(its_pods.iter().map(|pod| PodSample::new(pod, &host, time, at * at % 97)));
        }
    }
    (hosts, pods)
}

#[tokio::test]
async fn rollups_equal_the_samples_and_late_ones_correct_minute_and_hour() {
    let stage = Stage::new().await;
    let (hosts, pods) = two_hours(past_hour() - TimeDelta::hours(1));
    let (late_hosts, in_time_hosts): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|sample| sample.figure % 5 == 0);
    let (late_pods, in_time_pods): (Vec<_>, Vec<_>) = pods.into_iter().partition(|sample| sample.figure % 5 == 0);
    assert!(!late_hosts.is_empty() && !late_pods.is_empty());
    write(&stage.database, &in_time_hosts, &in_time_pods).await;
    assert!(!wrong_rows(&stage.sql).await.is_empty(), "rollups before any run");
    let (minutes, hours) = roll_all(&stage.database).await;
    assert!(minutes >= 240 && hours >= 4, "{minutes} minutes, {hours} hours");
    assert_eq!(wrong_rows(&stage.sql).await, Vec::<String>::new());

    write(&stage.database, &late_hosts, &late_pods).await;
    assert!(!wrong_rows(&stage.sql).await.is_empty(), "late samples are not in the rollups yet");
    roll_all(&stage.database).await;
    assert_eq!(wrong_rows(&stage.sql).await, Vec::<String>::new());
    assert_eq!(stage.count("SELECT count(*) FROM rollup_pending").await, 0);
    assert_eq!(stage.count("SELECT count(*) FROM rollup_pending_hour").await, 0);

    // Nothing new: nothing to do, and the same rollups.
    assert_eq!(roll_all(&stage.database).await, (0, 0));
}

#[tokio::test]
async fn disks_are_summed_over_all_of_them() {
    let stage = Stage::new().await;
    write(&stage.database, &[HostSample::new(&host_id(), past_hour(), 50)], &[]).await;
    roll_all(&stage.database).await;
    assert_eq!(stage.count("SELECT disk_total_bytes FROM host_metrics_1m").await, 600);
    assert_eq!(stage.count("SELECT disk_used_bytes_max FROM host_metrics_1h").await, 300);
}

#[tokio::test]
async fn a_pod_that_moves_within_a_minute_keeps_all_of_its_samples() {
    let stage = Stage::new().await;
    let (one, other, pod) = (host_id(), host_id(), pod_id());
    let time = |seconds| past_hour() + TimeDelta::seconds(seconds);
    write(&stage.database, &[], &[PodSample::new(&pod, &one, time(0), 1), PodSample::new(&pod, &one, time(5), 2)])
        .await;
    roll_all(&stage.database).await;
    write(&stage.database, &[], &[PodSample::new(&pod, &other, time(10), 3)]).await;
    roll_all(&stage.database).await;
    write(&stage.database, &[], &[PodSample::new(&pod, &one, time(7), 4)]).await;
    roll_all(&stage.database).await;
    assert_eq!(wrong_rows(&stage.sql).await, Vec::<String>::new());
    assert_eq!(stage.count("SELECT samples FROM pod_metrics_1h").await, 4);
}

#[tokio::test]
async fn a_rollup_outlives_its_samples_and_what_little_comes_after() {
    let stage = Stage::new().await;
    let (host, pod) = (host_id(), pod_id());
    let day = past_hour() - TimeDelta::days(2);
    let sample = |second: i64| day + TimeDelta::seconds(second);
    let hosts: Vec<_> = (0..10).map(|at| HostSample::new(&host, sample(at), 1)).collect();
    let pods: Vec<_> = (0..10).map(|at| PodSample::new(&pod, &host, sample(at), 1)).collect();
    write(&stage.database, &hosts, &pods).await;
    roll_all(&stage.database).await;
    stage.database.partitions_drop(Partitioned::Raw, day.date_naive() + TimeDelta::days(1)).await.unwrap();
    // The day comes back, since somebody asked for it, and with it one sample that was very late.
    stage.database.partitions_ensure(day.date_naive(), day.date_naive()).await.unwrap();
    write(&stage.database, &[HostSample::new(&host, sample(30), 9)], &[PodSample::new(&pod, &host, sample(30), 9)])
        .await;
    roll_all(&stage.database).await;
    for sql in [
        "SELECT samples FROM host_metrics_1m",
        "SELECT samples FROM pod_metrics_1m",
        "SELECT samples FROM host_metrics_1h",
        "SELECT samples FROM pod_metrics_1h",
    ] {
        assert_eq!(stage.count(sql).await, 10, "{sql}");
    }
}

#[tokio::test]
async fn a_minute_under_way_is_left_alone() {
    let stage = Stage::new().await;
    write(&stage.database, &[HostSample::new(&host_id(), Utc::now(), 1)], &[]).await;
    assert_eq!(roll_all(&stage.database).await, (0, 0));
    assert_eq!(stage.count("SELECT count(*) FROM rollup_pending").await, 1);
}

#[tokio::test]
async fn a_second_runner_returns_at_once() {
    let stage = Stage::new().await;
    write(&stage.database, &[HostSample::new(&host_id(), past_hour(), 1)], &[]).await;
    let mut other = stage.sql.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('pinacle.rollup'))").execute(&mut *other).await.unwrap();
    let done = stage.database.rollup_run(10).await.unwrap();
    assert!(done.busy && done.minutes == 0);
    drop(other);
    let minutes = pinacle_tests::eventually(std::time::Duration::from_secs(10), "the lock to be free", async || {
        let done = stage.database.rollup_run(10).await.unwrap();
        if done.busy { Err(done) } else { Ok(done.minutes) }
    })
    .await;
    assert_eq!(minutes, 1);
}

#[tokio::test]
async fn runners_and_writers_at_once_end_at_the_right_figures() {
    let stage = Stage::new().await;
    let (hosts, pods) = two_hours(past_hour() - TimeDelta::hours(1));
    let writing = async {
        for (hosts, pods) in hosts.chunks(50).zip(pods.chunks(100)) {
            write(&stage.database, hosts, pods).await;
        }
    };
    let rolling = async || {
        for _ in 0..20 {
            stage.database.rollup_run(30).await.unwrap();
        }
    };
    tokio::join!(writing, rolling(), rolling());
    roll_all(&stage.database).await;
    assert_eq!(wrong_rows(&stage.sql).await, Vec::<String>::new());
}
