//! The bus's facts as rows. Every call may come twice, and late: a row carries the sequence of the message that it is
//! from, and an older message never changes what a newer one wrote. A replay of the bus writes the same rows again.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, Insert, IntoActiveModel,
    Iterable, PrimaryKeyToColumn, QueryFilter, TransactionTrait,
    sea_query::{Alias, Expr, ExprTrait, IntoColumnRef, OnConflict},
};
use serde_json::Value;

use crate::{
    Database, DeadLetterRow, ExecRow, HostEventRow, HostRow, OperationRow, OperationStepRow, PodEventRow, PodRow,
    RequestRow, StoreError,
    entity::{dead_letter, exec_log, host, host_event, operation, operation_step, pod, pod_event, request},
    error::Query,
};

/// What a projection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The row is new, or newer than before.
    Written,
    /// A newer message, or this one, was there before.
    Stale,
    /// What it refers to has no row, yet or any more.
    Missing,
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It was sent again.
    Resent,
    /// It was dropped.
    Dropped,
}

/// Tables whose rows are replaced by newer messages of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replaced {
    /// `host`, from the change feed of the live records.
    Hosts,
    /// `pod`, from the change feed of the live records.
    Pods,
    /// `operation`, from the events.
    Operations,
    /// `exec_log`.
    Exec,
}

impl Replaced {
    fn name(self) -> &'static str {
        match self {
            Self::Hosts => "host",
            Self::Pods => "pod",
            Self::Operations => "operation",
            Self::Exec => "exec_log",
        }
    }
}

impl Database {
    /// The highest stream sequence that a row of the table carries; 0 when it is empty. When the stream itself has not
    /// come so far, the bus was lost and began anew: see [`sequences_rebase`](Self::sequences_rebase). Ask here first
    /// and the stream second, so that what is projected meanwhile is not mistaken for that.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn sequence_highest(&self, table: Replaced) -> Result<i64, StoreError> {
        let sql = format!("SELECT COALESCE(max(stream_sequence), 0) AS highest FROM {}", table.name());
        let statement = Self::statement(&sql, []);
        let row = self.within("look up the highest sequence", self.orm().query_one_raw(statement)).await?;
        row.map_or(Ok(0), |row| row.try_get("", "highest")).query("look up the highest sequence")
    }

    /// Makes rows replaceable again after the bus was lost and began anew: its sequences count from one, below those
    /// that the rows carry. `newest` is the last sequence that the stream has now; rows beyond it are from the stream
    /// before. Returns how many there were.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn sequences_rebase(&self, table: Replaced, newest: i64) -> Result<u64, StoreError> {
        let sql = format!("UPDATE {} SET stream_sequence = 0 WHERE stream_sequence > $1", table.name());
        let statement = Self::statement(&sql, [newest.into()]);
        let result = self.within("take rows over from a lost stream", self.orm().execute_raw(statement)).await?;
        Ok(result.rows_affected())
    }

    /// Writes a host's live record.
    ///
    /// # Errors
    /// See [`StoreErrorKind`](crate::StoreErrorKind); nothing is written then.
    pub async fn host_project(&self, row: HostRow) -> Result<Applied, StoreError> {
        let sequence = host::Column::StreamSequence;
        self.within("project a host", upsert_newer::<host::Entity, _>(self.orm(), row, sequence)).await
    }

    /// Notes that a host's record was removed. The row stays, unseen by every finder, so that an older record which
    /// comes late cannot bring the host back.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn host_delete(&self, host_id: &str, at: DateTime<Utc>, sequence: i64) -> Result<Applied, StoreError> {
        let tombstone = HostRow {
            host_id: host_id.to_owned(),
            name: String::new(),
            state: "unknown".to_owned(),
            cause: String::new(),
            state_since: at,
            evidence: Value::Null,
            admitted_at: at,
            cordoned: false,
            labels: Value::Null,
            facts: Value::Null,
            owner: None,
            notes: String::new(),
            maintenance: Value::Null,
            disabled: false,
            deleted_at: Some(at),
            stream_sequence: sequence,
        };
        let changed = [host::Column::DeletedAt, host::Column::StreamSequence];
        let work = upsert_columns::<host::Entity, _>(self.orm(), tombstone, host::Column::StreamSequence, &changed);
        self.within("project a host's removal", work).await
    }

    /// Deletes the history of a host that was removed: its samples, its events, and the commands for it alone. Once more
    /// changes nothing.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn host_history_delete(&self, host_id: &str) -> Result<Applied, StoreError> {
        const DELETIONS: [&str; 5] = [
            "DELETE FROM host_metrics WHERE host_id = $1",
            "DELETE FROM host_metrics_1m WHERE host_id = $1",
            "DELETE FROM host_metrics_1h WHERE host_id = $1",
            "DELETE FROM host_event WHERE host_id = $1",
            "DELETE FROM exec_log WHERE host_id = $1 AND pod_id IS NULL",
        ];
        let mut deleted = 0;
        for sql in DELETIONS {
            let statement = Self::statement(sql, [host_id.into()]);
            let result = self.within("delete a host's history", self.orm().execute_raw(statement)).await?;
            deleted += result.rows_affected();
        }
        Ok(applied(deleted))
    }

    /// Writes a pod's live record.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn pod_project(&self, row: PodRow) -> Result<Applied, StoreError> {
        let sequence = pod::Column::StreamSequence;
        self.within("project a pod", upsert_newer::<pod::Entity, _>(self.orm(), row, sequence)).await
    }

    /// Notes that a pod's record was removed, as [`host_delete`](Self::host_delete) does for a host.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn pod_delete(&self, pod_id: &str, at: DateTime<Utc>, sequence: i64) -> Result<Applied, StoreError> {
        let tombstone = PodRow {
            pod_id: pod_id.to_owned(),
            name: String::new(),
            owner: String::new(),
            host_id: None,
            phase: "deleted".to_owned(),
            cause: None,
            phase_since: at,
            created_at: at,
            operation_id: None,
            tier: String::new(),
            image: String::new(),
            external_port: None,
            fence: 0,
            deleted_at: Some(at),
            stream_sequence: sequence,
        };
        let changed = [pod::Column::DeletedAt, pod::Column::StreamSequence];
        let work = upsert_columns::<pod::Entity, _>(self.orm(), tombstone, pod::Column::StreamSequence, &changed);
        self.within("project a pod's removal", work).await
    }

    /// Writes a host's event.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn host_event_project(&self, row: HostEventRow) -> Result<Applied, StoreError> {
        self.within("project a host's event", insert_once::<host_event::Entity, _>(self.orm(), row)).await
    }

    /// Writes a pod's event.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn pod_event_project(&self, row: PodEventRow) -> Result<Applied, StoreError> {
        self.within("project a pod's event", insert_once::<pod_event::Entity, _>(self.orm(), row)).await
    }

    /// Writes a request.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn request_project(&self, row: RequestRow) -> Result<Applied, StoreError> {
        self.within("project a request", insert_once::<request::Entity, _>(self.orm(), row)).await
    }

    /// Writes an operation and all of its steps, in one transaction. Each message holds the whole operation, so the
    /// newest one's steps replace those before.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn operation_project(
        &self,
        row: OperationRow,
        steps: Vec<OperationStepRow>,
    ) -> Result<Applied, StoreError> {
        self.within("project an operation", async {
            let transaction = self.orm().begin().await?;
            let operation_id = row.operation_id.clone();
            let sequence = operation::Column::StreamSequence;
            // Locks the operation's row, so that two messages about it write their steps one after the other.
            let applied = upsert_newer::<operation::Entity, _>(&transaction, row, sequence).await?;
            if applied == Applied::Written {
                operation_step::Entity::delete_many()
                    .filter(operation_step::Column::OperationId.eq(operation_id))
                    .exec(&transaction)
                    .await?;
                if !steps.is_empty() {
                    let steps = steps.into_iter().map(|step| step.into_active_model().reset_all());
                    operation_step::Entity::insert_many(steps).exec_without_returning(&transaction).await?;
                }
            }
            transaction.commit().await?;
            Ok::<_, DbErr>(applied)
        })
        .await
    }

    /// Writes a command's record: when it begins, and over that when it ended.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn exec_project(&self, row: ExecRow) -> Result<Applied, StoreError> {
        let sequence = exec_log::Column::StreamSequence;
        self.within("project a command", upsert_newer::<exec_log::Entity, _>(self.orm(), row, sequence)).await
    }

    /// Writes a dead letter.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn dead_letter_project(&self, row: DeadLetterRow) -> Result<Applied, StoreError> {
        self.within("project a dead letter", insert_once::<dead_letter::Entity, _>(self.orm(), row)).await
    }

    /// Notes what became of a dead letter. Of several marks of a kind the earliest stays. [`Applied::Missing`] when it
    /// has no row: in a replay the mark may come before it.
    ///
    /// # Errors
    /// As for [`host_project`](Self::host_project).
    pub async fn dead_letter_mark(
        &self,
        dead_letter_id: &str,
        mark: Mark,
        at: DateTime<Utc>,
    ) -> Result<Applied, StoreError> {
        let sql = match mark {
            Mark::Resent => "UPDATE dead_letter SET resent_at = least(resent_at, $2) WHERE dead_letter_id = $1",
            Mark::Dropped => "UPDATE dead_letter SET dropped_at = least(dropped_at, $2) WHERE dead_letter_id = $1",
        };
        let statement = Self::statement(sql, [dead_letter_id.into(), at.into()]);
        let result = self.within("mark a dead letter", self.orm().execute_raw(statement)).await?;
        Ok(if result.rows_affected() == 0 { Applied::Missing } else { Applied::Written })
    }
}

