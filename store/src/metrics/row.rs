//! A sample's row: one field a column, declared once, so that the columns named to Postgres and the values sent to it
//! cannot fall apart.

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Utc};

use super::encode::{Field, Json, OutOfRange};

macro_rules! row {
    ($(#[$doc:meta])* $name:ident = $table:literal { $first:ident: $first_type:ty, $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[expect(missing_docs, reason = "each field means what the contract's field of that name means")]
        pub struct $name<'a> {
            pub $first: $first_type,
            $(pub $field: $type,)*
        }

        impl $name<'_> {
            /// The table.
            pub const TABLE: &'static str = $table;
            /// The columns, in the order of the fields.
            pub const COLUMNS: &'static [&'static str] = &[stringify!($first) $(, stringify!($field))*];
            pub(super) const COPY: &'static str = concat!(
                "COPY ", $table, " (", stringify!($first) $(, ", ", stringify!($field))*, ") FROM STDIN (FORMAT binary)"
            );
            pub(super) const COPY_STAGED: &'static str = concat!(
                "COPY staged_", $table, " (", stringify!($first) $(, ", ", stringify!($field))*,
                ") FROM STDIN (FORMAT binary)"
            );
            /// By key, so that two writers with the same rows wait for one another instead of locking each other out.
            pub(super) const UNSTAGE: &'static str = concat!(
                "INSERT INTO ", $table, " (", stringify!($first) $(, ", ", stringify!($field))*, ") SELECT ",
                stringify!($first) $(, ", ", stringify!($field))*, " FROM staged_", $table,
                " ORDER BY ", stringify!($first), ", time ON CONFLICT DO NOTHING"
            );
            const FIELDS: u16 = 1 $(+ { let _ = stringify!($field); 1 })*;

            pub(super) fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
                out.put_u16(Self::FIELDS);
                self.$first.put(out)?;
                $(self.$field.put(out)?;)*
                Ok(())
            }
        }
    };
}

row! {
    /// A sample of a host.
    HostMetricRow = "host_metrics" {
        host_id: &'a str,
        time: DateTime<Utc>,
        interval_ms: u64,
        late: bool,
        cpu_percent: f64,
        load_1: f64,
        load_5: f64,
        load_15: f64,
        memory_total_bytes: u64,
        memory_used_bytes: u64,
        memory_available_bytes: u64,
        memory_cached_bytes: u64,
        swap_total_bytes: u64,
        swap_used_bytes: u64,
        disk_read_bytes: u64,
        disk_write_bytes: u64,
        disk_read_bytes_per_second: f64,
        disk_write_bytes_per_second: f64,
        network_rx_bytes: u64,
        network_tx_bytes: u64,
        network_rx_bytes_per_second: f64,
        network_tx_bytes_per_second: f64,
        pressure_cpu_some_percent: Option<f64>,
        pressure_memory_some_percent: Option<f64>,
        pressure_memory_full_percent: Option<f64>,
        pressure_io_some_percent: Option<f64>,
        pressure_io_full_percent: Option<f64>,
        cpu_cores_percent: &'a [f32],
        disks: &'a dyn Json,
        networks: &'a dyn Json,
        temperatures: &'a dyn Json,
        received_at: DateTime<Utc>,
        stream_sequence: u64,
    }
}

row! {
    /// A sample of a pod.
    PodMetricRow = "pod_metrics" {
        pod_id: &'a str,
        time: DateTime<Utc>,
        cpu_percent: f64,
        memory_bytes: u64,
        memory_limit_bytes: Option<u64>,
        disk_bytes: Option<u64>,
        network_rx_bytes: u64,
        network_tx_bytes: u64,
        block_read_bytes: u64,
        block_write_bytes: u64,
        pids: u64,
        throttled_ms: u64,
        oom_kills: u64,
        stream_sequence: u64,
        host_id: &'a str,
    }
}
