//! Teams, who is in them, and who is invited. A team is seen by its members.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, Value};
use sqlx::PgConnection;

use super::{belongings::Belongings, keyset};
use crate::{
    Database, Page, PageRequest, Scope, StoreError, StoreErrorKind, TeamInvitationRow, TeamMemberRow, TeamRow,
    database::Outcome,
    entity::{team, team_invitation},
};

/// Named in a [`StoreErrorKind::Conflict`]: a team has an owner at all times.
pub const LAST_OWNER: &str = "last_owner";
/// Named in a [`StoreErrorKind::Conflict`]: there are as many members, invitations or teams as may be.
pub const FULL: &str = "full";

/// Members and open invitations of one team together.
const MOST_MEMBERS: i64 = 500;
/// Teams that one person is in.
const MOST_TEAMS: i64 = 100;
const OWNER: &str = "owner";

/// Somebody in a team, for people.
#[derive(Debug, Clone, PartialEq, FromQueryResult)]
pub struct MemberRow {
    /// Who.
    pub user_id: String,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their role.
    pub role: String,
    /// Since when.
    pub joined_at: DateTime<Utc>,
    /// Whether they may do nothing now.
    pub suspended_at: Option<DateTime<Utc>>,
}

fn conflict<T>(constraint: &str) -> Outcome<T> {
    Ok(Err(StoreErrorKind::Conflict { constraint: constraint.into() }))
}

/// Whatever changes a team's members is one after the other. `false` = there is no such team.
async fn lock(connection: &mut PgConnection, team_id: &str) -> Result<bool, sqlx::Error> {
    let sql = "SELECT team_id FROM team WHERE team_id = $1 FOR UPDATE";
    Ok(sqlx::query_scalar::<_, String>(sql).bind(team_id).fetch_optional(connection).await?.is_some())
}

/// Whether an owner can be given something: a team stays until the transaction has ended, `false` = it is gone. People stay
/// in any case.
pub(super) async fn hold(connection: &mut PgConnection, owner: &str) -> Result<bool, sqlx::Error> {
    if !owner.starts_with("team_") {
        return Ok(true);
    }
    let sql = "SELECT team_id FROM team WHERE team_id = $1 FOR KEY SHARE";
    Ok(sqlx::query_scalar::<_, String>(sql).bind(owner).fetch_optional(connection).await?.is_some())
}

/// Whether somebody is the only owner of a team.
async fn is_last_owner(connection: &mut PgConnection, team_id: &str, user_id: &str) -> Result<bool, sqlx::Error> {
    let sql = "SELECT user_id FROM team_member WHERE team_id = $1 AND role = 'owner'";
    let owners: Vec<String> = sqlx::query_scalar(sql).bind(team_id).fetch_all(connection).await?;
    Ok(owners == [user_id])
}

async fn count(connection: &mut PgConnection, sql: &'static str, id: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(sql).bind(id).fetch_one(connection).await
}

async fn join(
    connection: &mut PgConnection,
    (team_id, user_id): (&str, &str),
    role: &str,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    // The person's row, so that two invitations at once do not both find room.
    sqlx::query("SELECT FROM account WHERE user_id = $1 FOR UPDATE").bind(user_id).execute(&mut *connection).await?;
    let teams = count(connection, "SELECT count(*) FROM team_member WHERE user_id = $1", user_id).await?;
    if teams >= MOST_TEAMS {
        return Ok(false);
    }
    let sql = "INSERT INTO team_member (team_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (team_id, user_id) DO NOTHING";
    sqlx::query(sql).bind(team_id).bind(user_id).bind(role).bind(now).execute(connection).await?;
    Ok(true)
}

impl Database {
    /// Makes a team with its first owner.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] when the name is taken, or with [`FULL`]; [`StoreErrorKind::Unavailable`].
    pub async fn team_create(&self, row: &TeamRow, user_id: &str) -> Result<(), StoreError> {
        self.settle("make a team", async |connection| {
            sqlx::query("INSERT INTO team (team_id, name, created_at) VALUES ($1, $2, $3)")
                .bind(&row.team_id)
                .bind(&row.name)
                .bind(row.created_at)
                .execute(&mut *connection)
                .await?;
            if !join(connection, (&row.team_id, user_id), OWNER, row.created_at).await? {
                return conflict(FULL);
            }
            Ok(Ok(()))
        })
        .await
    }

