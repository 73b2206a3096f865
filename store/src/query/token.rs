//! People's tokens for the API, by person. Whose a token is, is told by [`person_of_token`](Database::person_of_token).

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter};

use super::keyset;
use crate::{
    ApiTokenRow, Database, Page, PageRequest, StoreError, StoreErrorKind,
    entity::api_token::{Column, Entity},
};

/// A token's use is noted at most so often: whoever polls with it costs no write each time.
const NOTED_EVERY: TimeDelta = TimeDelta::minutes(1);
/// Tokens of one person that count, revoked ones not.
const MOST: i64 = 100;

/// `$1` person, `$2` token; with it go those that were made with it, and with those.
const REVOKE: &str = "
WITH RECURSIVE gone AS (
    SELECT token_id FROM api_token WHERE user_id = $1 AND token_id = $2 AND revoked_at IS NULL
    UNION
    SELECT made.token_id FROM api_token AS made JOIN gone ON made.made_by = gone.token_id
)
UPDATE api_token SET revoked_at = $3 WHERE token_id IN (SELECT token_id FROM gone) AND revoked_at IS NULL";

impl Database {
    /// Keeps a new token. The number of tokens that a person has at once is bounded.
    ///
    /// # Errors
    /// [`StoreErrorKind::Data`] when the person has as many as may be, [`StoreErrorKind::Unavailable`].
    pub async fn token_create(&self, row: ApiTokenRow) -> Result<(), StoreError> {
        const QUERY: &str = "keep a token";
        let held = Self::statement(
            "SELECT count(*) AS held FROM api_token WHERE user_id = $1 AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $2)",
            [row.user_id.clone().into(), row.created_at.into()],
        );
        let held = self.within(QUERY, self.orm().query_one_raw(held)).await?;
        if held.and_then(|row| row.try_get::<i64>("", "held").ok()).is_none_or(|held| held >= MOST) {
            return Err(StoreError::new(QUERY, StoreErrorKind::Data));
        }
        let insert = Entity::insert(row.into_active_model());
        self.within(QUERY, insert.exec_without_returning(self.orm())).await.map(drop)
    }

    /// A person's tokens by age, without those that are revoked.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn token_list(&self, user_id: &str, page: &PageRequest) -> Result<Page<ApiTokenRow>, StoreError> {
        const QUERY: &str = "list tokens";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let wanted = Entity::find().filter(Column::UserId.eq(user_id)).filter(Column::RevokedAt.is_null());
        let rows = self.within(QUERY, keyset(wanted, page, Column::TokenId, after).all(self.orm())).await?;
        Ok(page.page(rows, |row| row.token_id.clone()))
    }

    /// Ends a token of this person's, and those that were made with it. Returns how many that were.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when they have no such token, [`StoreErrorKind::Unavailable`].
    pub async fn token_revoke(&self, user_id: &str, token_id: &str, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const QUERY: &str = "revoke a token";
        let statement = Self::statement(REVOKE, [user_id.into(), token_id.into(), now.into()]);
        let revoked = self.within(QUERY, self.orm().execute_raw(statement)).await?.rows_affected();
        if revoked == 0 { Err(StoreError::new(QUERY, StoreErrorKind::NotFound)) } else { Ok(revoked) }
    }

    /// A token by its id.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn token_get(&self, token_id: &str) -> Result<ApiTokenRow, StoreError> {
        const QUERY: &str = "find a token by its id";
        let row = self.within(QUERY, Entity::find_by_id(token_id).one(self.orm())).await?;
        row.ok_or_else(|| StoreError::new(QUERY, StoreErrorKind::NotFound))
    }

    /// Whether one token was made with another.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn token_made_with(&self, token_id: &str, made_by: &str) -> Result<bool, StoreError> {
        let wanted = Entity::find_by_id(token_id).filter(Column::MadeBy.eq(made_by));
        Ok(self.within("find what a token was made with", wanted.one(self.orm())).await?.is_some())
    }

    /// Notes that a token was used, unless that was noted within the last minute.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn token_used(&self, row: &ApiTokenRow, now: DateTime<Utc>) -> Result<(), StoreError> {
        if row.used_at.is_some_and(|used| now - used < NOTED_EVERY) {
            return Ok(());
        }
        let note = Self::statement(
            "UPDATE api_token SET used_at = $2 WHERE token_id = $1 AND (used_at IS NULL OR used_at < $3)",
            [row.token_id.clone().into(), now.into(), (now - NOTED_EVERY).into()],
        );
        self.within("note a token's use", self.orm().execute_raw(note)).await.map(drop)
    }
}
