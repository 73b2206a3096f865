//! People's accounts, and what they get by e-mail to prove that an address is theirs.
//!
//! Who is the first is decided under a lock, so that two requests at once cannot both be it.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter};
use sqlx::PgConnection;

use super::{belongings::Belongings, team::LAST_OWNER, user::LAST_ADMIN};
use crate::{
    AccountRow, AccountTokenRow, Database, StoreError, StoreErrorKind,
    entity::{account, account_token},
};

pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('pinacle.account'))";
/// An account counts once its address is proven: until then it is somebody's wish.
pub(super) const IS_FIRST: &str = "NOT EXISTS (SELECT FROM account AS other WHERE other.email_verified_at IS NOT NULL)";

/// What a token that came by e-mail is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountTokenPurpose {
    /// To set the first password.
    Invite,
    /// To set a new password.
    Reset,
    /// To take another address.
    Email,
    /// To go on with a sign-in that lacks its second factor.
    Factor,
}

impl AccountTokenPurpose {
    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invite => "invite",
            Self::Reset => "reset",
            Self::Email => "email",
            Self::Factor => "factor",
        }
    }
}

impl Database {
    /// Writes a new account.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] with `account_email` when the address has one.
    pub async fn account_create(&self, row: AccountRow) -> Result<(), StoreError> {
        let row = row.into_active_model().reset_all();
        self.within("create an account", account::Entity::insert(row).exec_without_returning(self.orm()))
            .await
            .map(drop)
    }

