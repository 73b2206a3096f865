//! People's sessions in browsers, and the tickets that a session opens WebSockets with.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};

use super::person::Person;
use crate::{
    Database, LiveTicketRow, LoginRow, StoreError,
    entity::{live_ticket, login},
};

/// Sessions that one person may have; a new one ends the oldest.
const MOST: i64 = 50;

impl Database {
    /// Writes a new session. Those of this person that are past their end go, and the oldest of too many.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn login_create(&self, row: LoginRow) -> Result<(), StoreError> {
        const OLD: &str = "DELETE FROM login WHERE user_id = $1 AND (expires_at <= $2 OR login_id IN \
                           (SELECT login_id FROM login WHERE user_id = $1 ORDER BY seen_at DESC OFFSET $3))";
        const NEW: &str = "INSERT INTO login (login_id, user_id, token_hash, csrf_hash, created_at, seen_at, expires_at, \
                           remote_address, user_agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        self.transact("begin a session", async |connection| {
            let old = sqlx::query(OLD).bind(&row.user_id).bind(row.created_at).bind(MOST - 1);
            old.execute(&mut *connection).await?;
            let new = sqlx::query(NEW).bind(&row.login_id).bind(&row.user_id).bind(&row.token_hash);
            let new = new.bind(&row.csrf_hash).bind(row.created_at).bind(row.seen_at).bind(row.expires_at);
            new.bind(&row.remote_address).bind(&row.user_agent).execute(&mut *connection).await?;
            Ok(())
        })
        .await
    }

    /// Notes that a session was used, which moves its end.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn login_touch(
        &self,
        login_id: &str,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let seen = login::Entity::update_many()
            .col_expr(login::Column::SeenAt, now.into())
            .col_expr(login::Column::ExpiresAt, expires_at.into())
            .filter(login::Column::LoginId.eq(login_id));
        self.within("note that a session was used", seen.exec(self.orm())).await.map(drop)
    }

    /// A person's sessions, the one used last first.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn login_list(&self, user_id: &str, now: DateTime<Utc>) -> Result<Vec<LoginRow>, StoreError> {
        let wanted = login::Entity::find()
            .filter(login::Column::UserId.eq(user_id))
            .filter(login::Column::ExpiresAt.gt(now))
            .order_by_desc(login::Column::SeenAt);
        self.within("list sessions", wanted.all(self.orm())).await
    }

    /// Ends one of a person's sessions; returns whether it was there.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn login_end(&self, user_id: &str, login_id: &str) -> Result<bool, StoreError> {
        let gone = login::Entity::delete_many()
            .filter(login::Column::UserId.eq(user_id))
            .filter(login::Column::LoginId.eq(login_id));
        Ok(self.within("end a session", gone.exec(self.orm())).await?.rows_affected > 0)
    }

    /// Ends the session of this cookie, whoever's it is.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn login_end_by_token(&self, token_hash: &[u8]) -> Result<(), StoreError> {
        let gone = login::Entity::delete_many().filter(login::Column::TokenHash.eq(token_hash));
        self.within("end a session", gone.exec(self.orm())).await.map(drop)
    }

    /// Ends all of a person's sessions but `keep`; returns how many.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn login_end_others(&self, user_id: &str, keep: Option<&str>) -> Result<u64, StoreError> {
        let mut gone = login::Entity::delete_many().filter(login::Column::UserId.eq(user_id));
        if let Some(keep) = keep {
            gone = gone.filter(login::Column::LoginId.ne(keep));
        }
        Ok(self.within("end sessions", gone.exec(self.orm())).await?.rows_affected)
    }

    /// Whether a session still stands, and its person with it.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn person_of_login_id(
        &self,
        login_id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<(LoginRow, Person)>, StoreError> {
        let wanted = login::Entity::find_by_id(login_id).filter(login::Column::ExpiresAt.gt(now));
        let Some(row) = self.within("find a session", wanted.one(self.orm())).await? else { return Ok(None) };
        Ok(self.person(&row.user_id).await?.map(|person| (row, person)))
    }

    /// Keeps a ticket's digest.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`](crate::StoreErrorKind::Conflict) when the session has ended.
    pub async fn live_ticket_put(&self, row: LiveTicketRow, now: DateTime<Utc>) -> Result<(), StoreError> {
        let old = live_ticket::Entity::delete_many().filter(live_ticket::Column::ExpiresAt.lte(now));
        self.within("drop old tickets", old.exec(self.orm())).await?;
        let row = row.into_active_model().reset_all();
        self.within("keep a ticket", live_ticket::Entity::insert(row).exec_without_returning(self.orm()))
            .await
            .map(drop)
    }

    /// Uses a ticket up, and tells whose session it is of.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn person_of_ticket(
        &self,
        ticket_hash: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<(LoginRow, Person)>, StoreError> {
        const TAKE: &str = "DELETE FROM live_ticket WHERE ticket_hash = $1 AND expires_at > $2 RETURNING login_id";
        let taken = sqlx::query_scalar::<_, String>(TAKE).bind(ticket_hash).bind(now);
        let taken = self.within("use a ticket up", taken.fetch_optional(self.pool())).await?;
        match taken {
            Some(login_id) => self.person_of_login_id(&login_id, now).await,
            None => Ok(None),
        }
    }
}
