//! A database with all tables and the days that samples fall into, and samples to put there.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use pinacle_bus::contract::{HostId, PodId};
use pinacle_store::{Database, HostMetricRow, HostRow, PodMetricRow, PodRow, Timeouts};
use pinacle_tests::Postgres;
use serde_json::{Value, json};
use sqlx::PgPool;

pub struct Stage {
    pub postgres: Postgres,
    pub url: String,
    pub database: Database,
    /// For looking past the store.
    pub sql: PgPool,
}

impl Stage {
    pub async fn new() -> Self {
        let postgres = Postgres::start().await;
        let url = postgres.database().await;
        Self::on(postgres, url).await
    }

    pub async fn on(postgres: Postgres, url: String) -> Self {
        let database = Database::connect(&url, 8, Timeouts::default()).unwrap();
        let today = Utc::now().date_naive();
        database.partitions_ensure(today - TimeDelta::days(3), today + TimeDelta::days(1)).await.unwrap();
        let sql = PgPool::connect(&url).await.unwrap();
        Self { postgres, url, database, sql }
    }

    /// A single number.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.sql).await.unwrap()
    }
}

/// The start of an hour that is over, on a day that is there.
pub fn past_hour() -> DateTime<Utc> {
    (Utc::now() - TimeDelta::hours(3)).duration_trunc(TimeDelta::hours(1)).unwrap()
}

pub fn host_id() -> String {
    HostId::new().to_string()
}

pub fn pod_id() -> String {
    PodId::new().to_string()
}

/// A host's sample whose figures all follow from `figure`.
#[derive(Debug, Clone)]
pub struct HostSample {
    pub host_id: String,
    pub time: DateTime<Utc>,
    pub figure: u64,
    pub cores: Vec<f32>,
    pub disks: Value,
    pub sensors: Value,
    pub pressure: Option<f64>,
}

impl HostSample {
    pub fn new(host_id: &str, time: DateTime<Utc>, figure: u64) -> Self {
        let disk = |total: u64| json!({"device": "/dev/sda", "total_bytes": total, "used_bytes": total / 2});
        Self {
            host_id: host_id.to_owned(),
            time,
            figure,
            cores: vec![1.5, figure as f32],
            disks: json!([disk(figure * 10), disk(100)]),
            sensors: json!([{"label": "cpu µ", "celsius": -3.5}]),
            pressure: Some(figure as f64 / 4.0),
        }
    }

    pub fn row(&self) -> HostMetricRow<'_> {
        let figure = self.figure;
        HostMetricRow {
            host_id: &self.host_id,
            time: self.time,
            interval_ms: 5000,
            late: figure % 2 == 1,
            cpu_percent: figure as f64 * 1.5,
            load_1: figure as f64 / 2.0,
            load_5: figure as f64 / 3.0,
            load_15: 0.25,
            memory_total_bytes: 1 << 60,
            memory_used_bytes: figure * 1000,
            memory_available_bytes: figure + 1,
            memory_cached_bytes: figure + 2,
            swap_total_bytes: figure + 3,
            swap_used_bytes: figure + 4,
            disk_read_bytes: figure + 5,
            disk_write_bytes: figure + 6,
            disk_read_bytes_per_second: figure as f64 + 0.5,
            disk_write_bytes_per_second: figure as f64 + 0.75,
            network_rx_bytes: figure + 7,
            network_tx_bytes: figure + 8,
            network_rx_bytes_per_second: figure as f64 * 2.0,
            network_tx_bytes_per_second: figure as f64 * 3.0,
            pressure_cpu_some_percent: self.pressure,
            pressure_memory_some_percent: self.pressure.map(|it| it + 1.0),
            pressure_memory_full_percent: self.pressure.map(|it| it + 2.0),
            pressure_io_some_percent: self.pressure.map(|it| it + 3.0),
            pressure_io_full_percent: self.pressure.map(|it| it + 4.0),
            cpu_cores_percent: &self.cores,
            disks: &self.disks,
            networks: &NO_PARTS,
            temperatures: &self.sensors,
            received_at: self.time + TimeDelta::milliseconds(1),
            stream_sequence: figure + 9,
        }
    }
}

/// An empty list.
static NO_PARTS: [(); 0] = [];

/// A pod's sample whose figures all follow from `figure`.
#[derive(Debug, Clone)]
pub struct PodSample {
    pub pod_id: String,
    pub host_id: String,
    pub time: DateTime<Utc>,
    pub figure: u64,
}

impl PodSample {
    pub fn new(pod_id: &str, host_id: &str, time: DateTime<Utc>, figure: u64) -> Self {
        Self { pod_id: pod_id.to_owned(), host_id: host_id.to_owned(), time, figure }
    }

    pub fn row(&self) -> PodMetricRow<'_> {
        let figure = self.figure;
        PodMetricRow {
            pod_id: &self.pod_id,
            time: self.time,
            cpu_percent: figure as f64 / 8.0,
            memory_bytes: figure * 7,
            memory_limit_bytes: figure.is_multiple_of(2).then_some(1 << 60),
            disk_bytes: figure.is_multiple_of(3).then_some(figure),
            network_rx_bytes: figure * 100,
            network_tx_bytes: figure + 1,
            block_read_bytes: figure + 2,
            block_write_bytes: figure + 3,
            pids: figure + 4,
            throttled_ms: figure + 5,
            oom_kills: figure + 6,
            stream_sequence: figure + 7,
            host_id: &self.host_id,
        }
    }
}

pub fn host_record(host_id: &str, name: &str, sequence: i64) -> HostRow {
    HostRow {
        host_id: host_id.to_owned(),
        name: name.to_owned(),
        state: "online".to_owned(),
        cause: "heartbeat".to_owned(),
        state_since: past_hour(),
        evidence: json!({}),
        admitted_at: past_hour(),
        cordoned: false,
        labels: json!({"zone": "a"}),
        facts: json!({"cpu_count": 2}),
        owner: None,
        notes: String::new(),
        maintenance: json!([]),
        disabled: false,
        deleted_at: None,
        stream_sequence: sequence,
    }
}

pub fn pod_record(pod_id: &str, owner: &str, sequence: i64) -> PodRow {
    PodRow {
        pod_id: pod_id.to_owned(),
        name: format!("of-{owner}"),
        owner: owner.to_owned(),
        host_id: None,
        phase: "running".to_owned(),
        cause: None,
        phase_since: past_hour(),
        created_at: past_hour(),
        operation_id: None,
        tier: "dev.small".to_owned(),
        image: "base".to_owned(),
        external_port: Some(30_000),
        fence: 1,
        deleted_at: None,
        stream_sequence: sequence,
    }
}
