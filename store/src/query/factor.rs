//! Second factors: a secret, sealed by whoever keeps it here, the last step whose code was used, and recovery codes.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use sqlx::PgConnection;

use crate::{
    AccountFactorRow, Database, StoreError,
    entity::{account_factor, recovery_code},
};

impl Database {
    /// Somebody's second factor, confirmed or not.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn factor_find(&self, user_id: &str) -> Result<Option<AccountFactorRow>, StoreError> {
        self.within("find a second factor", account_factor::Entity::find_by_id(user_id).one(self.orm())).await
    }

    /// Keeps a secret that is to be confirmed, in the place of one that was not. Returns whether it was kept: not, when
    /// there is a confirmed one.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn factor_begin(&self, user_id: &str, secret: &[u8]) -> Result<bool, StoreError> {
        const BEGIN: &str = "INSERT INTO account_factor (user_id, secret, last_step) VALUES ($1, $2, 0) \
                             ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, last_step = 0 \
                             WHERE account_factor.confirmed_at IS NULL";
        let begun = sqlx::query(BEGIN).bind(user_id).bind(secret);
        Ok(self.within("begin a second factor", begun.execute(self.pool())).await?.rows_affected() > 0)
    }

    /// Confirms a secret, whose code of `step` is used with it, and keeps recovery codes. Returns whether it was there to
    /// be confirmed.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn factor_confirm(
        &self,
        row: &AccountFactorRow,
        step: i64,
        codes: &[Vec<u8>],
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const CONFIRM: &str = "UPDATE account_factor SET confirmed_at = $3, last_step = $4 \
                               WHERE user_id = $1 AND secret = $2 AND confirmed_at IS NULL";
        self.transact("confirm a second factor", async |connection| {
            let confirm = sqlx::query(CONFIRM).bind(&row.user_id).bind(&row.secret).bind(now).bind(step);
            if confirm.execute(&mut *connection).await?.rows_affected() == 0 {
                return Ok(false);
            }
            replace_codes(connection, &row.user_id, codes).await?;
            Ok(true)
        })
        .await
    }

    /// Keeps these recovery codes in place of those before. Returns whether there is a second factor that they are for.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn recovery_codes_replace(&self, user_id: &str, codes: &[Vec<u8>]) -> Result<bool, StoreError> {
        // Locked: at once with its end, none stay behind.
        const ON: &str = "SELECT FROM account_factor WHERE user_id = $1 AND confirmed_at IS NOT NULL FOR UPDATE";
        self.transact("replace recovery codes", async |connection| {
            let on = sqlx::query(ON).bind(user_id).fetch_optional(&mut *connection).await?.is_some();
            if on {
                replace_codes(connection, user_id, codes).await?;
            }
            Ok(on)
        })
        .await
    }

    /// Uses the code of a step up. Returns whether it was good: each step's is once, and none before it afterwards.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn factor_step_take(&self, user_id: &str, step: i64) -> Result<bool, StoreError> {
        const TAKE: &str = "UPDATE account_factor SET last_step = $2 \
                            WHERE user_id = $1 AND last_step < $2 AND confirmed_at IS NOT NULL";
        let taken = sqlx::query(TAKE).bind(user_id).bind(step);
        Ok(self.within("use a code up", taken.execute(self.pool())).await?.rows_affected() > 0)
    }

    /// Takes a second factor away, with its recovery codes.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn factor_remove(&self, user_id: &str) -> Result<(), StoreError> {
        let gone = account_factor::Entity::delete_by_id(user_id);
        self.within("take a second factor away", gone.exec(self.orm())).await.map(drop)
    }

    /// Uses a recovery code up. Returns whether it was good.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn recovery_code_take(&self, user_id: &str, code_hash: &[u8]) -> Result<bool, StoreError> {
        let gone = recovery_code::Entity::delete_many()
            .filter(recovery_code::Column::UserId.eq(user_id))
            .filter(recovery_code::Column::CodeHash.eq(code_hash));
        Ok(self.within("use a recovery code up", gone.exec(self.orm())).await?.rows_affected > 0)
    }

    /// How many recovery codes somebody has left.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn recovery_codes_left(&self, user_id: &str) -> Result<u64, StoreError> {
        let wanted = recovery_code::Entity::find().filter(recovery_code::Column::UserId.eq(user_id));
        self.within("count recovery codes", wanted.count(self.orm())).await
    }
}

async fn replace_codes(connection: &mut PgConnection, user_id: &str, codes: &[Vec<u8>]) -> Result<(), sqlx::Error> {
    const NEW: &str = "INSERT INTO recovery_code (user_id, code_hash) SELECT $1, unnest($2::bytea[])";
    sqlx::query("DELETE FROM recovery_code WHERE user_id = $1").bind(user_id).execute(&mut *connection).await?;
    sqlx::query(NEW).bind(user_id).bind(codes).execute(&mut *connection).await?;
    Ok(())
}
