//! `pod_metrics_1m`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;

/// A pod's samples of one minute: average and maximum of gauges, the highest of totals.
#[derive(Debug, Clone, PartialEq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "pod_metrics_1m")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub pod_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub time: DateTime<Utc>,
    pub samples: i64,
    pub cpu_percent_avg: f64,
    pub cpu_percent_max: f64,
    pub memory_bytes_avg: f64,
    pub memory_bytes_max: i64,
    pub memory_limit_bytes: Option<i64>,
    pub disk_bytes: Option<i64>,
    pub network_rx_bytes: i64,
    pub network_tx_bytes: i64,
    pub block_read_bytes: i64,
    pub block_write_bytes: i64,
    pub pids_avg: f64,
    pub pids_max: i64,
    pub throttled_ms: i64,
    pub oom_kills: i64,
    pub host_id: String,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
