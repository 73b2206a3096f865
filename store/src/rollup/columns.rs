//! What a rollup holds, declared once: the statements that compute it and those that read it are made from this.

/// How a figure is rolled up.
#[derive(Debug, Clone, Copy)]
enum Figure {
    /// Average, weighted by samples, and maximum: `<name>_avg` and `<name>_max`. With what a sample says.
    Gauge(&'static str, &'static str),
    /// The highest: of a total the last, unless it began anew. Column, and what a sample says.
    Highest(&'static str, &'static str),
}

use Figure::{Gauge, Highest};

/// A table of samples and its rollups.
#[derive(Debug)]
pub(crate) struct Rollup {
    /// The table of samples; `_1m` and `_1h` behind it are the rollups'.
    pub(crate) table: &'static str,
    /// What a sample is of.
    pub(crate) key: &'static str,
    figures: &'static [Figure],
}

const DISK_TOTAL: &str =
    "(SELECT coalesce(sum((disk->>'total_bytes')::bigint), 0)::bigint FROM jsonb_array_elements(disks) AS disk)";
const DISK_USED: &str =
    "(SELECT coalesce(sum((disk->>'used_bytes')::bigint), 0)::bigint FROM jsonb_array_elements(disks) AS disk)";

/// Hosts.
pub(crate) const HOST: Rollup = Rollup {
    table: "host_metrics",
    key: "host_id",
    figures: &[
        Gauge("cpu_percent", "cpu_percent"),
        Gauge("load_1", "load_1"),
        Gauge("load_5", "load_5"),
        Gauge("load_15", "load_15"),
        Highest("memory_total_bytes", "memory_total_bytes"),
        Gauge("memory_used_bytes", "memory_used_bytes"),
        Gauge("memory_cached_bytes", "memory_cached_bytes"),
        Highest("swap_total_bytes", "swap_total_bytes"),
        Gauge("swap_used_bytes", "swap_used_bytes"),
        Highest("disk_total_bytes", DISK_TOTAL),
        Gauge("disk_used_bytes", DISK_USED),
        Highest("disk_read_bytes", "disk_read_bytes"),
        Highest("disk_write_bytes", "disk_write_bytes"),
        Highest("network_rx_bytes", "network_rx_bytes"),
        Highest("network_tx_bytes", "network_tx_bytes"),
        Gauge("disk_read_bytes_per_second", "disk_read_bytes_per_second"),
        Gauge("disk_write_bytes_per_second", "disk_write_bytes_per_second"),
        Gauge("network_rx_bytes_per_second", "network_rx_bytes_per_second"),
        Gauge("network_tx_bytes_per_second", "network_tx_bytes_per_second"),
        Highest("pressure_cpu_some_percent_max", "pressure_cpu_some_percent"),
        Highest("pressure_memory_some_percent_max", "pressure_memory_some_percent"),
        Highest("pressure_memory_full_percent_max", "pressure_memory_full_percent"),
        Highest("pressure_io_some_percent_max", "pressure_io_some_percent"),
        Highest("pressure_io_full_percent_max", "pressure_io_full_percent"),
    ],
};

/// Pods.
pub(crate) const POD: Rollup = Rollup {
    table: "pod_metrics",
    key: "pod_id",
    figures: &[
        Gauge("cpu_percent", "cpu_percent"),
        Gauge("memory_bytes", "memory_bytes"),
        Highest("memory_limit_bytes", "memory_limit_bytes"),
        Highest("disk_bytes", "disk_bytes"),
        Highest("network_rx_bytes", "network_rx_bytes"),
        Highest("network_tx_bytes", "network_tx_bytes"),
        Highest("block_read_bytes", "block_read_bytes"),
        Highest("block_write_bytes", "block_write_bytes"),
        Gauge("pids", "pids"),
        Highest("throttled_ms", "throttled_ms"),
        Highest("oom_kills", "oom_kills"),
        // Of a pod that moves within the time, one of the two.
        Highest("host_id", "host_id"),
    ],
};

/// Steps are aligned to the clock, not to the question, so that the same question a moment later has the same points.
const BUCKET: &str = "date_bin(make_interval(secs => $4), time, 'epoch'::timestamptz)";
/// What a series is read from: the rollup where it is up to date, and what it is made of where it is not.
const STALE_MINUTES: &str = "SELECT DISTINCT minute FROM rollup_pending WHERE minute >= $2 AND minute < $3";
const STALE_HOURS: &str = "SELECT hour FROM rollup_pending_hour WHERE hour >= $2 AND hour < $3 \
     UNION SELECT date_trunc('hour', minute, 'UTC') FROM rollup_pending WHERE minute >= $2 AND minute < $3";

impl Rollup {
    /// A series of `$1` from `$2` to `$3` in steps of `$4` seconds, from samples.
    pub(crate) fn series_of_samples(&self) -> String {
        let Self { table, key, .. } = self;
        let columns = self.of_samples();
        format!(
            "SELECT {BUCKET} AS time, {columns} FROM {table} WHERE {key} = $1 AND time >= $2 AND time < $3 \
             GROUP BY 1 ORDER BY 1"
        )
    }

    /// The same from rollups of a minute, and from samples where those are behind.
    pub(crate) fn series_of_minutes(&self) -> String {
        let (minutes, columns) = (self.minutes("$2", "$3"), self.of_rollups());
        let fresh = self.of_this_host(STALE_MINUTES);
        format!(
            "WITH stale AS ({fresh}) SELECT {BUCKET} AS time, {columns} FROM ({minutes}) AS minutes \
             GROUP BY 1 ORDER BY 1"
        )
    }