    /// An account by its address, in lower case.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_by_email(&self, email: &str) -> Result<Option<AccountRow>, StoreError> {
        let wanted = account::Entity::find().filter(account::Column::Email.eq(email));
        self.within("find an account by its address", wanted.one(self.orm())).await
    }

    /// An account by its id.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_find(&self, user_id: &str) -> Result<Option<AccountRow>, StoreError> {
        self.within("find an account", account::Entity::find_by_id(user_id).one(self.orm())).await
    }

    /// Whether anybody has an account that they can use.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_any(&self) -> Result<bool, StoreError> {
        let proven = account::Entity::find().filter(account::Column::EmailVerifiedAt.is_not_null());
        Ok(self.within("look whether there are accounts", proven.count(self.orm())).await? > 0)
    }

    /// Keeps a token's digest; of one purpose a person has one token, and the newest counts. Returns whether it was kept:
    /// not, when the one before it is younger than `apart`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_token_put(&self, row: AccountTokenRow, apart: TimeDelta) -> Result<bool, StoreError> {
        const OLD: &str = "DELETE FROM account_token WHERE user_id = $1 AND purpose = $2 AND created_at <= $3";
        const YOUNG: &str = "SELECT EXISTS (SELECT FROM account_token WHERE user_id = $1 AND purpose = $2)";
        const NEW: &str = "INSERT INTO account_token (token_hash, user_id, purpose, email, created_at, expires_at) \
                           VALUES ($1, $2, $3, $4, $5, $6)";
        self.transact("keep a token of an account", async |connection| {
            sqlx::query(LOCK).execute(&mut *connection).await?;
            let old = sqlx::query(OLD).bind(&row.user_id).bind(&row.purpose).bind(row.created_at - apart);
            old.execute(&mut *connection).await?;
            let young = sqlx::query_scalar(YOUNG).bind(&row.user_id).bind(&row.purpose);
            if young.fetch_one(&mut *connection).await? {
                return Ok(false);
            }
            let new = sqlx::query(NEW).bind(&row.token_hash).bind(&row.user_id).bind(&row.purpose);
            new.bind(&row.email).bind(row.created_at).bind(row.expires_at).execute(&mut *connection).await?;
            Ok(true)
        })
        .await
    }

    /// Whose token this is, if it is good for one of these purposes now. It stays good.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_of_token(
        &self,
        token_hash: &[u8],
        purposes: &[AccountTokenPurpose],
        now: DateTime<Utc>,
    ) -> Result<Option<(AccountRow, AccountTokenRow)>, StoreError> {
        let wanted = account_token::Entity::find_by_id(token_hash)
            .filter(account_token::Column::Purpose.is_in(purposes.iter().map(|purpose| purpose.as_str())))
            .filter(account_token::Column::ExpiresAt.gt(now));
        let Some(token) = self.within("find a token of an account", wanted.one(self.orm())).await? else {
            return Ok(None);
        };
        let account = self.account_find(&token.user_id).await?;
        Ok(account.filter(|account| account.suspended_at.is_none()).map(|account| (account, token)))
    }

    /// Uses a token up. Returns whether it was still there: of two at once, one gets it.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_token_take(&self, token_hash: &[u8], now: DateTime<Utc>) -> Result<bool, StoreError> {
        let gone = account_token::Entity::delete_many()
            .filter(account_token::Column::TokenHash.eq(token_hash))
            .filter(account_token::Column::ExpiresAt.gt(now));
        Ok(self.within("use a token of an account up", gone.exec(self.orm())).await?.rows_affected > 0)
    }

    /// Uses a token of [`Invite`](AccountTokenPurpose::Invite) or [`Reset`](AccountTokenPurpose::Reset) up and sets the
    /// password of whose it is. That proves the address; all sessions end. The first to prove one, and whoever has one of
    /// `admins`, is an admin. Returns who it is; `None` when the token is good no more.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_password_by_token(
        &self,
        token_hash: &[u8],
        password_hash: &str,
        admins: &[String],
        now: DateTime<Utc>,
    ) -> Result<Option<String>, StoreError> {
        const TAKE: &str = "DELETE FROM account_token WHERE token_hash = $1 AND purpose IN ('invite', 'reset') \
                            AND expires_at > $2 RETURNING user_id, email";
        // Of a token for an address that they have no more nothing is proven.
        let set = format!(
            "UPDATE account SET password_hash = $2, is_admin = is_admin OR email = ANY($3) OR {IS_FIRST}, \
             email_verified_at = coalesce(email_verified_at, $4) \
             WHERE user_id = $1 AND email = $5 AND suspended_at IS NULL"
        );
        self.transact("set a password by a token", async |connection| {
            sqlx::query(LOCK).execute(&mut *connection).await?;
            let taken = sqlx::query_as::<_, (String, String)>(TAKE).bind(token_hash).bind(now);
            let Some((user_id, email)) = taken.fetch_optional(&mut *connection).await? else { return Ok(None) };
            let set = sqlx::query(sqlx::AssertSqlSafe(set)).bind(&user_id).bind(password_hash);
            let set = set.bind(admins).bind(now).bind(&email).execute(&mut *connection).await?;
            if set.rows_affected() == 0 {
                return Ok(None);
            }
            end_of_password(connection, &user_id, None).await?;
            Ok(Some(user_id))
        })
        .await
    }

    /// Uses a token of [`Email`](AccountTokenPurpose::Email) up: its address, proven by that, takes the place of the one
    /// before. Whoever has one of `admins` is an admin. All sessions but `keep`, by its digest, end, and links that went
    /// to the address before are good no more. Returns who it is and the address before; `None` when the token is good
    /// no more.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] with `account_email` when the address has an account
    /// by now; the token stays good.
    pub async fn account_email_by_token(
        &self,
        token_hash: &[u8],
        keep: Option<&[u8]>,
        admins: &[String],
        now: DateTime<Utc>,
    ) -> Result<Option<(String, String)>, StoreError> {
        const TAKE: &str = "DELETE FROM account_token WHERE token_hash = $1 AND purpose = 'email' AND expires_at > $2 \
                            RETURNING user_id, email";
        const BEFORE: &str = "SELECT email FROM account WHERE user_id = $1 AND suspended_at IS NULL FOR UPDATE";
        const SET: &str = "UPDATE account SET email = $2, email_verified_at = $3, is_admin = is_admin OR $2 = ANY($4) \
                           WHERE user_id = $1";
        const END: &str = "DELETE FROM login WHERE user_id = $1 AND ($2::bytea IS NULL OR token_hash <> $2)";
        self.transact("change an address by a token", async |connection| {
            sqlx::query(LOCK).execute(&mut *connection).await?;
            let taken = sqlx::query_as::<_, (String, String)>(TAKE).bind(token_hash).bind(now);
            let Some((user_id, email)) = taken.fetch_optional(&mut *connection).await? else { return Ok(None) };
            let before = sqlx::query_scalar::<_, String>(BEFORE).bind(&user_id);
            let Some(before) = before.fetch_optional(&mut *connection).await? else { return Ok(None) };
            let set = sqlx::query(SET).bind(&user_id).bind(&email).bind(now).bind(admins);
            set.execute(&mut *connection).await?;
            sqlx::query(END).bind(&user_id).bind(keep).execute(&mut *connection).await?;
            let links = sqlx::query("DELETE FROM account_token WHERE user_id = $1").bind(&user_id);
            links.execute(&mut *connection).await?;
            Ok(Some((user_id, before)))
        })
        .await
    }

    /// Deletes an account with its sessions, tokens, memberships and all that lets its person in, unless it has something:
    /// the inner error says what. `live` is what it is known to have besides.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] with [`LAST_ADMIN`] or [`LAST_OWNER`]; [`StoreErrorKind::NotFound`].
    pub async fn account_delete(&self, user_id: &str, live: Belongings) -> Result<Result<(), Belongings>, StoreError> {
        // Locked, so that of two last admins or owners who leave at once one stays, and nobody claims a pod meanwhile.
        const ADMINS: &str = "SELECT user_id, is_admin AND suspended_at IS NULL FROM account \
                              WHERE (is_admin AND suspended_at IS NULL) OR user_id = $1 ORDER BY user_id FOR UPDATE";
        const TEAMS: &str = "SELECT FROM team WHERE team_id IN (SELECT team_id FROM team_member WHERE user_id = $1) \
                             ORDER BY team_id FOR UPDATE";
        const IS_LAST_OWNER: &str = "SELECT EXISTS (SELECT FROM team_member AS own WHERE user_id = $1 AND role = 'owner' AND NOT EXISTS \
             (SELECT FROM team_member AS other WHERE other.team_id = own.team_id AND other.role = 'owner' \
             AND other.user_id <> $1))";
        // The rest goes with the account's row.
        const GONE: [&str; 4] = [
            "DELETE FROM quota WHERE owner = $1",
            "DELETE FROM host_enrolment WHERE owner = $1",
            "DELETE FROM data_key WHERE owner = $1",
            "DELETE FROM account WHERE user_id = $1",
        ];
        let conflict = |constraint: &str| Ok(Err(StoreErrorKind::Conflict { constraint: constraint.into() }));
        self.settle("delete an account", async |connection| {
            let locked: Vec<(String, bool)> = sqlx::query_as(ADMINS).bind(user_id).fetch_all(&mut *connection).await?;
            if !locked.iter().any(|(found, _)| found == user_id) {
                return Ok(Err(StoreErrorKind::NotFound));
            }
            let admins: Vec<&str> = locked.iter().filter(|(_, acts)| *acts).map(|(admin, _)| admin.as_str()).collect();
            if admins == [user_id] {
                return conflict(LAST_ADMIN);
            }
            sqlx::query(TEAMS).bind(user_id).execute(&mut *connection).await?;
            if sqlx::query_scalar::<_, bool>(IS_LAST_OWNER).bind(user_id).fetch_one(&mut *connection).await? {
                return conflict(LAST_OWNER);
            }
            let has = Belongings::find(connection, user_id, live).await?;
            if has != Belongings::default() {
                return Ok(Ok(Err(has)));
            }
            for sql in GONE {
                sqlx::query(sql).bind(user_id).execute(&mut *connection).await?;
            }
            Ok(Ok(Ok(())))
        })
        .await
    }

    /// Sets a password. All sessions but `keep` end, and links to set one are good no more.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_password_set(
        &self,
        user_id: &str,
        password_hash: &str,
        keep: Option<&str>,
    ) -> Result<(), StoreError> {
        self.transact("set a password", async |connection| {
            let set = sqlx::query("UPDATE account SET password_hash = $2 WHERE user_id = $1");
            set.bind(user_id).bind(password_hash).execute(&mut *connection).await?;
            end_of_password(connection, user_id, keep).await
        })
        .await
    }

    /// What an account calls its person.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn account_rename(&self, user_id: &str, name: &str) -> Result<(), StoreError> {
        let mut row = account::ActiveModel { user_id: sea_orm::Set(user_id.to_owned()), ..Default::default() };
        row.name = sea_orm::Set(name.to_owned());
        self.within("rename an account", row.update(self.orm())).await.map(drop)
    }
}

/// What ends when a password changes: the sessions that began with the old one, and links to set one.
async fn end_of_password(connection: &mut PgConnection, user_id: &str, keep: Option<&str>) -> Result<(), sqlx::Error> {
    let logins = sqlx::query("DELETE FROM login WHERE user_id = $1 AND ($2::text IS NULL OR login_id <> $2)");
    logins.bind(user_id).bind(keep).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM account_token WHERE user_id = $1").bind(user_id).execute(&mut *connection).await?;
    Ok(())
}
