//! `host_metrics`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;
use serde_json::Value;

/// A sample of a host.
#[expect(missing_docs, reason = "each column means what the field of that name means in the bus's contract")]
#[derive(Debug, Clone, PartialEq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "host_metrics")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub host_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub time: DateTime<Utc>,
    pub interval_ms: i64,
    pub late: bool,
    pub cpu_percent: f64,
    pub load_1: f64,
    pub load_5: f64,
    pub load_15: f64,
    pub memory_total_bytes: i64,
    pub memory_used_bytes: i64,
    pub memory_available_bytes: i64,
    pub memory_cached_bytes: i64,
    pub swap_total_bytes: i64,
    pub swap_used_bytes: i64,
    pub disk_read_bytes: i64,
    pub disk_write_bytes: i64,
    pub disk_read_bytes_per_second: f64,
    pub disk_write_bytes_per_second: f64,
    pub network_rx_bytes: i64,
    pub network_tx_bytes: i64,
    pub network_rx_bytes_per_second: f64,
    pub network_tx_bytes_per_second: f64,
    pub pressure_cpu_some_percent: Option<f64>,
    pub pressure_memory_some_percent: Option<f64>,
    pub pressure_memory_full_percent: Option<f64>,
    pub pressure_io_some_percent: Option<f64>,
    pub pressure_io_full_percent: Option<f64>,
    pub cpu_cores_percent: Vec<f32>,
    #[sea_orm(column_type = "JsonBinary")]
    pub disks: Value,
    #[sea_orm(column_type = "JsonBinary")]
    pub networks: Value,
    #[sea_orm(column_type = "JsonBinary")]
    pub temperatures: Value,
    pub received_at: DateTime<Utc>,
    pub stream_sequence: i64,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
