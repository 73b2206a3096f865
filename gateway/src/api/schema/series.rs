//! Shapes of the history's series.

use utoipa::ToSchema;

/// A series. Times without samples have no point.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct Series<P> {
    /// What it is made from.
    resolution: Resolution,
    /// Seconds of one point; a point's time is its start.
    step_seconds: i64,
    /// In the order of time.
    points: Vec<P>,
}

/// What a series is made from.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Resolution {
    /// Samples as they came.
    Raw,
    /// Rollups of a minute.
    Minute,
    /// Rollups of an hour.
    Hour,
}

/// A host over one step: averages weighted by samples, and maxima.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct HostPoint {
    #[schema(format = DateTime)]
    time: String,
    samples: i64,
    cpu_percent_avg: f64,
    cpu_percent_max: f64,
    load_1_avg: f64,
    load_1_max: f64,
    load_5_avg: f64,
    load_5_max: f64,
    load_15_avg: f64,
    load_15_max: f64,
    memory_total_bytes: i64,
    memory_used_bytes_avg: f64,
    memory_used_bytes_max: i64,
    memory_cached_bytes_avg: f64,
    memory_cached_bytes_max: i64,
    swap_total_bytes: i64,
    swap_used_bytes_avg: f64,
    swap_used_bytes_max: i64,
    disk_total_bytes: i64,
    disk_used_bytes_avg: f64,
    disk_used_bytes_max: i64,
    disk_read_bytes: i64,
    disk_write_bytes: i64,
    network_rx_bytes: i64,
    network_tx_bytes: i64,
    disk_read_bytes_per_second_avg: f64,
    disk_read_bytes_per_second_max: f64,
    disk_write_bytes_per_second_avg: f64,
    disk_write_bytes_per_second_max: f64,
    network_rx_bytes_per_second_avg: f64,
    network_rx_bytes_per_second_max: f64,
    network_tx_bytes_per_second_avg: f64,
    network_tx_bytes_per_second_max: f64,
    pressure_cpu_some_percent_max: Option<f64>,
    pressure_memory_some_percent_max: Option<f64>,
    pressure_memory_full_percent_max: Option<f64>,
    pressure_io_some_percent_max: Option<f64>,
    pressure_io_full_percent_max: Option<f64>,
}

/// A pod over one step: averages weighted by samples, maxima, and rates by the difference of totals from the point
/// before; null where there is none right before it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct PodPoint {
    #[schema(format = DateTime)]
    time: String,
    host_id: String,
    samples: i64,
    cpu_percent_avg: f64,
    cpu_percent_max: f64,
    memory_bytes_avg: f64,
    memory_bytes_max: i64,
    memory_limit_bytes: Option<i64>,
    disk_bytes: Option<i64>,
    network_rx_bytes: i64,
    network_tx_bytes: i64,
    block_read_bytes: i64,
    block_write_bytes: i64,
    pids_avg: f64,
    pids_max: i64,
    throttled_ms: i64,
    oom_kills: i64,
    network_rx_bytes_per_second: Option<f64>,
    network_tx_bytes_per_second: Option<f64>,
    block_read_bytes_per_second: Option<f64>,
    block_write_bytes_per_second: Option<f64>,
}
