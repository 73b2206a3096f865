//! People as admins see and change them.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter};

use super::keyset;
use crate::{
    AccountRow, Database, Page, PageRequest, Scope, StoreError, StoreErrorKind,
    entity::account::{Column, Entity},
};

/// Named in a [`StoreErrorKind::Conflict`]: without this one there would be no admin who can act.
pub const LAST_ADMIN: &str = "last_admin";

/// Which people are wanted; the default is all.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserFilter {
    /// Only who is suspended, or is not.
    pub suspended: Option<bool>,
    /// Only who is admin, or is not.
    pub admin: Option<bool>,
}

/// What becomes of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// They may do nothing from then on; `None` = they may again.
    Suspended(Option<DateTime<Utc>>),
    /// Whether they are admin.
    Admin(bool),
}

/// How many people and teams there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromQueryResult)]
pub struct Population {
    /// People.
    pub users: i64,
    /// Of these, admins.
    pub admins: i64,
    /// Of these, suspended.
    pub suspended: i64,
    /// Teams.
    pub teams: i64,
}

impl Database {
    /// How many people and teams there are.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn population(&self) -> Result<Population, StoreError> {
        const QUERY: &str = "count people";
        let sql = "SELECT count(*) AS users, count(*) FILTER (WHERE is_admin) AS admins, \
                   count(suspended_at) AS suspended, (SELECT count(*) FROM team) AS teams FROM account";
        let select = Population::find_by_statement(Self::statement(sql, []));
        let row = self.within(QUERY, select.one(self.orm())).await?;
        row.ok_or_else(|| StoreError::new(QUERY, StoreErrorKind::Other))
    }

    /// People by id, that is by age. Only [`Scope::All`] sees any.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn user_list(
        &self,
        scope: &Scope,
        filter: UserFilter,
        page: &PageRequest,
    ) -> Result<Page<AccountRow>, StoreError> {
        const QUERY: &str = "list people";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        if !scope.is_all() {
            return Ok(page.page(Vec::new(), |row: &AccountRow| row.user_id.clone()));
        }
        let mut wanted = Condition::all();
        if let Some(suspended) = filter.suspended {
            let column = Column::SuspendedAt;
            wanted = wanted.add(if suspended { column.is_not_null() } else { column.is_null() });
        }
        if let Some(admin) = filter.admin {
            wanted = wanted.add(Column::IsAdmin.eq(admin));
        }
        let select = keyset(Entity::find().filter(wanted), page, Column::UserId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.user_id.clone()))
    }

    /// A person by id or e-mail address. Only [`Scope::All`] sees any.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn user_get(&self, scope: &Scope, id_or_email: &str) -> Result<AccountRow, StoreError> {
        const QUERY: &str = "find a person by id or e-mail";
        let missing = || StoreError::new(QUERY, StoreErrorKind::NotFound);
        if !scope.is_all() || id_or_email.contains('\0') {
            return Err(missing());
        }
        let email = id_or_email.to_lowercase();
        let wanted = Condition::any().add(Column::UserId.eq(id_or_email)).add(Column::Email.eq(email));
        self.within(QUERY, Entity::find().filter(wanted).one(self.orm())).await?.ok_or_else(missing)
    }

    /// Changes a person, unless no admin who can act would be left.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Conflict`] with [`LAST_ADMIN`], [`StoreErrorKind::Unavailable`].
    pub async fn user_change(&self, user_id: &str, change: UserChange) -> Result<(), StoreError> {
        let takes_away = matches!(change, UserChange::Suspended(Some(_)) | UserChange::Admin(false));
        self.settle("change a person", async |connection| {
            // Locked, so that two admins who take it from each other at once are one after the other.
            let admins: Vec<String> = sqlx::query_scalar(
                "SELECT user_id FROM account WHERE is_admin AND suspended_at IS NULL ORDER BY user_id FOR UPDATE",
            )
            .fetch_all(&mut *connection)
            .await?;
            if takes_away && admins == [user_id] {
                return Ok(Err(StoreErrorKind::Conflict { constraint: LAST_ADMIN.into() }));
            }
            let update = match change {
                UserChange::Suspended(at) => {
                    sqlx::query("UPDATE account SET suspended_at = $2 WHERE user_id = $1").bind(user_id).bind(at)
                }
                UserChange::Admin(admin) => {
                    sqlx::query("UPDATE account SET is_admin = $2 WHERE user_id = $1").bind(user_id).bind(admin)
                }
            };
            let changed = update.execute(&mut *connection).await?.rows_affected();
            Ok(if changed == 0 { Err(StoreErrorKind::NotFound) } else { Ok(()) })
        })
        .await
    }
}
