//! What can be set; `default.toml` documents each key.

use std::time::Duration;

use pinacle_bus::{
    service::ServiceSettings,
    settings::{
        AdminSettings, BUS_DEFAULTS, BusSettings, DATABASE_DEFAULTS, DatabaseSettings, LOG_DEFAULTS, LogSettings,
        Settings,
    },
};
use serde::{Deserialize, Serialize};

/// The sections that ingest reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each section is documented in its TOML file, which people read")]
pub struct IngestProgram {
    pub bus: BusSettings,
    pub log: LogSettings,
    pub admin: AdminSettings,
    pub database: DatabaseSettings,
    pub ingest: IngestSettings,
}

/// `[ingest]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented in default.toml, which people read")]
pub struct IngestSettings {
    pub batch_rows: usize,
    pub batch_age_ms: u64,
    pub writers: usize,
    pub prefetch: usize,
    pub projections_at_once: usize,
    pub future_tolerance_s: u64,
    pub unknown_host_grace_s: u64,
    pub rollup_interval_ms: u64,
    pub rollup_batch: u64,
    pub retention_interval_s: u64,
    pub raw_days: u32,
    pub minute_days: u32,
    pub hour_days: u32,
    pub event_days: u32,
    pub exec_days: u32,
    pub request_days: u32,
    pub dead_letter_days: u32,
}

impl IngestSettings {
    /// The longest that the first sample of a batch waits while nothing else is being written.
    pub fn batch_age(&self) -> Duration {
        Duration::from_millis(self.batch_age_ms)
    }

    /// What the types cannot say.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(format!("ingest.{key}: is {value}, must be from {least} to {most}"));
            }
        };
        within("batch_rows", self.batch_rows as u64, 1, 200_000);
        within("batch_age_ms", self.batch_age_ms, 1, 10_000);
        within("writers", self.writers as u64, 1, 16);
        within("prefetch", self.prefetch as u64, 1, 10_000);
        within("projections_at_once", self.projections_at_once as u64, 1, 256);
        within("future_tolerance_s", self.future_tolerance_s, 60, 86_400);
        within("unknown_host_grace_s", self.unknown_host_grace_s, 1, 3600);
        within("rollup_interval_ms", self.rollup_interval_ms, 100, 3_600_000);
        within("rollup_batch", self.rollup_batch, 1, 100_000);
        within("retention_interval_s", self.retention_interval_s, 1, 86_400);
        for (key, days) in [
            ("raw_days", self.raw_days),
            ("minute_days", self.minute_days),
            ("hour_days", self.hour_days),
            ("event_days", self.event_days),
            ("exec_days", self.exec_days),
            ("request_days", self.request_days),
            ("dead_letter_days", self.dead_letter_days),
        ] {
            within(key, days.into(), 1, 36_500);
        }
        if self.raw_days > self.minute_days {
            faults.push(format!(
                "ingest.minute_days: is {}, must not be less than ingest.raw_days, which is {}",
                self.minute_days, self.raw_days
            ));
        }
        if self.minute_days > self.hour_days {
            faults.push(format!(
                "ingest.hour_days: is {}, must not be less than ingest.minute_days, which is {}",
                self.hour_days, self.minute_days
            ));
        }
        faults
    }
}

impl Settings for IngestProgram {
    const DEFAULTS: &'static [&'static str] =
        &[include_str!("../default.toml"), BUS_DEFAULTS, DATABASE_DEFAULTS, LOG_DEFAULTS];

    fn faults(&self) -> Vec<String> {
        [self.bus.faults(), self.admin.faults(), self.database.faults(), self.ingest.faults()].concat()
    }
}

impl ServiceSettings for IngestProgram {
    fn log(&self) -> &LogSettings {
        &self.log
    }

    fn admin(&self) -> &AdminSettings {
        &self.admin
    }

    fn bus(&self) -> &BusSettings {
        &self.bus
    }
}

#[cfg(test)]
mod tests {
    use pinacle_bus::settings::load;

    use super::*;

    fn faults(pairs: &[(&str, &str)]) -> Vec<String> {
        let environment = pairs.iter().map(|(key, value)| (format!("PINACLE__INGEST__{key}"), (*value).to_owned()));
        load::<IngestProgram>(None, environment).map_or_else(|error| error.faults, |_| Vec::new())
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(faults(&[]), [""; 0]);
    }

    #[test]
    fn rollups_may_not_be_kept_for_less_than_what_they_are_made_of() {
        let found = faults(&[("RAW_DAYS", "100"), ("HOUR_DAYS", "80")]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|fault| fault.contains("minute_days")), "{found:?}");
        assert!(found.iter().any(|fault| fault.contains("hour_days")), "{found:?}");
    }

    #[test]
    fn values_outside_their_range_are_all_reported() {
        let found = faults(&[("BATCH_ROWS", "0"), ("PREFETCH", "1000000"), ("RAW_DAYS", "0")]);
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
