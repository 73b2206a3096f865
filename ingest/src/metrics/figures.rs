//! What the pipeline counts. Handles are looked up once, since a sample passes here a hundred thousand times a second.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use pinacle_bus::contract::Timestamp;
use pinacle_store::Written;

/// The handles. Cheap to clone.
#[derive(Clone)]
pub struct Figures {
    host_rows: Counter,
    pod_rows: Counter,
    duplicates: Counter,
    batches: Counter,
    retries: Counter,
    lag: Histogram,
    write: Histogram,
    pending: Gauge,
}

impl Figures {
    /// Registers all of them, so that they show before the first sample.
    pub fn new() -> Self {
        for reason in Reason::ALL {
            counter!("pinacle_ingest_dead_letters_total", "reason" => reason.as_str()).absolute(0);
        }
        Self {
            host_rows: counter!("pinacle_ingest_rows_total", "table" => "host_metrics"),
            pod_rows: counter!("pinacle_ingest_rows_total", "table" => "pod_metrics"),
            duplicates: counter!("pinacle_ingest_duplicates_total"),
            batches: counter!("pinacle_ingest_batches_total"),
            retries: counter!("pinacle_ingest_retries_total"),
            lag: histogram!("pinacle_ingest_lag_seconds"),
            write: histogram!("pinacle_ingest_write_seconds"),
            pending: gauge!("pinacle_ingest_pending_messages"),
        }
    }

    /// A batch was committed.
    pub fn written(&self, written: Written, took: Duration) {
        self.batches.increment(1);
        self.host_rows.increment(written.host_rows);
        self.pod_rows.increment(written.pod_rows);
        self.duplicates.increment(written.duplicates);
        self.write.record(took);
    }

    /// A message was committed that the stream took in at `published_at`.
    pub fn committed(&self, now: Timestamp, published_at: Timestamp) {
        // The bus's clock and ours may differ: no lag is less than none.
        let milliseconds = now.as_millis().saturating_sub(published_at.as_millis()).max(0);
        self.lag.record(milliseconds as f64 / 1000.0);
    }

    /// A batch failed and is written again.
    pub fn retried(&self) {
        self.retries.increment(1);
    }

    /// How many messages wait on the bus.
    pub fn pending(&self, messages: u64) {
        self.pending.set(messages as f64);
    }

    /// A message became a dead letter, or a part of it did.
    pub fn dead(&self, reason: Reason) {
        counter!("pinacle_ingest_dead_letters_total", "reason" => reason.as_str()).increment(1);
    }
}

/// The kinds of reasons for which samples become dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not JSON of the right shape.
    Malformed,
    /// A value that cannot be true.
    OutOfRange,
    /// Longer than a message may be.
    TooLarge,
    /// Written by a newer release.
    NewerSchema,
    /// The subject names another host than the message.
    WrongSubject,
    /// Its time is too far ahead.
    Future,
    /// Its time is older than samples are kept.
    TooOld,
    /// Nobody knows its host.
    UnknownHost,
    /// A pod of it runs on another host.
    PodElsewhere,
    /// Postgres refuses it.
    Refused,
}

impl Reason {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::OutOfRange,
        Self::TooLarge,
        Self::NewerSchema,
        Self::WrongSubject,
        Self::Future,
        Self::TooOld,
        Self::UnknownHost,
        Self::PodElsewhere,
        Self::Refused,
    ];

    /// As in the figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OutOfRange => "out_of_range",
            Self::TooLarge => "too_large",
            Self::NewerSchema => "newer_schema",
            Self::WrongSubject => "wrong_subject",
            Self::Future => "future",
            Self::TooOld => "too_old",
            Self::UnknownHost => "unknown_host",
            Self::PodElsewhere => "pod_elsewhere",
            Self::Refused => "refused",
        }
    }
}
