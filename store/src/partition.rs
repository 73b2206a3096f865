//! The days of the partitioned tables. They are made ahead of the samples and dropped when their time is over, without
//! ever making a writer wait: a day is made apart and then attached, and is detached concurrently before it is dropped.
//! Any number of processes may call at once; one works and the others return.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use sqlx::{Connection, PgConnection, Row};

use crate::{Database, StoreError};

/// Held by whoever makes or drops days.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtext('pinacle.partitions'))";
const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtext('pinacle.partitions'))";
/// A lock that is not to be had soon is left for the next round. Longer than Postgres's `deadlock_timeout`, after which an
/// automatic vacuum gives way.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '3s'";
/// A day's rows are only ever added, which alone does not make Postgres summarise its block-range index in time.
const STORAGE: &str = "autovacuum_vacuum_insert_threshold = 1000000, autovacuum_vacuum_insert_scale_factor = 0";
/// Dropping waits for the transactions that still see the day.
const DETACH_TIMEOUT: Duration = Duration::from_secs(20);

/// The tables that are partitioned by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Partitioned {
    /// Samples as they came.
    Raw,
    /// Rollups of a minute.
    Minute,
}

impl Partitioned {
    const ALL: [Self; 2] = [Self::Raw, Self::Minute];

    fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Raw => ["host_metrics", "pod_metrics"],
            Self::Minute => ["host_metrics_1m", "pod_metrics_1m"],
        }
    }
}

/// One day of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The partitioned table.
    pub table: &'static str,
    /// The day, in UTC.
    pub day: NaiveDate,
}

impl Partition {
    fn name(&self) -> String {
        format!("{}_{}", self.table, self.day.format("%Y%m%d"))
    }
}

/// What a call did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionsChanged {
    /// Days made or dropped, counted for each table.
    pub changed: usize,
    /// Days left for the next call: somebody else is at work, or a lock was not to be had.
    pub left: usize,
}

impl Database {
    /// The days that there are, oldest first.
    ///
    /// # Errors
    /// See [`StoreErrorKind`](crate::StoreErrorKind).
    pub async fn partitions_list(&self, kind: Partitioned) -> Result<Vec<Partition>, StoreError> {
        const QUERY: &str = "list partitions";
        let mut connection = self.within(QUERY, self.pool().acquire()).await?;
        let mut days = Vec::new();
        for table in kind.tables() {
            days.extend(self.within(QUERY, attached(&mut connection, table)).await?.into_iter().map(|(day, _)| day));
        }
        days.sort_by_key(|partition| (partition.day, partition.table));
        Ok(days)
    }

    /// Makes every day from `from` to `to`, both included, of samples and of minutes. Days that are there stay as they
    /// are; a day half made by a process that died is finished.
    ///
    /// # Errors
    /// See [`StoreErrorKind`](crate::StoreErrorKind). Days made before the fault stay.
    pub async fn partitions_ensure(&self, from: NaiveDate, to: NaiveDate) -> Result<PartitionsChanged, StoreError> {
        let days: Vec<NaiveDate> = from.iter_days().take_while(|day| *day <= to).collect();
        self.under_lock("make partitions", async |connection| {
            let mut done = PartitionsChanged::default();
            for table in Partitioned::ALL.into_iter().flat_map(Partitioned::tables) {
                let there: Vec<NaiveDate> = attached(connection, table).await?.iter().map(|(it, _)| it.day).collect();
                for day in days.iter().filter(|day| !there.contains(day)) {
                    let made = make(connection, &Partition { table, day: *day }).await;
                    count(&mut done, table, *day, made)?;
                }
            }
            Ok(done)
        })
        .await
    }

    /// Drops every day of `kind` before `before`.
    ///
    /// # Errors
    /// See [`StoreErrorKind`](crate::StoreErrorKind). Days dropped before the fault are gone.
    pub async fn partitions_drop(&self, kind: Partitioned, before: NaiveDate) -> Result<PartitionsChanged, StoreError> {
        self.under_lock("drop partitions", async |connection| {
            let mut done = PartitionsChanged::default();
            for table in kind.tables() {
                for (partition, detaching) in attached(connection, table).await? {
                    if partition.day < before {
                        let dropped = drop_day(connection, &partition, detaching).await;
                        count(&mut done, table, partition.day, dropped)?;
                    }
                }
                drop_detached(connection, table, before).await?;
            }
            Ok(done)
        })
        .await
    }

