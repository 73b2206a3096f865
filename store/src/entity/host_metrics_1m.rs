//! `host_metrics_1m`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;

/// A host's samples of one minute: average and maximum of gauges, the highest of totals.
#[derive(Debug, Clone, PartialEq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "host_metrics_1m")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub host_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub time: DateTime<Utc>,
    pub samples: i64,
    pub cpu_percent_avg: f64,
    pub cpu_percent_max: f64,
    pub load_1_avg: f64,
    pub load_1_max: f64,
    pub load_5_avg: f64,
    pub load_5_max: f64,
    pub load_15_avg: f64,
    pub load_15_max: f64,
    pub memory_total_bytes: i64,
    pub memory_used_bytes_avg: f64,
    pub memory_used_bytes_max: i64,
    pub memory_cached_bytes_avg: f64,
    pub memory_cached_bytes_max: i64,
    pub swap_used_bytes_avg: f64,
    pub swap_used_bytes_max: i64,
    pub swap_total_bytes: i64,
    pub disk_total_bytes: i64,
    pub disk_used_bytes_avg: f64,
    pub disk_used_bytes_max: i64,
    pub disk_read_bytes: i64,
    pub disk_write_bytes: i64,
    pub network_rx_bytes: i64,
    pub network_tx_bytes: i64,
    pub disk_read_bytes_per_second_avg: f64,
    pub disk_read_bytes_per_second_max: f64,
    pub disk_write_bytes_per_second_avg: f64,
    pub disk_write_bytes_per_second_max: f64,
    pub network_rx_bytes_per_second_avg: f64,
    pub network_rx_bytes_per_second_max: f64,
    pub network_tx_bytes_per_second_avg: f64,
    pub network_tx_bytes_per_second_max: f64,
    pub pressure_cpu_some_percent_max: Option<f64>,
    pub pressure_memory_some_percent_max: Option<f64>,
    pub pressure_memory_full_percent_max: Option<f64>,
    pub pressure_io_some_percent_max: Option<f64>,
    pub pressure_io_full_percent_max: Option<f64>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
