//! Teams: people who share what they own. What a member, an admin and an owner of a team may do stands in the README;
//! whoever is in none of a team's roles is told that there is no such team.

pub mod invitations;
pub mod members;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use pinacle_bus::contract::{TeamId, Timestamp};
use pinacle_store::{Direction, FULL, LAST_OWNER, StoreError, StoreErrorKind, TeamRow};
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use self::members::MemberView;
use super::{
    App, Shared, json, owners,
    page::{Page, PageQuery},
};
use crate::{
    extract::{FromBody, FromPath, FromQuery},
    identity::{Actor, Identity, Role},
    problem::{Code, Problem},
};

/// A team.
#[derive(Serialize, ToSchema)]
pub struct TeamView {
    /// This team.
    #[schema(example = "team_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    team_id: String,
    /// What people call it.
    name: String,
    /// Your role in it; null for an admin of the installation who is in none.
    #[schema(value_type = Option<RoleParameter>)]
    role: Option<&'static str>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A team with who is in it.
#[derive(Serialize, ToSchema)]
pub struct TeamDetail {
    /// As in a list.
    #[serde(flatten)]
    team: TeamView,
    /// Who is in it, the longest first.
    members: Vec<MemberView>,
}

/// Somebody's place in a team; later ones may do all that earlier ones may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleParameter {
    /// Uses what the team has.
    Member,
    /// Also deletes and transfers what the team has, and looks after members.
    Admin,
    /// Also renames and ends the team, and makes owners.
    Owner,
}

impl From<RoleParameter> for Role {
    fn from(parameter: RoleParameter) -> Self {
        match parameter {
            RoleParameter::Member => Self::Member,
            RoleParameter::Admin => Self::Admin,
            RoleParameter::Owner => Self::Owner,
        }
    }
}

/// Which teams.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TeamsQuery {
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// What a team is called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamBody {
    /// 2 to 63 of a-z, 0-9 and `-`; no other team may have it.
    #[schema(example = "platform")]
    name: String,
}

impl TeamBody {
    fn name(self) -> Result<String, Problem> {
        let name = self.name;
        let good = (2..=63).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        let why = "must be 2 to 63 of a-z, 0-9 and -, with no - at either end";
        if good { Ok(name) } else { Err(Problem::field(Code::InvalidBody, "name", why)) }
    }
}

fn view(identity: &Identity, row: TeamRow) -> TeamView {
    let role = row.team_id.parse().ok().and_then(|team| identity.role_in(team));
    TeamView { team_id: row.team_id, name: row.name, role: role.map(Role::as_str), created_at: row.created_at.into() }
}

/// List teams
///
/// Those that you are in; all of them for admins.
#[utoipa::path(get, path = "/teams", operation_id = "team_list", tag = "teams", params(TeamsQuery),
    responses((status = 200, body = Page<TeamView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<TeamsQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.request(Direction::Forward)?;
    let found = app.database.team_list(identity.scope(), &page).await?;
    Ok(json(&Page {
        items: found.items.into_iter().map(|row| view(&identity, row)).collect(),
        next_cursor: found.next.map(|cursor| cursor.to_string()),
    }))
}

/// Make a team
///
/// You are its owner.
#[utoipa::path(post, path = "/teams", operation_id = "team_create", tag = "teams", request_body = TeamBody,
    responses((status = 201, body = TeamView)))]
pub async fn create(app: Shared, identity: Identity, FromBody(body): FromBody<TeamBody>) -> Result<Response, Problem> {
    let name = body.name()?;
    let Actor::User { user_id, .. } = identity.actor() else {
        return Err(Problem::new(Code::Forbidden, "a team belongs to people: make it as one of them"));
    };
    if !identity.owns(&user_id.to_string()) {
        return Err(Problem::new(Code::Forbidden, "a token that is for one team makes no others"));
    }
    let row = TeamRow { team_id: TeamId::new().to_string(), name, created_at: Timestamp::now().as_utc() };
    app.database.team_create(&row, &user_id.to_string()).await.map_err(refused)?;
    info!(identity = identity.name(), team_id = row.team_id, "made a team");
    let location = format!("/api/v1/teams/{}", row.team_id);
    let made = TeamView {
        team_id: row.team_id,
        name: row.name,
        role: Some(Role::Owner.as_str()),
        created_at: row.created_at.into(),
    };
    Ok((StatusCode::CREATED, [(axum::http::header::LOCATION, location)], json(&made)).into_response())
}

