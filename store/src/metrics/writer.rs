//! A batch into the tables in one transaction: all of it or nothing, and nothing twice.
//!
//! The fast path copies straight into the tables. When a row is there already, Postgres refuses the whole batch, which
//! is then done again by way of a temporary table and `ON CONFLICT DO NOTHING`: a duplicate costs the batch that it is
//! in, and no other. Whatever crashes, a batch that is written again changes nothing that is there.

use bytes::BytesMut;
use sqlx::PgConnection;

use super::{HostMetricRow, MetricsBatch, PodMetricRow, encode::COPY_TRAILER};
use crate::{Database, StoreError, StoreErrorKind};

/// How much is handed to the connection at once: its buffer stays small, and Postgres reads while we write.
const CHUNK: usize = 256 * 1024;
/// How often a batch is tried when another writer's lock stands against it.
const MOST_TRIES: u32 = 5;
const DEADLOCK: &str = "40P01";

/// Writes batches, one at a time. Any number of writers may be at work, in any process.
#[derive(Debug)]
pub struct MetricsWriter {
    database: Database,
    batch: MetricsBatch,
    pending: BytesMut,
}

/// What a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Hosts' samples that are new.
    pub host_rows: u64,
    /// Pods' samples that are new.
    pub pod_rows: u64,
    /// Rows that were there already.
    pub duplicates: u64,
}

impl MetricsWriter {
    /// A writer on the database's pool.
    pub fn new(database: Database) -> Self {
        Self { database, batch: MetricsBatch::new(), pending: BytesMut::new() }
    }

    /// Encodes and writes rows. Callers with much to write fill [`MetricsBatch`]es and call
    /// [`write_batch`](Self::write_batch), which lets encoding and writing overlap.
    ///
    /// # Errors
    /// As for [`write_batch`](Self::write_batch) and [`MetricsBatch::push_host`].
    pub async fn write(
        &mut self,
        hosts: &[HostMetricRow<'_>],
        pods: &[PodMetricRow<'_>],
    ) -> Result<Written, StoreError> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let pushed = hosts
            .iter()
            .try_for_each(|row| batch.push_host(row))
            .and_then(|()| pods.iter().try_for_each(|row| batch.push_pod(row)));
        let written = match pushed {
            Ok(()) => self.write_batch(&batch).await,
            Err(error) => Err(error),
        };
        self.batch = batch;
        written
    }

    /// Writes a batch: when this returns `Ok`, it is committed, each of its rows is in its table once, and the rollups
    /// know which minutes to compute again.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`]: nothing is written, or all of it and the answer was lost; write it again.
    /// [`StoreErrorKind::NoPartition`] and [`StoreErrorKind::Data`]: nothing is written, and it will not be as it is.
    pub async fn write_batch(&mut self, batch: &MetricsBatch) -> Result<Written, StoreError> {
        if batch.is_empty() {
            return Ok(Written::default());
        }
        batch
            .pending_copy(&mut self.pending)
            .map_err(|fault| StoreError::with_source("encode a minute", StoreErrorKind::Data, fault))?;
        let pending = &self.pending[..];
        let fast =
            self.database.transact("write samples", async |connection| copy_all(connection, batch, pending).await);
        match fast.await {
            Ok(written) => Ok(written),
            Err(error) if is_in_the_way(&error) => self.write_around_duplicates(batch).await,
            Err(error) => Err(error),
        }
    }

    async fn write_around_duplicates(&self, batch: &MetricsBatch) -> Result<Written, StoreError> {
        let pending = &self.pending[..];
        let mut tries = 1;
        loop {
            let query = "write samples around duplicates";
            let result =
                self.database.transact(query, async |connection| stage_all(connection, batch, pending).await).await;
            match result {
                Err(error) if is_deadlock(&error) && tries < MOST_TRIES => tries += 1,
                result => return result,
            }
        }
    }
}

/// Whether the rows themselves are fine, and only others like them stand in the way.
fn is_in_the_way(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Conflict { .. }) || is_deadlock(error)
}

fn is_deadlock(error: &StoreError) -> bool {
    error.state().as_deref() == Some(DEADLOCK)
}

async fn copy_all(connection: &mut PgConnection, batch: &MetricsBatch, pending: &[u8]) -> Result<Written, sqlx::Error> {
    let mut written = Written::default();
    if batch.host_rows() > 0 {
        written.host_rows = copy(connection, HostMetricRow::COPY, batch.host_copy(), COPY_TRAILER).await?;
    }
    if batch.pod_rows() > 0 {
        written.pod_rows = copy(connection, PodMetricRow::COPY, batch.pod_copy(), COPY_TRAILER).await?;
    }
    copy_pending(connection, pending).await?;
    Ok(written)
}

async fn stage_all(
    connection: &mut PgConnection,
    batch: &MetricsBatch,
    pending: &[u8],
) -> Result<Written, sqlx::Error> {
    let mut written = Written::default();
    if batch.host_rows() > 0 {
        stage("host_metrics", connection).await?;
        copy(connection, HostMetricRow::COPY_STAGED, batch.host_copy(), COPY_TRAILER).await?;
        written.host_rows = sqlx::query(HostMetricRow::UNSTAGE).execute(&mut *connection).await?.rows_affected();
    }
    if batch.pod_rows() > 0 {
        stage("pod_metrics", connection).await?;
        copy(connection, PodMetricRow::COPY_STAGED, batch.pod_copy(), COPY_TRAILER).await?;
        written.pod_rows = sqlx::query(PodMetricRow::UNSTAGE).execute(&mut *connection).await?.rows_affected();
    }
    copy_pending(connection, pending).await?;
    let rows = u64::try_from(batch.rows()).unwrap_or(u64::MAX);
    written.duplicates = rows.saturating_sub(written.host_rows + written.pod_rows);
    Ok(written)
}

/// A temporary table like `table`, without its keys, for this transaction.
async fn stage(table: &'static str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = format!("CREATE TEMPORARY TABLE staged_{table} (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

async fn copy_pending(connection: &mut PgConnection, pending: &[u8]) -> Result<(), sqlx::Error> {
    copy(connection, "COPY rollup_pending (host_id, minute) FROM STDIN (FORMAT binary)", pending, &[]).await.map(drop)
}

async fn copy(
    connection: &mut PgConnection,
    statement: &'static str,
    rows: &[u8],
    trailer: &[u8],
) -> Result<u64, sqlx::Error> {
    let mut copy = connection.copy_in_raw(statement).await?;
    for chunk in rows.chunks(CHUNK) {
        copy.send(chunk).await?;
    }
    if !trailer.is_empty() {
        copy.send(trailer).await?;
    }
    copy.finish().await
}
