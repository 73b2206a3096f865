//! Who somebody is, by the digest of what they showed.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::{
    AccountRow, ApiTokenRow, Database, LoginRow, StoreError, TeamMemberRow,
    entity::{account, api_token, login, team_member},
};

/// A person with their place in each team.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The person.
    pub account: AccountRow,
    /// Their teams.
    pub memberships: Vec<TeamMemberRow>,
}

impl Database {
    /// Whose session this is. Suspended people and sessions past their end are nobody's.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn person_of_login(
        &self,
        token_hash: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<(LoginRow, Person)>, StoreError> {
        let wanted = login::Entity::find()
            .filter(login::Column::TokenHash.eq(token_hash))
            .filter(login::Column::ExpiresAt.gt(now));
        let Some(row) = self.within("find a session", wanted.one(self.orm())).await? else { return Ok(None) };
        Ok(self.person(&row.user_id).await?.map(|person| (row, person)))
    }

    /// Whose token this is. Suspended people's, revoked and expired ones are nobody's.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn person_of_token(
        &self,
        token_hash: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<(ApiTokenRow, Person)>, StoreError> {
        let wanted = api_token::Entity::find()
            .filter(api_token::Column::TokenHash.eq(token_hash))
            .filter(api_token::Column::RevokedAt.is_null());
        let row = self.within("find a token", wanted.one(self.orm())).await?;
        let Some(row) = row.filter(|row| row.expires_at.is_none_or(|end| end > now)) else { return Ok(None) };
        Ok(self.person(&row.user_id).await?.map(|person| (row, person)))
    }

    /// The same by the token's id, for what was opened with it.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn person_of_token_id(
        &self,
        token_id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<(ApiTokenRow, Person)>, StoreError> {
        let wanted = api_token::Entity::find_by_id(token_id).filter(api_token::Column::RevokedAt.is_null());
        let row = self.within("find a token", wanted.one(self.orm())).await?;
        let Some(row) = row.filter(|row| row.expires_at.is_none_or(|end| end > now)) else { return Ok(None) };
        Ok(self.person(&row.user_id).await?.map(|person| (row, person)))
    }

    /// A person who is not suspended.
    pub(super) async fn person(&self, user_id: &str) -> Result<Option<Person>, StoreError> {
        let wanted = account::Entity::find_by_id(user_id).filter(account::Column::SuspendedAt.is_null());
        let Some(account) = self.within("find a person", wanted.one(self.orm())).await? else { return Ok(None) };
        let wanted = team_member::Entity::find().filter(team_member::Column::UserId.eq(user_id));
        let memberships = self.within("find a person's teams", wanted.all(self.orm())).await?;
        Ok(Some(Person { account, memberships }))
    }
}
