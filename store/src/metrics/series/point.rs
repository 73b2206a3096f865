//! Points of series, and the rates that are derived from totals.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use serde::Serialize;

/// A host over one step: averages weighted by samples, and maxima.
#[derive(Debug, Clone, PartialEq, Serialize, FromQueryResult)]
#[expect(missing_docs, reason = "each field is the contract's of that name, with `_avg` or `_max` where it is one")]
pub struct HostPoint {
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
    pub swap_total_bytes: i64,
    pub swap_used_bytes_avg: f64,
    pub swap_used_bytes_max: i64,
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

/// A pod over one step: averages weighted by samples, maxima, and rates by the difference of totals from the point
/// before; null where there is none right before it.
#[derive(Debug, Clone, PartialEq, Serialize, FromQueryResult)]
#[expect(missing_docs, reason = "each field is the contract's of that name, with `_avg` or `_max` where it is one")]
pub struct PodPoint {
    pub time: DateTime<Utc>,
    pub host_id: String,
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
    #[sea_orm(skip)]
    pub network_rx_bytes_per_second: Option<f64>,
    #[sea_orm(skip)]
    pub network_tx_bytes_per_second: Option<f64>,
    #[sea_orm(skip)]
    pub block_read_bytes_per_second: Option<f64>,
    #[sea_orm(skip)]
    pub block_write_bytes_per_second: Option<f64>,
}

/// Across a longer gap than this many steps a rate would say nothing.
const LONGEST_GAP_STEPS: i64 = 3;

/// Fills in the rates. A total that is lower than before began anew, at zero: the container was restarted.
pub(super) fn derive_rates(points: &mut [PodPoint], step_seconds: i64) {
    let mut before: Option<PodPoint> = None;
    for point in points {
        if let Some(before) = before {
            let seconds = (point.time - before.time).num_seconds();
            if seconds > 0 && seconds <= LONGEST_GAP_STEPS * step_seconds {
                let rate = |now: i64, then: i64| Some(grown(now, then) / seconds as f64);
                point.network_rx_bytes_per_second = rate(point.network_rx_bytes, before.network_rx_bytes);
                point.network_tx_bytes_per_second = rate(point.network_tx_bytes, before.network_tx_bytes);
                point.block_read_bytes_per_second = rate(point.block_read_bytes, before.block_read_bytes);
                point.block_write_bytes_per_second = rate(point.block_write_bytes, before.block_write_bytes);
            }
        }
        before = Some(point.clone());
    }
}

fn grown(now: i64, then: i64) -> f64 {
    (if now >= then { now - then } else { now }) as f64
}