/// Inserts the row, or lets it replace an older one.
async fn upsert_newer<E, C>(connection: &C, row: E::Model, sequence: E::Column) -> Result<Applied, DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E> + ActiveModelBehavior + Send,
    C: ConnectionTrait,
{
    let columns: Vec<E::Column> = E::Column::iter().collect();
    upsert_columns::<E, C>(connection, row, sequence, &columns).await
}

/// As [`upsert_newer`], but of a row that is there only `columns` change.
async fn upsert_columns<E, C>(
    connection: &C,
    row: E::Model,
    sequence: E::Column,
    columns: &[E::Column],
) -> Result<Applied, DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E> + ActiveModelBehavior + Send,
    C: ConnectionTrait,
{
    let keys = || E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column);
    let stored = Expr::col((E::default(), sequence));
    let offered = Expr::col((Alias::new("excluded"), sequence).into_column_ref());
    let newer = OnConflict::columns(keys())
        .update_columns(columns.iter().copied())
        .action_and_where(stored.lt(offered))
        .to_owned();
    let insert = Insert::one(row.into_active_model().reset_all()).on_conflict(newer);
    Ok(applied(insert.exec_without_returning(connection).await?))
}

/// Inserts the row, unless its key, or another that must be unique, is there.
async fn insert_once<E, C>(connection: &C, row: E::Model) -> Result<Applied, DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E> + ActiveModelBehavior + Send,
    C: ConnectionTrait,
{
    let insert =
        Insert::one(row.into_active_model().reset_all()).on_conflict(OnConflict::new().do_nothing().to_owned());
    Ok(applied(insert.exec_without_returning(connection).await?))
}

fn applied(rows: u64) -> Applied {
    if rows == 0 { Applied::Stale } else { Applied::Written }
}
