//! What was published, counted exactly: a thing counts once the bus has acknowledged it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use pinacle_bus::contract::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::{SimArgs, faults::Faults};
use crate::{failure::Failure, figures, terminal::Terminal};

/// Counters that all connections share.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub heartbeats: AtomicU64,
    pub farewells: AtomicU64,
    pub inventories: AtomicU64,
    pub samples: AtomicU64,
    pub pod_samples: AtomicU64,
    pub late: AtomicU64,
    pub duplicates_same_id: AtomicU64,
    pub duplicates_other_id: AtomicU64,
    pub malformed: AtomicU64,
    pub gone: AtomicU64,
    pub skipped: AtomicU64,
    pub lost: AtomicU64,
    pub failures: AtomicU64,
    pub bytes: AtomicU64,
    pub most_behind_ms: AtomicU64,
    behind_ms: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Tally {
    /// Samples and bytes so far.
    pub fn published(&self) -> (u64, u64) {
        (self.samples.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// Something was done so long after its time.
    pub fn behind(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.behind_ms.fetch_max(ms, Relaxed);
        self.most_behind_ms.fetch_max(ms, Relaxed);
    }

    /// The longest delay since the last call.
    pub fn take_behind_ms(&self) -> u64 {
        self.behind_ms.swap(0, Relaxed)
    }
}

/// What is said at the end.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    hosts: u32,
    pods_per_host: u32,
    interval_ms: u64,
    seed: u64,
    connections: u32,
    faults: Faults,
    began_at: Timestamp,
    seconds: f64,
    interrupted: bool,
    heartbeats: u64,
    farewells: u64,
    inventories: u64,
    /// Messages to METRICS, whatever was in them.
    metrics_messages: u64,
    /// Distinct samples: what `host_metrics` must hold.
    samples: u64,
    /// Distinct samples of pods: what `pod_metrics` must hold.
    pod_samples: u64,
    late: u64,
    duplicates_same_id: u64,
    duplicates_other_id: u64,
    malformed: u64,
    gone_hosts: u64,
    skipped_samples: u64,
    lost_samples: u64,
    failed_attempts: u64,
    bytes: u64,
    most_behind_ms: u64,
}

impl Report {
    pub fn new(
        args: &SimArgs,
        connections: u32,
        tally: &Tally,
        began: (Instant, Timestamp),
        interrupted: bool,
    ) -> Self {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        Self {
            hosts: args.hosts,
            pods_per_host: args.pods,
            interval_ms: u64::try_from(args.interval.as_millis()).unwrap_or(u64::MAX),
            seed: args.seed,
            connections,
            faults: args.faults,
            began_at: began.1,
            seconds: began.0.elapsed().as_secs_f64(),
            interrupted,
            heartbeats: of(&tally.heartbeats),
            farewells: of(&tally.farewells),
            inventories: of(&tally.inventories),
            metrics_messages: of(&tally.samples)
                + of(&tally.duplicates_same_id)
                + of(&tally.duplicates_other_id)
                + of(&tally.malformed),
            samples: of(&tally.samples),
            pod_samples: of(&tally.pod_samples),
            late: of(&tally.late),
            duplicates_same_id: of(&tally.duplicates_same_id),
            duplicates_other_id: of(&tally.duplicates_other_id),
            malformed: of(&tally.malformed),
            gone_hosts: of(&tally.gone),
            skipped_samples: of(&tally.skipped),
            lost_samples: of(&tally.lost),
            failed_attempts: of(&tally.failures),
            bytes: of(&tally.bytes),
            most_behind_ms: of(&tally.most_behind_ms),
        }
    }

    /// For people.
    pub fn print(&self, terminal: &Terminal) -> Result<(), Failure> {
        let mut lines = vec![
            ("hosts", self.hosts.to_string()),
            ("time", format!("{:.1} s", self.seconds)),
            ("samples", format!("{} ({} of pods)", self.samples, self.pod_samples)),
            ("messages of samples", format!("{}, {}", self.metrics_messages, figures::bytes(self.bytes))),
            ("heartbeats", format!("{} and {} farewells", self.heartbeats, self.farewells)),
            ("inventories", self.inventories.to_string()),
        ];
        for (name, number) in [
            ("sent late", self.late),
            ("sent twice, same id", self.duplicates_same_id),
            ("sent twice, other id", self.duplicates_other_id),
            ("malformed", self.malformed),
            ("hosts gone", self.gone_hosts),
            ("skipped: too slow", self.skipped_samples),
            ("lost: bus away", self.lost_samples),
            ("failed attempts", self.failed_attempts),
        ] {
            if number > 0 {
                lines.push((name, number.to_string()));
            }
        }
        if self.most_behind_ms >= 100 {
            lines.push(("most behind", format!("{:.1} s", self.most_behind_ms as f64 / 1000.0)));
        }
        terminal.text(&lines.iter().map(|(name, value)| format!("{name:<22}{value}\n")).collect::<String>())
    }
}