/// One team with its members
#[utoipa::path(get, path = "/teams/{team}", operation_id = "team_get", tag = "teams",
    params(("team" = String, Path, description = "id or name")), responses((status = 200, body = TeamDetail)))]
pub async fn one(app: Shared, identity: Identity, FromPath(team): FromPath<String>) -> Result<Response, Problem> {
    let (_, row) = find(&app, &identity, &team).await?;
    let members = app.database.team_members(&row.team_id).await?;
    let members = members.into_iter().map(MemberView::from).collect();
    Ok(json(&TeamDetail { team: view(&identity, row), members }))
}

/// Give a team another name
///
/// For its owners.
#[utoipa::path(put, path = "/teams/{team}", operation_id = "team_rename", tag = "teams", request_body = TeamBody,
    params(("team" = String, Path, description = "id or name")), responses((status = 204)))]
pub async fn rename(
    app: Shared,
    identity: Identity,
    FromPath(team): FromPath<String>,
    FromBody(body): FromBody<TeamBody>,
) -> Result<Response, Problem> {
    let (team_id, _) = find_as(&app, &identity, &team, Role::Owner).await?;
    app.database.team_rename(&team_id.to_string(), &body.name()?).await.map_err(refused)?;
    info!(identity = identity.name(), %team_id, "renamed a team");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// End a team
///
/// For its owners. What it has must be deleted or given away before: pods, hosts, secrets, and tokens by which hosts join.
#[utoipa::path(delete, path = "/teams/{team}", operation_id = "team_delete", tag = "teams",
    params(("team" = String, Path, description = "id or name")), responses((status = 204)))]
pub async fn delete(app: Shared, identity: Identity, FromPath(team): FromPath<String>) -> Result<Response, Problem> {
    let (team_id, _) = find_as(&app, &identity, &team, Role::Owner).await?;
    let owner = team_id.to_string();
    let live = owners::live_belongings(&app, &owner)?;
    crate::quota::settle(&app, &owner).await?;
    if let Err(has) = app.database.team_delete(&owner, live).await.map_err(refused)? {
        return Err(Problem::new(Code::TeamNotEmpty, owners::still_has(has)));
    }
    info!(identity = identity.name(), %team_id, "deleted a team");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A team by id or name, if the asker is in it or is admin.
///
/// # Errors
/// When there is none.
pub async fn find(app: &App, identity: &Identity, id_or_name: &str) -> Result<(TeamId, TeamRow), Problem> {
    let row = app.database.team_get(identity.scope(), id_or_name).await.map_err(refused)?;
    let team_id = row.team_id.parse().map_err(|_| missing())?;
    Ok((team_id, row))
}

/// The same for what takes a role in it.
///
/// # Errors
/// When there is none, or the asker's role in it is less.
pub async fn find_as(app: &App, identity: &Identity, id_or_name: &str, least: Role) -> Result<(TeamId, Role), Problem> {
    let (team, _) = find(app, identity, id_or_name).await?;
    // An admin of the installation may do in a team what its owners may.
    let role = if identity.is_admin() { Some(Role::Owner) } else { identity.role_in(team) };
    match role {
        Some(role) if role >= least => Ok((team, role)),
        Some(_) => Err(Problem::new(Code::RoleMissing, Code::RoleMissing.explanation())),
        None => Err(missing()),
    }
}

fn missing() -> Problem {
    Problem::new(Code::TeamNotFound, Code::TeamNotFound.explanation())
}

/// What the store refuses about teams, for people.
fn refused(error: StoreError) -> Problem {
    let told = |code: Code| Problem::new(code, code.explanation());
    match error.kind() {
        StoreErrorKind::NotFound => missing(),
        StoreErrorKind::Conflict { constraint } => match constraint.as_str() {
            "team_name" => Problem::new(Code::NameTaken, "there is a team of this name"),
            FULL => Problem::new(Code::LimitReached, "the team, or the person, has as many members or teams as may be"),
            LAST_OWNER => told(Code::LastOwner),
            _ => error.into(),
        },
        _ => error.into(),
    }
}
