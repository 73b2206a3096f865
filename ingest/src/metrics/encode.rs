//! A sample's rows, straight into a batch.

use std::fmt::Write;

use pinacle_bus::contract::{PodId, Timestamp, metrics::Metrics};
use pinacle_store::{HostMetricRow, MetricsBatch, PodMetricRow, StoreError};

/// Encodes samples. It keeps the texts of ids between rows, so that a row takes no allocation.
#[derive(Debug, Default)]
pub struct Encoder {
    host_id: String,
    pod_id: String,
}

impl Encoder {
    /// Adds a sample's rows to `batch`, without the pods in `left_out`. What it adds depends on the message and its place
    /// in the stream alone, so that a replay writes the same rows.
    ///
    /// # Errors
    /// When a value does not fit its column. Rows before it may be in the batch; each is good on its own.
    pub fn encode(
        &mut self,
        sample: &Metrics,
        sequence: u64,
        published_at: Timestamp,
        left_out: &[PodId],
        batch: &mut MetricsBatch,
    ) -> Result<(), StoreError> {
        let Self { host_id, pod_id } = self;
        host_id.clear();
        // Writing to a String cannot fail.
        let _ = write!(host_id, "{}", sample.host_id);
        let time = sample.sampled_at.as_utc();
        batch.push_host(&host_row(sample, host_id, sequence, published_at))?;
        for pod in sample.pods.iter().filter(|pod| !left_out.contains(&pod.pod_id)) {
            pod_id.clear();
            let _ = write!(pod_id, "{}", pod.pod_id);
            batch.push_pod(&PodMetricRow {
                pod_id,
                time,
                cpu_percent: pod.cpu_percent,
                memory_bytes: pod.memory_bytes,
                memory_limit_bytes: pod.memory_limit_bytes,
                disk_bytes: pod.disk_bytes,
                network_rx_bytes: pod.network_rx_bytes,
                network_tx_bytes: pod.network_tx_bytes,
                block_read_bytes: pod.block_read_bytes,
                block_write_bytes: pod.block_write_bytes,
                pids: pod.pids,
                throttled_ms: pod.throttled_ms,
                oom_kills: pod.oom_kills,
                stream_sequence: sequence,
                host_id,
            })?;
        }
        Ok(())
    }
}

fn host_row<'a>(sample: &'a Metrics, host_id: &'a str, sequence: u64, published_at: Timestamp) -> HostMetricRow<'a> {
    let host = &sample.host;
    let pressure = host.pressure.as_ref();
    HostMetricRow {
        host_id,
        time: sample.sampled_at.as_utc(),
        interval_ms: sample.interval_ms,
        late: sample.late,
        cpu_percent: host.cpu_percent,
        load_1: host.load_1,
        load_5: host.load_5,
        load_15: host.load_15,
        memory_total_bytes: host.memory_total_bytes,
        memory_used_bytes: host.memory_used_bytes,
        memory_available_bytes: host.memory_available_bytes,
        memory_cached_bytes: host.memory_cached_bytes,
        swap_total_bytes: host.swap_total_bytes,
        swap_used_bytes: host.swap_used_bytes,
        disk_read_bytes: host.disk_read_bytes,
        disk_write_bytes: host.disk_write_bytes,
        disk_read_bytes_per_second: host.disk_read_bytes_per_second,
        disk_write_bytes_per_second: host.disk_write_bytes_per_second,
        network_rx_bytes: host.network_rx_bytes,
        network_tx_bytes: host.network_tx_bytes,
        network_rx_bytes_per_second: host.network_rx_bytes_per_second,
        network_tx_bytes_per_second: host.network_tx_bytes_per_second,
        pressure_cpu_some_percent: pressure.map(|pressure| pressure.cpu_some_percent),
        pressure_memory_some_percent: pressure.map(|pressure| pressure.memory_some_percent),
        pressure_memory_full_percent: pressure.map(|pressure| pressure.memory_full_percent),
        pressure_io_some_percent: pressure.map(|pressure| pressure.io_some_percent),
        pressure_io_full_percent: pressure.map(|pressure| pressure.io_full_percent),
        cpu_cores_percent: &host.cpu_cores_percent,
        disks: &host.disks,
        networks: &host.networks,
        temperatures: &host.temperatures,
        received_at: published_at.as_utc(),
        stream_sequence: sequence,
    }
}