    /// Runs `work` on a connection of its own that holds the lock, unless another process does. The connection is closed
    /// afterwards, and the lock and the settings with it.
    async fn under_lock(
        &self,
        query: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<PartitionsChanged, sqlx::Error>,
    ) -> Result<PartitionsChanged, StoreError> {
        let connection = self.within(query, self.pool().acquire()).await?;
        let mut connection = connection.detach();
        let result = self
            .within(query, async {
                let locked: bool = sqlx::query_scalar(LOCK).fetch_one(&mut connection).await?;
                if !locked {
                    return Ok::<_, sqlx::Error>(PartitionsChanged { changed: 0, left: 1 });
                }
                sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut connection).await?;
                let done = work(&mut connection).await?;
                sqlx::raw_sql(UNLOCK).execute(&mut connection).await?;
                Ok(done)
            })
            .await;
        // Whatever the work left behind on the connection, the server lets go of it when it closes.
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
        result
    }
}

/// A lock that was not to be had leaves a day for the next call; any other fault ends this one.
fn count(
    done: &mut PartitionsChanged,
    table: &str,
    day: NaiveDate,
    result: Result<(), sqlx::Error>,
) -> Result<(), sqlx::Error> {
    match result {
        Ok(()) => done.changed += 1,
        Err(sqlx::Error::Database(fault)) if matches!(fault.code().as_deref(), Some("55P03" | "57014")) => {
            tracing::info!(table, %day, reason = fault.message(), "leave a partition for later");
            done.left += 1;
        }
        Err(fault) => return Err(fault),
    }
    Ok(())
}

/// The days of a table, with whether their detaching was begun and not ended.
async fn attached(connection: &mut PgConnection, table: &'static str) -> Result<Vec<(Partition, bool)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT child.relname::text, inhdetachpending FROM pg_inherits \
         JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = $1::regclass ORDER BY 1",
    )
    .bind(table)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .filter_map(|row| match row.try_get::<String, _>(0) {
            Ok(name) => day_of(table, &name).map(|partition| row.try_get(1).map(|detaching| (partition, detaching))),
            Err(fault) => Some(Err(fault)),
        })
        .collect()
}

fn day_of(table: &'static str, name: &str) -> Option<Partition> {
    let day = name.strip_prefix(table)?.strip_prefix('_')?;
    NaiveDate::parse_from_str(day, "%Y%m%d").ok().map(|day| Partition { table, day })
}

/// Names are ours and days are numbers, so that nothing needs quoting.
async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Attaching a table that was made apart takes a lock that lets writers and readers of the parent go on; making the
/// table as a partition would not.
async fn make(connection: &mut PgConnection, partition: &Partition) -> Result<(), sqlx::Error> {
    let Partition { table, day } = partition;
    let name = partition.name();
    let next = *day + Days::new(1);
    let mut transaction = connection.begin().await?;
    let create = format!("CREATE TABLE IF NOT EXISTS {name} (LIKE {table} INCLUDING ALL) WITH ({STORAGE})");
    run(&mut transaction, create).await?;
    let attach = format!(
        "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{day} 00:00:00+00') TO ('{next} 00:00:00+00')"
    );
    run(&mut transaction, attach).await?;
    transaction.commit().await
}

async fn drop_day(connection: &mut PgConnection, partition: &Partition, detaching: bool) -> Result<(), sqlx::Error> {
    let (table, name) = (partition.table, partition.name());
    // Unlike a plain DROP this never asks for a lock that stops the parent's writers. It has two steps of its own, and a
    // process that dies between them leaves the second to the next.
    let how = if detaching { "FINALIZE" } else { "CONCURRENTLY" };
    let timeout = DETACH_TIMEOUT.as_millis();
    run(connection, format!("SET statement_timeout = {timeout}")).await?;
    run(connection, format!("ALTER TABLE {table} DETACH PARTITION {name} {how}")).await?;
    run(connection, format!("DROP TABLE {name}")).await
}

/// Days that were detached by a process that died before it dropped them.
async fn drop_detached(
    connection: &mut PgConnection,
    table: &'static str,
    before: NaiveDate,
) -> Result<(), sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND NOT relispartition \
         AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = $1::regclass) \
         AND relname ~ ('^' || $1 || '_[0-9]{8}$')",
    )
    .bind(table)
    .fetch_all(&mut *connection)
    .await?;
    for partition in names.iter().filter_map(|name| day_of(table, name)).filter(|partition| partition.day < before) {
        run(connection, format!("DROP TABLE IF EXISTS {}", partition.name())).await?;
    }
    Ok(())
}
