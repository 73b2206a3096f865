//! The audit log: a chain of entries, each with the hash of the one before, to which is only appended.

mod chain;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, TransactionTrait,
};

use crate::{AuditRow, Database, Page, PageRequest, Scope, StoreError, entity::audit_entry, query::keyset};

pub use chain::{ChainCheck, ChainFault, ChainHead};

/// One appends at a time, over all processes.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('pinacle.audit'))";

/// What came of appending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The chain's end.
    pub end: ChainHead,
    /// Whether the table ended before what was known from elsewhere, or differed from it.
    pub is_broken: bool,
}

/// Which entries are wanted; the default is all in scope.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only what this one did.
    pub actor: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only on the thing with this id.
    pub target_id: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<String>,
    /// Only what led to this operation.
    pub operation_id: Option<String>,
    /// Only of the HTTP request, or the request on the bus, with this id.
    pub request_id: Option<String>,
    /// Not before this time.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

/// Own entries, and those on things that one owns.
fn in_scope(scope: &Scope) -> Condition {
    let of = |owners: &BTreeSet<String>| {
        Condition::any().add(audit_entry::Column::Actor.is_in(owners)).add(audit_entry::Column::Owner.is_in(owners))
    };
    // Around it, what is added narrows.
    Condition::all().add_option(scope.owners().map(of))
}

impl Database {
    /// Appends an entry to the chain, whatever its `seq` and hashes are, unless it is there. The chain goes on behind
    /// `noted`, the newest entry that is known from elsewhere, if the table ends before it or differs from it: what was
    /// cut off or rewritten there stays missing for good.
    ///
    /// # Errors
    /// See [`StoreErrorKind`](crate::StoreErrorKind); nothing is written then.
    pub async fn audit_append(&self, entry: AuditRow, noted: Option<&ChainHead>) -> Result<Appended, StoreError> {
        self.within("append to the audit log", async {
            let transaction = self.orm().begin().await?;
            transaction.execute_unprepared(LOCK).await?;
            let last = audit_entry::Entity::find().order_by_desc(audit_entry::Column::Seq).one(&transaction).await?;
            let last = last.map_or_else(ChainHead::genesis, |row| ChainHead { seq: row.seq, hash: row.hash });
            let known = audit_entry::Entity::find()
                .filter(audit_entry::Column::AuditId.eq(&entry.audit_id))
                .one(&transaction)
                .await?;
            let is_broken =
                noted.is_some_and(|noted| noted.seq > last.seq || (noted.seq == last.seq && *noted != last));
            if known.is_some() {
                return Ok(Appended { end: last, is_broken });
            }
            let end = if is_broken { noted.unwrap_or(&last) } else { &last };
            let mut row = AuditRow { seq: end.seq + 1, prev_hash: end.hash.clone(), ..entry };
            row.hash = row.digest().to_vec();
            let end = ChainHead { seq: row.seq, hash: row.hash.clone() };
            audit_entry::Entity::insert(row.into_active_model().reset_all())
                .exec_without_returning(&transaction)
                .await?;
            transaction.commit().await?;
            Ok::<_, DbErr>(Appended { end, is_broken })
        })
        .await
    }

    /// Entries by id, that is by age. A cursor tells nothing of how many entries others have.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`](crate::StoreErrorKind::BadCursor),
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn audit_list(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: &PageRequest,
    ) -> Result<Page<AuditRow>, StoreError> {
        const QUERY: &str = "list the audit log";
        use audit_entry::Column;

        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let mut wanted = in_scope(scope);
        for (column, value) in [
            (Column::Actor, &filter.actor),
            (Column::Action, &filter.action),
            (Column::TargetId, &filter.target_id),
            (Column::Outcome, &filter.outcome),
            (Column::OperationId, &filter.operation_id),
        ] {
            if let Some(value) = value {
                wanted = wanted.add(column.eq(value));
            }
        }
        if let Some(id) = &filter.request_id {
            wanted = wanted.add(Condition::any().add(Column::RequestId.eq(id)).add(Column::BusRequestId.eq(id)));
        }
        wanted = wanted.add_option(filter.since.map(|since| Column::At.gte(since)));
        wanted = wanted.add_option(filter.until.map(|until| Column::At.lt(until)));
        let select = keyset(audit_entry::Entity::find().filter(wanted), page, Column::AuditId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.audit_id.clone()))
    }

    /// One entry.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn audit_get(&self, scope: &Scope, audit_id: &str) -> Result<Option<AuditRow>, StoreError> {
        let wanted = in_scope(scope).add(audit_entry::Column::AuditId.eq(audit_id));
        let select = audit_entry::Entity::find().filter(wanted);
        self.within("find an entry of the audit log", select.one(self.orm())).await
    }

    /// Checks the whole chain, and that it holds `noted`, which is known from elsewhere. Reads the table in parts.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn audit_verify(&self, noted: Option<ChainHead>) -> Result<ChainCheck, StoreError> {
        const PART: u64 = 1000;
        let mut check = ChainCheck::new(noted);
        let mut after = i64::MIN;
        loop {
            let part = audit_entry::Entity::find()
                .filter(audit_entry::Column::Seq.gt(after))
                .order_by_asc(audit_entry::Column::Seq)
                .limit(PART);
            let rows = self.within("read the audit log", part.all(self.orm())).await?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            rows.into_iter().for_each(|row| check.push(row));
        }
        check.finish();
        Ok(check)
    }
}
