//! Faults by kind: what is worth trying again, and what is not.

use std::time::Duration;

use pinacle_store::{
    Applied, Database, HostFilter, MetricsWriter, PageRequest, Scope, StoreError, StoreErrorKind, Timeouts,
};
use pinacle_tests::{Postgres, Proxy, eventually};

use super::fixture::{HostSample, Stage, host_id, host_record, past_hour};

fn quick() -> Timeouts {
    Timeouts { acquire: Duration::from_secs(2), statement: Duration::from_secs(1) }
}

fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreErrorKind {
    result.unwrap_err().kind().clone()
}

#[tokio::test]
async fn a_server_that_is_killed_is_unavailable_until_it_is_back() {
    let mut stage = Stage::new().await;
    let database = Database::connect(&stage.url, 4, quick()).unwrap();
    let mut writer = MetricsWriter::new(database.clone());
    let sample = HostSample::new(&host_id(), past_hour(), 1);
    let later = HostSample { time: sample.time + chrono::TimeDelta::seconds(5), ..sample.clone() };
    writer.write(&[sample.row()], &[]).await.unwrap();
    stage.postgres.kill9().await;
    assert_eq!(kind(writer.write(&[later.row()], &[]).await), StoreErrorKind::Unavailable);
    assert_eq!(kind(database.ping().await), StoreErrorKind::Unavailable);
    assert_eq!(kind(database.host_project(host_record(&host_id(), "one", 1)).await), StoreErrorKind::Unavailable);
    assert_eq!(kind(database.rollup_run(1).await), StoreErrorKind::Unavailable);
    stage.postgres.restart().await;
    eventually(Duration::from_secs(20), "the writer to write again", async || {
        writer.write(&[sample.row(), later.row()], &[]).await.map_err(|error| error.to_string())
    })
    .await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM host_metrics")
        .fetch_one(&sqlx::PgPool::connect(&stage.url).await.unwrap())
        .await
        .unwrap();
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn a_session_cut_off_by_the_server_is_unavailable_and_leaves_nothing() {
    let stage = Stage::new().await;
    let database = stage.database.clone();
    let mut blocker = stage.sql.begin().await.unwrap();
    sqlx::query("LOCK TABLE host_metrics IN ACCESS EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    let sample = HostSample::new(&host_id(), past_hour(), 1);
    let (row, mut writer) = ([sample.row()], MetricsWriter::new(database.clone()));
    let cut = async {
        eventually(Duration::from_secs(10), "the writer to wait for the lock", async || {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%'";
            sqlx::query_scalar::<_, i64>(sql).fetch_one(&stage.sql).await.unwrap() == 1
        })
        .await;
    };
    let (written, ()) = tokio::join!(writer.write(&row, &[]), cut);
    assert_eq!(kind(written), StoreErrorKind::Unavailable);
    blocker.rollback().await.unwrap();
    assert_eq!(stage.count("SELECT count(*) FROM host_metrics").await, 0);
    assert_eq!(stage.count("SELECT count(*) FROM rollup_pending").await, 0);
    assert_eq!(writer.write(&row, &[]).await.unwrap().host_rows, 1);
}

#[tokio::test]
async fn a_statement_past_its_time_is_cancelled_and_its_connection_goes_on() {
    let stage = Stage::new().await;
    let database = Database::connect(&stage.url, 1, quick()).unwrap();
    let mut blocker = stage.sql.begin().await.unwrap();
    sqlx::query("LOCK TABLE host, host_metrics IN ACCESS EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    let sample = HostSample::new(&host_id(), past_hour(), 1);
    let mut writer = MetricsWriter::new(database.clone());
    assert_eq!(kind(writer.write(&[sample.row()], &[]).await), StoreErrorKind::Unavailable);
    let page = PageRequest::first(1);
    let listed = database.host_list(&Scope::All, &HostFilter::default(), &page).await;
    assert_eq!(kind(listed), StoreErrorKind::Unavailable);
    blocker.rollback().await.unwrap();
    assert_eq!(writer.write(&[sample.row()], &[]).await.unwrap().host_rows, 1);
    assert_eq!(database.host_project(host_record(&host_id(), "one", 1)).await.unwrap(), Applied::Written);
}

#[tokio::test]
async fn nobody_there_a_full_house_and_no_tables_are_told_apart() {
    let nobody = Database::connect("postgres://pinacle@127.0.0.1:1/pinacle", 1, quick()).unwrap();
    assert_eq!(kind(nobody.ping().await), StoreErrorKind::Unavailable);

    let postgres = Postgres::start_with(&["-c", "max_connections=6", "-c", "superuser_reserved_connections=0"]).await;
    let url = postgres.empty_database().await;
    let database = Database::connect(&url, 1, quick()).unwrap();
    let page = PageRequest::first(1);
    let listed = database.host_list(&Scope::All, &HostFilter::default(), &page).await;
    assert_eq!(kind(listed), StoreErrorKind::Schema);
    database.close().await;
    let mut held = Vec::new();
    while let Ok(connection) = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await {
        held.push(connection);
    }
    let database = Database::connect(&url, 1, quick()).unwrap();
    assert_eq!(kind(database.ping().await), StoreErrorKind::Unavailable);
    assert!(Database::connect("not an address", 1, quick()).is_err());
}

#[tokio::test]
async fn a_row_that_postgres_cannot_hold_is_datas_fault() {
    let stage = Stage::new().await;
    let result = stage.database.host_project(host_record(&host_id(), "a\0b", 1)).await;
    assert_eq!(kind(result), StoreErrorKind::Data);
    assert_eq!(kind(stage.database.host_get(&Scope::All, "a\0b").await), StoreErrorKind::NotFound);
}

#[tokio::test]
async fn a_network_that_swallows_ends_at_the_deadline_and_heals() {
    let stage = Stage::new().await;
    let proxy = Proxy::start(stage.postgres.address()).await;
    let database = Database::connect(&Postgres::url_at(&stage.url, proxy.address()), 2, quick()).unwrap();
    let mut writer = MetricsWriter::new(database.clone());
    let sample = HostSample::new(&host_id(), past_hour(), 1);
    assert_eq!(writer.write(&[sample.row()], &[]).await.unwrap().host_rows, 1);
    proxy.stall();
    let later = HostSample { time: sample.time + chrono::TimeDelta::seconds(5), ..sample.clone() };
    assert_eq!(kind(writer.write(&[later.row()], &[]).await), StoreErrorKind::Unavailable);
    proxy.cut();
    assert_eq!(kind(database.host_project(host_record(&host_id(), "one", 1)).await), StoreErrorKind::Unavailable);
    proxy.heal();
    eventually(Duration::from_secs(30), "the writer to write again", async || {
        writer.write(&[sample.row(), later.row()], &[]).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(stage.count("SELECT count(*) FROM host_metrics").await, 2);
}