    /// Teams by id, that is by age: those in scope.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn team_list(&self, scope: &Scope, page: &PageRequest) -> Result<Page<TeamRow>, StoreError> {
        const QUERY: &str = "list teams";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let select = keyset(team::Entity::find().filter(teams_in(scope)), page, team::Column::TeamId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.team_id.clone()))
    }

    /// A team by id or name.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], also when it is not in scope; [`StoreErrorKind::Unavailable`].
    pub async fn team_get(&self, scope: &Scope, id_or_name: &str) -> Result<TeamRow, StoreError> {
        const QUERY: &str = "find a team";
        let missing = || StoreError::new(QUERY, StoreErrorKind::NotFound);
        if id_or_name.contains('\0') {
            return Err(missing());
        }
        let named = Condition::any().add(team::Column::TeamId.eq(id_or_name)).add(team::Column::Name.eq(id_or_name));
        let select = team::Entity::find().filter(teams_in(scope)).filter(named);
        self.within(QUERY, select.one(self.orm())).await?.ok_or_else(missing)
    }

    /// Gives a team another name.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Conflict`] when the name is taken, [`StoreErrorKind::Unavailable`].
    pub async fn team_rename(&self, team_id: &str, name: &str) -> Result<(), StoreError> {
        const QUERY: &str = "rename a team";
        let statement = Self::statement("UPDATE team SET name = $2 WHERE team_id = $1", [team_id.into(), name.into()]);
        let changed = self.within(QUERY, self.orm().execute_raw(statement)).await?.rows_affected();
        if changed == 0 { Err(StoreError::new(QUERY, StoreErrorKind::NotFound)) } else { Ok(()) }
    }

    /// Ends a team with its members, invitations and tokens, unless it has something: the inner error says what. `live` is
    /// what it is known to have besides.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn team_delete(&self, team_id: &str, live: Belongings) -> Result<Result<(), Belongings>, StoreError> {
        self.settle("delete a team", async |connection| {
            if !lock(connection, team_id).await? {
                return Ok(Err(StoreErrorKind::NotFound));
            }
            let has = Belongings::find(connection, team_id, live).await?;
            if has != Belongings::default() {
                return Ok(Ok(Err(has)));
            }
            sqlx::query("DELETE FROM quota WHERE owner = $1").bind(team_id).execute(&mut *connection).await?;
            sqlx::query("DELETE FROM team WHERE team_id = $1").bind(team_id).execute(connection).await?;
            Ok(Ok(Ok(())))
        })
        .await
    }

    /// Who is in a team, by id.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn team_members(&self, team_id: &str) -> Result<Vec<MemberRow>, StoreError> {
        const QUERY: &str = "list a team's members";
        let sql = "SELECT user_id, email, name, role, joined_at, suspended_at \
                   FROM team_member JOIN account USING (user_id) WHERE team_id = $1 ORDER BY joined_at, user_id";
        let select = MemberRow::find_by_statement(Self::statement(sql, [Value::from(team_id)]));
        self.within(QUERY, select.all(self.orm())).await
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when they are no member, [`StoreErrorKind::Conflict`] with [`LAST_OWNER`],
    /// [`StoreErrorKind::Unavailable`].
    pub async fn team_role(&self, team_id: &str, user_id: &str, role: &str) -> Result<(), StoreError> {
        self.settle("change a role", async |connection| {
            lock(connection, team_id).await?;
            if role != OWNER && is_last_owner(connection, team_id, user_id).await? {
                return conflict(LAST_OWNER);
            }
            let sql = "UPDATE team_member SET role = $3 WHERE team_id = $1 AND user_id = $2";
            let query = sqlx::query(sql).bind(team_id).bind(user_id).bind(role);
            let changed = query.execute(connection).await?.rows_affected();
            Ok(if changed == 0 { Err(StoreErrorKind::NotFound) } else { Ok(()) })
        })
        .await
    }

    /// Takes somebody out of a team.
    ///
    /// # Errors
    /// As for [`team_role`](Self::team_role).
    pub async fn team_leave(&self, team_id: &str, user_id: &str) -> Result<(), StoreError> {
        self.settle("take a member out of a team", async |connection| {
            lock(connection, team_id).await?;
            if is_last_owner(connection, team_id, user_id).await? {
                return conflict(LAST_OWNER);
            }
            let sql = "DELETE FROM team_member WHERE team_id = $1 AND user_id = $2";
            let gone = sqlx::query(sql).bind(team_id).bind(user_id).execute(connection).await?.rows_affected();
            Ok(if gone == 0 { Err(StoreErrorKind::NotFound) } else { Ok(()) })
        })
        .await
    }

    /// Keeps an invitation in place of an earlier one to the same address.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when there is no such team, [`StoreErrorKind::Conflict`] with [`FULL`],
    /// [`StoreErrorKind::Unavailable`].
    pub async fn team_invite(&self, row: TeamInvitationRow) -> Result<(), StoreError> {
        const MEMBERS: &str = "SELECT count(*) FROM team_member WHERE team_id = $1";
        const OPEN: &str = "SELECT count(*) FROM team_invitation WHERE team_id = $1";
        const INSERT: &str = "INSERT INTO team_invitation \
            (invitation_id, team_id, email, role, token_hash, invited_by, created_at, expires_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        self.settle("keep an invitation", async |connection| {
            if !lock(connection, &row.team_id).await? {
                return Ok(Err(StoreErrorKind::NotFound));
            }
            sqlx::query("DELETE FROM team_invitation WHERE team_id = $1 AND (email = $2 OR expires_at < $3)")
                .bind(&row.team_id)
                .bind(&row.email)
                .bind(row.created_at)
                .execute(&mut *connection)
                .await?;
            let taken = count(connection, MEMBERS, &row.team_id).await? + count(connection, OPEN, &row.team_id).await?;
            if taken >= MOST_MEMBERS {
                return conflict(FULL);
            }
            sqlx::query(INSERT)
                .bind(&row.invitation_id)
                .bind(&row.team_id)
                .bind(&row.email)
                .bind(&row.role)
                .bind(&row.token_hash)
                .bind(&row.invited_by)
                .bind(row.created_at)
                .bind(row.expires_at)
                .execute(connection)
                .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// A team's open invitations, the oldest first.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn team_invitations(
        &self,
        team_id: &str,
        now: DateTime<Utc>,
    ) -> Result<Vec<TeamInvitationRow>, StoreError> {
        let wanted = team_invitation::Entity::find()
            .filter(team_invitation::Column::TeamId.eq(team_id))
            .filter(team_invitation::Column::ExpiresAt.gt(now));
        let select = keyset(
            wanted,
            &PageRequest::first(PageRequest::MOST),
            team_invitation::Column::InvitationId,
            None::<String>,
        );
        self.within("list invitations", select.all(self.orm())).await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn team_uninvite(&self, team_id: &str, invitation_id: &str) -> Result<(), StoreError> {
        const QUERY: &str = "take an invitation back";
        let delete = team_invitation::Entity::delete_many()
            .filter(team_invitation::Column::TeamId.eq(team_id))
            .filter(team_invitation::Column::InvitationId.eq(invitation_id));
        let gone = self.within(QUERY, delete.exec(self.orm())).await?.rows_affected;
        if gone == 0 { Err(StoreError::new(QUERY, StoreErrorKind::NotFound)) } else { Ok(()) }
    }

    /// Uses an invitation up: whoever has its token and its e-mail address joins the team, or declines. Once.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when there is none, it has expired, or it is for another address;
    /// [`StoreErrorKind::Conflict`] with [`FULL`]; [`StoreErrorKind::Unavailable`].
    pub async fn team_answer(
        &self,
        token_hash: &[u8],
        user_id: &str,
        accepts: bool,
        now: DateTime<Utc>,
    ) -> Result<TeamMemberRow, StoreError> {
        const TAKE: &str = "DELETE FROM team_invitation USING account WHERE token_hash = $1 AND expires_at > $2 \
                            AND account.user_id = $3 AND account.email = team_invitation.email \
                            RETURNING team_id, role";
        self.settle("answer an invitation", async |connection| {
            let taken: Option<(String, String)> =
                sqlx::query_as(TAKE).bind(token_hash).bind(now).bind(user_id).fetch_optional(&mut *connection).await?;
            let Some((team_id, role)) = taken else { return Ok(Err(StoreErrorKind::NotFound)) };
            if accepts && !join(connection, (&team_id, user_id), &role, now).await? {
                return conflict(FULL);
            }
            Ok(Ok(TeamMemberRow { team_id, user_id: user_id.to_owned(), role, joined_at: now }))
        })
        .await
    }
}

fn teams_in(scope: &Scope) -> Condition {
    match scope.owners() {
        Some(owners) => Condition::all().add(team::Column::TeamId.is_in(owners)),
        None => Condition::all(),
    }
}
