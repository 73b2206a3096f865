//! What is deleted row by row when its time is over, in bounded batches: no long transaction, no long lock. Partitioned
//! tables lose whole days instead; see [`partitions_drop`](crate::Database::partitions_drop).

use chrono::{DateTime, Utc};
use sea_orm::ConnectionTrait;

use crate::{Database, StoreError};

/// What can be too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expiring {
    /// Rollups of an hour.
    HourRollups,
    /// Events of hosts and pods.
    Events,
    /// Requests, and the operations that ended, with their steps.
    Requests,
    /// Records of commands.
    Exec,
    /// Dead letters.
    DeadLetters,
}

impl Expiring {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::HourRollups, Self::Events, Self::Requests, Self::Exec, Self::DeadLetters];

    /// Each deletes at most `$2` rows that are older than `$1`. Rows that another copy is deleting are passed by.
    fn statements(self) -> &'static [&'static str] {
        match self {
            Self::HourRollups => &[
                "DELETE FROM host_metrics_1h WHERE ctid = ANY (ARRAY(SELECT ctid FROM host_metrics_1h \
                 WHERE time < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
                "DELETE FROM pod_metrics_1h WHERE ctid = ANY (ARRAY(SELECT ctid FROM pod_metrics_1h \
                 WHERE time < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
            ],
            Self::Events => &[
                "DELETE FROM host_event WHERE ctid = ANY (ARRAY(SELECT ctid FROM host_event \
                 WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
                "DELETE FROM pod_event WHERE ctid = ANY (ARRAY(SELECT ctid FROM pod_event \
                 WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
            ],
            Self::Requests => &[
                "DELETE FROM request WHERE ctid = ANY (ARRAY(SELECT ctid FROM request \
                 WHERE requested_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
                "WITH gone AS (DELETE FROM operation WHERE ctid = ANY (ARRAY(SELECT ctid FROM operation \
                 WHERE started_at < $1 AND ended_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING operation_id), \
                 steps AS (DELETE FROM operation_step USING gone WHERE operation_step.operation_id = gone.operation_id) \
                 SELECT FROM gone",
            ],
            Self::Exec => &["DELETE FROM exec_log WHERE ctid = ANY (ARRAY(SELECT ctid FROM exec_log \
                 WHERE started_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))"],
            Self::DeadLetters => &["DELETE FROM dead_letter WHERE ctid = ANY (ARRAY(SELECT ctid FROM dead_letter \
                 WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))"],
        }
    }
}

impl Database {
    /// Deletes what is older than `before`, at most `limit` rows of each table. Returns how many went; call again while
    /// that is not zero.
    ///
    /// # Errors
    /// See [`StoreErrorKind`](crate::StoreErrorKind). What was deleted before the fault is gone.
    pub async fn expired_delete(&self, what: Expiring, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for sql in what.statements() {
            let statement = Self::statement(sql, [before.into(), i64::from(limit).into()]);
            let result = self.within("delete what is too old", self.orm().execute_raw(statement)).await?;
            deleted += result.rows_affected();
        }
        Ok(deleted)
    }
}
