//! Keys of agents: until when each is good, and which are not any more.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter, TransactionTrait, sea_query::Expr,
};

use crate::{
    Database, HostKeyRow, StoreError, StoreErrorKind,
    entity::{
        host_enrolment,
        host_key::{ActiveModel, Column, Entity},
    },
};

/// `hostkeys` in ASCII.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(7525359982806952307)";

impl Database {
    /// A key by its public half.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn host_key_get(&self, public_key: &str) -> Result<HostKeyRow, StoreError> {
        const QUERY: &str = "find a host's key";
        let missing = || StoreError::new(QUERY, StoreErrorKind::NotFound);
        if public_key.contains('\0') {
            return Err(missing());
        }
        self.within(QUERY, Entity::find_by_id(public_key).one(self.orm())).await?.ok_or_else(missing)
    }

    /// Notes that a key that is good got another grant. Says whether it is good.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn host_key_renew(&self, public_key: &str, expires_at: DateTime<Utc>) -> Result<bool, StoreError> {
        let change = ActiveModel { expires_at: Set(expires_at), ..Default::default() };
        let update = Entity::update_many().set(change).filter(Column::PublicKey.eq(public_key));
        let update = update.filter(Column::State.eq("active"));
        let result = self.within("renew a host's key", update.exec(self.orm())).await?;
        Ok(result.rows_affected == 1)
    }

    /// Puts `fresh` in the place of a key that is good. Says whether that was so.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] when the fresh key is somebody's; [`StoreErrorKind::Unavailable`].
    pub async fn host_key_rotate(
        &self,
        public_key: &str,
        fresh: &str,
        at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<Option<HostKeyRow>, StoreError> {
        self.within("rotate a host's key", async {
            let transaction = self.orm().begin().await?;
            let good = Entity::find_by_id(public_key).filter(Column::State.eq("active"));
            let Some(before) = good.one(&transaction).await? else { return Ok(None) };
            revoke(&transaction, &before.host_id, at).await?;
            let key =
                HostKeyRow { public_key: fresh.to_owned(), issued_at: at, expires_at, revoked_at: None, ..before };
            let insert = Entity::insert(key.clone().into_active_model().reset_all());
            insert.exec_without_returning(&transaction).await?;
            transaction.commit().await?;
            Ok::<_, DbErr>(Some(key))
        })
        .await
    }

    /// The keys of a host are good for nothing until [`host_enable`](Self::host_enable). Says whether any was.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn host_disable(&self, host_id: &str, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let sql = "UPDATE host_key SET state = 'disabled', revoked_at = $2 WHERE host_id = $1 AND state = 'active'";
        let statement = Self::statement(sql, [host_id.into(), at.into()]);
        let result = self.within("disable a host's key", self.orm().execute_raw(statement)).await?;
        Ok(result.rows_affected() > 0)
    }

    /// The keys of a disabled host are good again, for grants that are made from now on.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn host_enable(&self, host_id: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE host_key SET state = 'active' WHERE host_id = $1 AND state = 'disabled'";
        let statement = Self::statement(sql, [host_id.into()]);
        let result = self.within("enable a host's key", self.orm().execute_raw(statement)).await?;
        Ok(result.rows_affected() > 0)
    }

    /// The keys of a host are another owner's: the machine is the same host when it joins again for them. No token of the
    /// former owner's leads to it any more.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when there is no such owner, [`StoreErrorKind::Unavailable`].
    pub async fn host_pass_on(&self, host_id: &str, owner: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        self.settle("give a host to another owner", async |connection| {
            if !super::team::hold(connection, owner).await? {
                return Ok(Err(StoreErrorKind::NotFound));
            }
            // First: whoever exchanges one just now has put their key there before the keys are given.
            sqlx::query("UPDATE host_enrolment SET revoked_at = $2 WHERE host_id = $1 AND revoked_at IS NULL")
                .bind(host_id)
                .bind(at)
                .execute(&mut *connection)
                .await?;
            sqlx::query("UPDATE host_key SET owner = $2 WHERE host_id = $1 AND state <> 'revoked'")
                .bind(host_id)
                .bind(owner)
                .execute(connection)
                .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// All keys of a host that goes are good for nothing, for ever, and no token leads to it any more.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn host_keys_revoke(&self, host_id: &str, at: DateTime<Utc>) -> Result<bool, StoreError> {
        self.within("revoke a host's keys", async {
            let transaction = self.orm().begin().await?;
            let revoked = revoke(&transaction, host_id, at).await?;
            host_enrolment::Entity::update_many()
                .col_expr(host_enrolment::Column::RevokedAt, Expr::value(at))
                .filter(host_enrolment::Column::HostId.eq(host_id))
                .filter(host_enrolment::Column::RevokedAt.is_null())
                .exec(&transaction)
                .await?;
            transaction.commit().await?;
            Ok::<_, DbErr>(revoked)
        })
        .await
    }

    /// Gives `tell` every key with grants that have not ended and count for nothing, with the time up to which they were
    /// made. One caller after the other, whatever process it is in, so that no list overtakes a newer one.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn host_keys_revoked<T, F, Fut>(&self, at: DateTime<Utc>, tell: F) -> Result<T, StoreError>
    where
        F: FnOnce(Vec<(String, DateTime<Utc>)>) -> Fut,
        Fut: Future<Output = T>,
    {
        self.within("list revoked keys", async {
            let transaction = self.orm().begin().await?;
            transaction.execute_unprepared(ONE_AT_A_TIME).await?;
            let select = Entity::find().filter(Column::RevokedAt.is_not_null()).filter(Column::ExpiresAt.gt(at));
            let rows = select.all(&transaction).await?;
            let revoked = rows.into_iter().filter_map(|row| Some((row.public_key, row.revoked_at?))).collect();
            let told = tell(revoked).await;
            transaction.commit().await?;
            Ok::<_, DbErr>(told)
        })
        .await
    }
}

/// Makes all keys of a host good for nothing; says whether any was good or disabled.
pub(super) async fn revoke(transaction: &DatabaseTransaction, host_id: &str, at: DateTime<Utc>) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::State, Expr::value("revoked"))
        .col_expr(Column::RevokedAt, Expr::value(at))
        .filter(Column::HostId.eq(host_id))
        .filter(Column::State.ne("revoked"));
    Ok(update.exec(transaction).await?.rows_affected > 0)
}
