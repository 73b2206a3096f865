//! Invitations to teams. The text of one is a secret that goes to the invited address; only its digest is kept. It counts
//! once, for a while, and only for whoever has an account with that address.

use std::time::Duration;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use pinacle_bus::contract::{InvitationId, Timestamp};
use pinacle_store::{StoreErrorKind, TeamInvitationRow};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::info;
use utoipa::ToSchema;

use super::{RoleParameter, find, find_as, refused};
use crate::{
    accounts::{Errand, Letter},
    api::{Shared, json, page::Page},
    extract::{FromBody, FromPath},
    identity::{Actor, Identity, Role},
    problem::{Code, Problem},
};

const VALID_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An invitation that nobody has answered yet.
#[derive(Serialize, ToSchema)]
pub struct InvitationView {
    /// This invitation.
    #[schema(example = "invite_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    invitation_id: String,
    /// Who is invited.
    email: String,
    /// The role that they would have.
    #[schema(value_type = RoleParameter)]
    role: String,
    /// Who invited them.
    invited_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Until when they may answer.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// A new invitation.
#[derive(Serialize, ToSchema)]
pub struct InvitationMade {
    /// As in a list.
    #[serde(flatten)]
    made: InvitationView,
    /// What the invited person answers with, where no mail goes out to them. Told this once: hand it on to them, and to
    /// nobody else.
    token: Option<String>,
}

impl From<TeamInvitationRow> for InvitationView {
    fn from(row: TeamInvitationRow) -> Self {
        Self {
            invitation_id: row.invitation_id,
            email: row.email,
            role: row.role,
            invited_by: row.invited_by,
            created_at: row.created_at.into(),
            expires_at: row.expires_at.into(),
        }
    }
}

/// Whom to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationBody {
    /// Their e-mail address.
    #[schema(example = "ann@example.com")]
    email: String,
    /// The role that they are to have.
    role: RoleParameter,
}

/// The answer to an invitation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    /// What came with the invitation.
    token: String,
}

/// A team that somebody has joined.
#[derive(Serialize, ToSchema)]
pub struct Joined {
    /// The team.
    team_id: String,
    /// The role in it.
    #[schema(value_type = RoleParameter)]
    role: String,
}

/// List a team's open invitations
///
/// For admins of the team.
#[utoipa::path(get, path = "/teams/{team}/invitations", operation_id = "team_invitation_list", tag = "teams",
    params(("team" = String, Path, description = "id or name")), responses((status = 200, body = Page<InvitationView>)))]
pub async fn list(app: Shared, identity: Identity, FromPath(team): FromPath<String>) -> Result<Response, Problem> {
    let (team_id, _) = find_as(&app, &identity, &team, Role::Admin).await?;
    let rows = app.database.team_invitations(&team_id.to_string(), Utc::now()).await?;
    Ok(json(&Page { items: rows.into_iter().map(InvitationView::from).collect(), next_cursor: None }))
}

/// Invite somebody into a team
///
/// For admins of the team; only owners invite owners. A new invitation takes the place of an earlier one to the same
/// address. It ends after seven days.
#[utoipa::path(post, path = "/teams/{team}/invitations", operation_id = "team_invite", tag = "teams", request_body = InvitationBody,
    params(("team" = String, Path, description = "id or name")), responses((status = 201, body = InvitationMade)))]
pub async fn invite(
    app: Shared,
    identity: Identity,
    FromPath(team): FromPath<String>,
    FromBody(body): FromBody<InvitationBody>,
) -> Result<Response, Problem> {
    let (team_id, own) = find_as(&app, &identity, &team, Role::Admin).await?;
    let (_, team_row) = find(&app, &identity, &team).await?;
    let role = Role::from(body.role);
    if role > own {
        return Err(Problem::new(Code::RoleMissing, Code::RoleMissing.explanation()));
    }
    let email = address(&body.email)?;
    let text = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>());
    let now = Timestamp::now();
    let row = TeamInvitationRow {
        invitation_id: InvitationId::new().to_string(),
        team_id: team_id.to_string(),
        email,
        role: role.as_str().to_owned(),
        token_hash: hash(&text),
        invited_by: identity.name().to_owned(),
        created_at: now.as_utc(),
        expires_at: now.plus(VALID_FOR).as_utc(),
    };
    app.database.team_invite(row.clone()).await.map_err(refused)?;
    info!(identity = identity.name(), %team_id, invitation_id = row.invitation_id, "invited somebody");
    let accounts = &app.accounts;
    let token = if accounts.has_mail() {
        let told = format!("Hello,\n\nyou are invited into the team {}. To join it, or not:", team_row.name);
        let link = Some(format!("{}/join#invitation={text}", accounts.public_url()));
        accounts.later(Errand::Letter(Letter { to: row.email.clone(), subject: "An invitation", text: told, link }))?;
        None
    } else {
        Some(text)
    };
    Ok((StatusCode::CREATED, json(&InvitationMade { made: row.into(), token })).into_response())
}

/// Take an invitation back
///
/// For admins of the team.
#[utoipa::path(delete, path = "/teams/{team}/invitations/{invitation}", operation_id = "team_uninvite", tag = "teams",
    params(("team" = String, Path, description = "id or name"), ("invitation" = String, Path, description = "id")),
    responses((status = 204)))]
pub async fn uninvite(
    app: Shared,
    identity: Identity,
    FromPath((team, invitation)): FromPath<(String, String)>,
) -> Result<Response, Problem> {
    let (team_id, _) = find_as(&app, &identity, &team, Role::Admin).await?;
    let invitation: InvitationId = invitation.parse().map_err(|_| missing())?;
    match app.database.team_uninvite(&team_id.to_string(), &invitation.to_string()).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) if *error.kind() == StoreErrorKind::NotFound => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Join a team that you are invited to
#[utoipa::path(post, path = "/invitations/accept", operation_id = "invitation_accept", tag = "teams", request_body = AnswerBody,
    responses((status = 200, body = Joined)))]
pub async fn accept(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<AnswerBody>,
) -> Result<Response, Problem> {
    answer(&app, &identity, &body, true).await
}

/// Decline an invitation
#[utoipa::path(post, path = "/invitations/decline", operation_id = "invitation_decline", tag = "teams", request_body = AnswerBody,
    responses((status = 200, body = Joined)))]
pub async fn decline(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<AnswerBody>,
) -> Result<Response, Problem> {
    answer(&app, &identity, &body, false).await
}

async fn answer(app: &Shared, identity: &Identity, body: &AnswerBody, accepts: bool) -> Result<Response, Problem> {
    let Actor::User { user_id, .. } = identity.actor() else { return Err(missing()) };
    let answered = app.database.team_answer(&hash(&body.token), &user_id.to_string(), accepts, Utc::now()).await;
    match answered {
        Ok(row) => {
            info!(identity = identity.name(), team_id = row.team_id, accepts, "answered an invitation");
            Ok(json(&Joined { team_id: row.team_id, role: row.role }))
        }
        Err(error) if *error.kind() == StoreErrorKind::NotFound => Err(missing()),
        Err(error) => Err(refused(error)),
    }
}

fn missing() -> Problem {
    Problem::new(Code::InvitationNotFound, Code::InvitationNotFound.explanation())
}

fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

/// An e-mail address as it is kept. Whether it exists is shown by the answer alone.
fn address(text: &str) -> Result<String, Problem> {
    let text = text.trim().to_lowercase();
    let good = text.len() <= 254
        && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        && text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    if good { Ok(text) } else { Err(Problem::field(Code::InvalidBody, "email", "is no e-mail address")) }
}
