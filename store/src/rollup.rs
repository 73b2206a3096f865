//! Rollups of a minute and of an hour, always computed anew from what is below them, so that a sample which comes late,
//! or a run that was cut off, never leaves a wrong figure.
//!
//! Each batch of samples notes the minutes that it changed, in the same transaction. A run takes a bounded number of
//! these notes and computes their minutes and, once all of an hour's minutes are done, the hour: in one transaction,
//! so that a crash leaves the notes where they were. A note that is written meanwhile stays for the next run.

mod columns;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Row};

pub(crate) use columns::{HOST, POD, Rollup};

use crate::{Database, StoreError};

/// One run at a time, over all processes. A statement of its own: what follows must see what the run before committed.
const LOCK: &str = "SELECT pg_try_advisory_xact_lock(hashtext('pinacle.rollup'))";
/// A minute is taken once it is over and its last samples had time to arrive: `$1` is the most notes to take.
const TAKE_MINUTES: &str = "WITH taken AS (DELETE FROM rollup_pending WHERE id IN (\
     SELECT id FROM rollup_pending WHERE minute <= now() - interval '65 seconds' ORDER BY minute LIMIT $1) \
     RETURNING host_id, minute) SELECT DISTINCT host_id, minute FROM taken";
/// An hour is taken once it is over and none of its minutes is behind.
const TAKE_HOURS: &str = "DELETE FROM rollup_pending_hour AS it WHERE (host_id, hour) IN (\
     SELECT host_id, hour FROM rollup_pending_hour WHERE hour <= now() - interval '62 minutes' ORDER BY hour LIMIT $1) \
     AND NOT EXISTS (SELECT FROM rollup_pending WHERE rollup_pending.host_id = it.host_id \
     AND minute >= it.hour AND minute < it.hour + interval '1 hour') RETURNING host_id, hour";
const NOTE_HOURS: &str = "INSERT INTO rollup_pending_hour (host_id, hour) \
     SELECT DISTINCT host_id, $2::timestamptz FROM unnest($1::text[]) AS changed(host_id) ON CONFLICT DO NOTHING";
/// Counted no further than anybody needs to know.
const REMAINING: &str = "SELECT count(*) FROM (SELECT FROM rollup_pending \
     WHERE minute <= now() - interval '65 seconds' LIMIT 1000000) AS waiting";

const MINUTE: TimeDelta = TimeDelta::minutes(1);
const HOUR: TimeDelta = TimeDelta::hours(1);

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RollupDone {
    /// Minutes of a host, with all of its pods, computed.
    pub minutes: u64,
    /// Hours of a host, with all of its pods, computed.
    pub hours: u64,
    /// Notes that are left and could be taken now.
    pub remaining: u64,
    /// Another process is at it; nothing was done.
    pub busy: bool,
}

impl Database {
    /// Brings rollups up to date with the samples, taking at most `limit` notes. Call again at once while something
    /// remains, else on a clock.
    ///
    /// # Errors
    /// See [`StoreErrorKind`](crate::StoreErrorKind); nothing has changed then.
    pub async fn rollup_run(&self, limit: u32) -> Result<RollupDone, StoreError> {
        self.transact("roll samples up", async |connection| {
            if !sqlx::query_scalar::<_, bool>(LOCK).fetch_one(&mut *connection).await? {
                return Ok(RollupDone { busy: true, ..RollupDone::default() });
            }
            let minutes = take(connection, TAKE_MINUTES, limit).await?;
            let mut done = RollupDone::default();
            for (minute, hosts) in minutes {
                done.minutes += u64::try_from(hosts.len()).unwrap_or(u64::MAX);
                let changed = roll_minute(connection, minute, hosts).await?;
                let hour = minute.duration_trunc(HOUR).unwrap_or(minute);
                sqlx::query(NOTE_HOURS).bind(changed).bind(hour).execute(&mut *connection).await?;
            }
            for (hour, hosts) in take(connection, TAKE_HOURS, limit).await? {
                done.hours += u64::try_from(hosts.len()).unwrap_or(u64::MAX);
                let hosts: Vec<String> = hosts.into_iter().collect();
                for rollup in [&HOST, &POD] {
                    let sql = AssertSqlSafe(rollup.hour_from_minutes());
                    sqlx::query(sql).bind(hour).bind(hour + HOUR).bind(&hosts).execute(&mut *connection).await?;
                }
            }
            let remaining: i64 = sqlx::query_scalar(REMAINING).fetch_one(&mut *connection).await?;
            done.remaining = u64::try_from(remaining).unwrap_or(0);
            Ok(done)
        })
        .await
    }
}

/// Takes notes: the hosts of each minute or hour.
async fn take(
    connection: &mut PgConnection,
    sql: &'static str,
    limit: u32,
) -> Result<BTreeMap<DateTime<Utc>, BTreeSet<String>>, sqlx::Error> {
    let mut taken: BTreeMap<DateTime<Utc>, BTreeSet<String>> = BTreeMap::new();
    for row in sqlx::query(sql).bind(i64::from(limit)).fetch_all(connection).await? {
        taken.entry(row.try_get(1)?).or_default().insert(row.try_get(0)?);
    }
    Ok(taken)
}

/// Computes a minute of these hosts and their pods. Returns the hosts whose hours changed: a pod that moved within the
/// minute belongs to another one, too.
async fn roll_minute(
    connection: &mut PgConnection,
    minute: DateTime<Utc>,
    hosts: BTreeSet<String>,
) -> Result<Vec<String>, sqlx::Error> {
    let hosts: Vec<String> = hosts.into_iter().collect();
    let mut changed = hosts.clone();
    for rollup in [&HOST, &POD] {
        let sql = AssertSqlSafe(rollup.minute_from_samples());
        let rows: Vec<String> =
            sqlx::query_scalar(sql).bind(minute).bind(minute + MINUTE).bind(&hosts).fetch_all(&mut *connection).await?;
        changed.extend(rows);
    }
    Ok(changed)
}
