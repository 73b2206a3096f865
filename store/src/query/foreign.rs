//! Who people are at the providers that they sign in with.

use chrono::{DateTime, Utc};
use sea_orm::EntityTrait;

use super::account::{IS_FIRST, LOCK};
use crate::{AccountRow, Database, StoreError, entity::account_identity};

/// Somebody at a provider, whose word is that the address is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignIdentity {
    /// The provider.
    pub issuer: String,
    /// Who they are there.
    pub subject: String,
    /// Their address, in lower case.
    pub email: String,
}

impl Database {
    /// The account of somebody at a provider, suspended or not.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn account_of_identity(&self, issuer: &str, subject: &str) -> Result<Option<AccountRow>, StoreError> {
        let key = (issuer.to_owned(), subject.to_owned());
        let wanted = account_identity::Entity::find_by_id(key);
        match self.within("find an identity", wanted.one(self.orm())).await? {
            Some(row) => self.account_find(&row.user_id).await,
            None => Ok(None),
        }
    }

    /// Links somebody at a provider to the account of their address, or to `new` where there is none and one may be made.
    /// The address counts as proven. Returns the account's id; `None` when there is none, or it is suspended.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn account_link(
        &self,
        identity: &ForeignIdentity,
        new: Option<&AccountRow>,
        admins: &[String],
        now: DateTime<Utc>,
    ) -> Result<Option<String>, StoreError> {
        const MAKE: &str = "INSERT INTO account (user_id, email, name, is_admin, created_at) \
                            VALUES ($1, $2, $3, false, $4) ON CONFLICT (email) DO NOTHING";
        const LINK: &str = "INSERT INTO account_identity (issuer, subject, user_id, email, created_at) \
                            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (issuer, subject) DO NOTHING";
        let prove = format!(
            "UPDATE account SET is_admin = is_admin OR email = ANY($2) OR {IS_FIRST}, \
             email_verified_at = coalesce(email_verified_at, $3) WHERE email = $1 AND suspended_at IS NULL \
             RETURNING user_id"
        );
        self.transact("link an identity", async |connection| {
            sqlx::query(LOCK).execute(&mut *connection).await?;
            if let Some(new) = new {
                let make = sqlx::query(MAKE).bind(&new.user_id).bind(&identity.email).bind(&new.name).bind(now);
                make.execute(&mut *connection).await?;
            }
            let prove = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(prove));
            let prove = prove.bind(&identity.email).bind(admins).bind(now);
            let Some(user_id) = prove.fetch_optional(&mut *connection).await? else { return Ok(None) };
            let link = sqlx::query(LINK).bind(&identity.issuer).bind(&identity.subject).bind(&user_id);
            link.bind(&identity.email).bind(now).execute(&mut *connection).await?;
            Ok(Some(user_id))
        })
        .await
    }
}
