//! Who is in a team: their roles, and their leaving. Admins of a team look after members and admins, owners after all.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use pinacle_bus::contract::{Timestamp, UserId};
use pinacle_store::{MemberRow, StoreErrorKind};
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::{RoleParameter, find_as, refused};
use crate::{
    api::{App, Shared},
    extract::{FromBody, FromPath},
    identity::{Actor, Identity, Role},
    problem::{Code, Problem},
};

/// Somebody in a team.
#[derive(Serialize, ToSchema)]
pub struct MemberView {
    /// Who.
    user_id: String,
    /// Their e-mail address.
    email: String,
    /// Their name.
    name: String,
    /// Their role.
    #[schema(value_type = RoleParameter)]
    role: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    joined_at: Timestamp,
    /// Whether they may do nothing now, anywhere.
    suspended: bool,
}

impl From<MemberRow> for MemberView {
    fn from(row: MemberRow) -> Self {
        Self {
            user_id: row.user_id,
            email: row.email,
            name: row.name,
            role: row.role,
            joined_at: row.joined_at.into(),
            suspended: row.suspended_at.is_some(),
        }
    }
}

/// A role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleBody {
    /// The role.
    role: RoleParameter,
}

/// Give a member another role
///
/// For admins of the team; only owners make owners, and take that from others. One owner stays.
#[utoipa::path(put, path = "/teams/{team}/members/{user}", operation_id = "team_role", tag = "teams", request_body = RoleBody,
    params(("team" = String, Path, description = "id or name"), ("user" = String, Path, description = "id")),
    responses((status = 204)))]
pub async fn set_role(
    app: Shared,
    identity: Identity,
    FromPath((team, user)): FromPath<(String, String)>,
    FromBody(body): FromBody<RoleBody>,
) -> Result<Response, Problem> {
    let (team_id, own) = find_as(&app, &identity, &team, Role::Admin).await?;
    let (user_id, before) = member(&app, &team_id.to_string(), &user).await?;
    let role = Role::from(body.role);
    // Nobody gives, or takes, more than they have.
    if role.max(before) > own {
        return Err(Problem::new(Code::RoleMissing, Code::RoleMissing.explanation()));
    }
    let changed = app.database.team_role(&team_id.to_string(), &user_id.to_string(), role.as_str()).await;
    changed.map_err(member_refused)?;
    info!(identity = identity.name(), %team_id, %user_id, role = role.as_str(), "changed a role");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Take a member out of a team, or leave it
///
/// Anybody may leave; others are taken out by admins of the team, owners by owners. One owner stays.
#[utoipa::path(delete, path = "/teams/{team}/members/{user}", operation_id = "team_remove", tag = "teams",
    params(("team" = String, Path, description = "id or name"), ("user" = String, Path, description = "id")),
    responses((status = 204)))]
pub async fn remove(
    app: Shared,
    identity: Identity,
    FromPath((team, user)): FromPath<(String, String)>,
) -> Result<Response, Problem> {
    let (team_id, own) = find_as(&app, &identity, &team, Role::Member).await?;
    let (user_id, role) = member(&app, &team_id.to_string(), &user).await?;
    let leaves = matches!(identity.actor(), Actor::User { user_id: own, .. } if own == user_id);
    if !leaves && (own < Role::Admin || role > own) {
        return Err(Problem::new(Code::RoleMissing, Code::RoleMissing.explanation()));
    }
    let removed = app.database.team_leave(&team_id.to_string(), &user_id.to_string()).await;
    removed.map_err(member_refused)?;
    info!(identity = identity.name(), %team_id, %user_id, "took a member out of a team");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn missing() -> Problem {
    Problem::new(Code::UserNotFound, "the team has no such member")
}

fn member_refused(error: pinacle_store::StoreError) -> Problem {
    if *error.kind() == StoreErrorKind::NotFound { missing() } else { refused(error) }
}

async fn member(app: &App, team_id: &str, user: &str) -> Result<(UserId, Role), Problem> {
    let members = app.database.team_members(team_id).await?;
    let found = members.into_iter().find(|member| member.user_id == user || member.email == user.to_lowercase());
    let found = found.and_then(|member| Some((member.user_id.parse().ok()?, Role::find(&member.role)?)));
    found.ok_or_else(missing)
}
