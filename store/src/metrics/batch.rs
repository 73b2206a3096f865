//! Rows on their way to Postgres, already in its binary form.

use std::collections::HashSet;

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Utc};

use super::{
    HostMetricRow, PodMetricRow,
    encode::{COPY_HEADER, COPY_TRAILER, Field, OutOfRange},
};
use crate::{StoreError, StoreErrorKind};

const MINUTE_MS: i64 = 60_000;

/// Samples to write at once. Cleared, it keeps its buffers for the next.
#[derive(Debug)]
pub struct MetricsBatch {
    hosts: BytesMut,
    pods: BytesMut,
    host_rows: usize,
    pod_rows: usize,
    /// The minutes, in milliseconds since 1970 and by host, whose rollups these samples change.
    minutes: HashSet<(String, i64)>,
    /// The one noted last: a sample's pods follow it, and share it.
    noted: (String, i64),
}

impl Default for MetricsBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl MetricsBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self {
            hosts: COPY_HEADER.into(),
            pods: COPY_HEADER.into(),
            host_rows: 0,
            pod_rows: 0,
            minutes: HashSet::new(),
            noted: (String::new(), 0),
        }
    }

    /// Adds a host's sample.
    ///
    /// # Errors
    /// [`StoreErrorKind::Data`] when a value does not fit its column; the batch is then as before.
    pub fn push_host(&mut self, row: &HostMetricRow<'_>) -> Result<(), StoreError> {
        put(&mut self.hosts, |out| row.put(out))?;
        self.host_rows += 1;
        self.note(row.host_id, row.time);
        Ok(())
    }

    /// Adds a pod's sample.
    ///
    /// # Errors
    /// As for [`push_host`](Self::push_host).
    pub fn push_pod(&mut self, row: &PodMetricRow<'_>) -> Result<(), StoreError> {
        put(&mut self.pods, |out| row.put(out))?;
        self.pod_rows += 1;
        self.note(row.host_id, row.time);
        Ok(())
    }

    fn note(&mut self, host_id: &str, time: DateTime<Utc>) {
        let minute = time.timestamp_millis().div_euclid(MINUTE_MS) * MINUTE_MS;
        if self.noted.1 == minute && self.noted.0 == host_id {
            return;
        }
        self.noted = (host_id.to_owned(), minute);
        self.minutes.insert(self.noted.clone());
    }

    /// Adds all of another batch's rows.
    pub fn append(&mut self, other: &Self) {
        for (to, from) in [(&mut self.hosts, &other.hosts), (&mut self.pods, &other.pods)] {
            to.extend_from_slice(from.get(COPY_HEADER.len()..).unwrap_or_default());
        }
        self.host_rows += other.host_rows;
        self.pod_rows += other.pod_rows;
        self.minutes.extend(other.minutes.iter().cloned());
    }

    /// Hosts' samples in it.
    pub fn host_rows(&self) -> usize {
        self.host_rows
    }

    /// Pods' samples in it.
    pub fn pod_rows(&self) -> usize {
        self.pod_rows
    }

    /// All rows in it.
    pub fn rows(&self) -> usize {
        self.host_rows + self.pod_rows
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// What it takes on the wire.
    pub fn bytes(&self) -> usize {
        self.hosts.len() + self.pods.len()
    }

    /// Empties it for the next rows.
    pub fn clear(&mut self) {
        self.hosts.truncate(COPY_HEADER.len());
        self.pods.truncate(COPY_HEADER.len());
        (self.host_rows, self.pod_rows) = (0, 0);
        self.minutes.clear();
        self.noted = (String::new(), 0);
    }

    pub(super) fn host_copy(&self) -> &[u8] {
        &self.hosts
    }

    pub(super) fn pod_copy(&self) -> &[u8] {
        &self.pods
    }

    /// The minutes as rows of `rollup_pending`, trailer included.
    pub(super) fn pending_copy(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        out.clear();
        out.put_slice(COPY_HEADER);
        for (host_id, minute) in &self.minutes {
            out.put_u16(2);
            host_id.as_str().put(out)?;
            DateTime::from_timestamp_millis(*minute).ok_or(OutOfRange)?.put(out)?;
        }
        out.put_slice(COPY_TRAILER);
        Ok(())
    }
}

/// Writes a row, or leaves the buffer as it was.
fn put(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> Result<(), OutOfRange>) -> Result<(), StoreError> {
    let before = out.len();
    write(out).map_err(|fault| {
        out.truncate(before);
        StoreError::with_source("encode a sample", StoreErrorKind::Data, fault)
    })
}