    /// The same from rollups of an hour, and from minutes and samples where those are behind.
    pub(crate) fn series_of_hours(&self) -> String {
        let Self { table, key, .. } = self;
        let (names, columns) = (self.names().join(", "), self.of_rollups());
        let stale_minutes = self.of_this_host(STALE_MINUTES);
        let stale_hours = STALE_HOURS.replace("AND hour <", &format!("{} AND hour <", self.only_this_host()));
        let stale_hours = self.of_this_host(&stale_hours);
        let minutes = self.minutes("hour", "hour + interval '1 hour'");
        format!(
            "WITH stale AS ({stale_minutes}), stale_hours AS ({stale_hours}), hours AS (\
             SELECT DISTINCT ON (time) * FROM (\
             SELECT time, {names} FROM {table}_1h WHERE {key} = $1 AND time >= $2 AND time < $3 UNION ALL \
             SELECT hour AS time, rolled.* FROM stale_hours CROSS JOIN LATERAL \
             (SELECT {columns} FROM ({minutes}) AS minutes HAVING count(*) > 0) AS rolled\
             ) AS merged ORDER BY time, samples DESC) \
             SELECT {BUCKET} AS time, {columns} FROM hours GROUP BY 1 ORDER BY 1"
        )
    }

    /// The minutes of `$1` between two times. Where a minute is stale its samples are read; whichever of the two knows
    /// more samples stands, since the samples may be gone.
    fn minutes(&self, from: &str, to: &str) -> String {
        let Self { table, key, .. } = self;
        let (names, columns) = (self.names().join(", "), self.of_samples());
        format!(
            "SELECT DISTINCT ON (time) * FROM (\
             SELECT time, {names} FROM {table}_1m WHERE {key} = $1 AND time >= {from} AND time < {to} UNION ALL \
             SELECT minute AS time, {columns} FROM stale JOIN {table} ON {key} = $1 \
             AND time >= minute AND time < minute + interval '1 minute' \
             WHERE time >= {from} AND time < {to} AND minute >= {from} AND minute < {to} GROUP BY minute\
             ) AS merged ORDER BY time, samples DESC"
        )
    }

    /// A host's minutes are its own; a pod may have run on any host.
    fn of_this_host(&self, stale: &str) -> String {
        format!("{stale}{}", self.only_this_host())
    }

    fn only_this_host(&self) -> &'static str {
        if self.key == "host_id" { " AND host_id = $1" } else { "" }
    }

    /// The rollup's columns behind key and time.
    fn names(&self) -> Vec<String> {
        let mut names = vec!["samples".to_owned()];
        for figure in self.figures {
            match figure {
                Gauge(name, _) => names.extend([format!("{name}_avg"), format!("{name}_max")]),
                Highest(name, _) => names.push((*name).to_owned()),
            }
        }
        names
    }

    /// The same columns, computed from samples.
    pub(crate) fn of_samples(&self) -> String {
        let mut columns = vec!["count(*) AS samples".to_owned()];
        for figure in self.figures {
            match figure {
                Gauge(name, value) => columns.extend([
                    format!("avg(({value})::double precision) AS {name}_avg"),
                    format!("max({value}) AS {name}_max"),
                ]),
                Highest(name, value) => columns.push(format!("max({value}) AS {name}")),
            }
        }
        columns.join(", ")
    }

    /// The same columns, computed from finer rollups.
    pub(crate) fn of_rollups(&self) -> String {
        let mut columns = vec!["sum(samples)::bigint AS samples".to_owned()];
        for figure in self.figures {
            match figure {
                Gauge(name, _) => columns.extend([
                    format!("sum({name}_avg * samples) / sum(samples) AS {name}_avg"),
                    format!("max({name}_max) AS {name}_max"),
                ]),
                Highest(name, _) => columns.push(format!("max({name}) AS {name}")),
            }
        }
        columns.join(", ")
    }

    /// Computes the minute from `$1` to `$2` of the hosts `$3`, and tells whose rows changed.
    pub(super) fn minute_from_samples(&self) -> String {
        self.statement("1m", &self.of_samples(), self.table)
    }

    /// Computes the hour from `$1` to `$2` of the hosts `$3`, and tells whose rows changed.
    pub(super) fn hour_from_minutes(&self) -> String {
        self.statement("1h", &self.of_rollups(), &format!("{}_1m", self.table))
    }

    /// A row with fewer samples never replaces one with more: then the finer rows were dropped since.
    fn statement(&self, level: &str, columns: &str, source: &str) -> String {
        let Self { table, key, .. } = self;
        let names = self.names();
        let set: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        // A host is found by its key. Pods are found by time, and all rows of one count, also those from another host that
        // it ran on within the time.
        let (from, having) = if *key == "host_id" {
            (format!("{source} WHERE host_id = ANY ($3::text[]) AND"), "")
        } else {
            let join = "LEFT JOIN unnest($3::text[]) AS wanted ON wanted = host_id WHERE";
            (format!("{source} {join}"), "HAVING count(wanted) > 0")
        };
        format!(
            "WITH changed AS (INSERT INTO {table}_{level} AS rolled ({key}, time, {names}) \
             SELECT {key}, $1::timestamptz, {columns} FROM {from} time >= $1 AND time < $2 GROUP BY {key} {having} \
             ON CONFLICT ({key}, time) DO UPDATE SET {set} WHERE rolled.samples <= excluded.samples \
             RETURNING rolled.host_id) SELECT DISTINCT host_id FROM changed",
            names = names.join(", "),
            set = set.join(", "),
        )
    }
}
