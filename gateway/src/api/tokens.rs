//! A person's tokens for the API. The text of one is told once, when it is made; only its digest is kept.
//!
//! A token may make others, but none that may do more, sees more or lasts longer than it; they end with it. It may end
//! itself and those that it made. A session may do all of it, for its own person.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use pinacle_bus::contract::{TeamId, Timestamp, TokenId, UserId};
use pinacle_store::{ApiTokenRow, Direction, StoreErrorKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Shared, json,
    page::{Page, PageQuery},
    teams, users,
};
use crate::{
    extract::{FromBody, FromPath, FromQuery},
    identity::{Actor, Grant, Identity, Via, api_token},
    problem::{Code, Problem},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const USUAL_DAYS: u32 = 90;
const MOST_DAYS: u32 = 366;
const LONGEST_NAME: usize = 64;

/// A token, without its text.
#[derive(Serialize, ToSchema)]
pub struct TokenView {
    /// This token.
    #[schema(example = "token_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    token_id: String,
    /// What its person calls it.
    name: String,
    /// What it may be used for.
    #[schema(value_type = Vec<GrantParameter>)]
    grants: Vec<String>,
    /// The only team that it is for; null = all that its person has.
    team_id: Option<String>,
    /// The token that it was made with; null = none. It ends with that one.
    made_by: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was last used, to the minute; null = never.
    #[schema(value_type = Option<String>, format = DateTime)]
    used_at: Option<Timestamp>,
}

/// A new token with its text, which is told this once.
#[derive(Serialize, ToSchema)]
pub struct TokenMade {
    /// As in a list.
    #[serde(flatten)]
    made: TokenView,
    /// Goes into the header `Authorization: Bearer <token>`. Keep it as a password.
    #[schema(example = "pin_…")]
    token: String,
}

impl From<ApiTokenRow> for TokenView {
    fn from(row: ApiTokenRow) -> Self {
        Self {
            token_id: row.token_id,
            name: row.name,
            grants: row.grants,
            team_id: row.team_id,
            made_by: row.made_by,
            created_at: row.created_at.into(),
            expires_at: row.expires_at.map(Timestamp::from),
            used_at: row.used_at.map(Timestamp::from),
        }
    }
}

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantParameter {
    /// To look.
    Read,
    /// To make and change pods.
    Pods,
    /// To change hosts.
    Hosts,
    /// To look after tokens and teams, and of an admin for what only admins may do. Without it an admin's token sees no
    /// more than anybody's.
    Admin,
}

impl From<GrantParameter> for Grant {
    fn from(parameter: GrantParameter) -> Self {
        match parameter {
            GrantParameter::Read => Self::Read,
            GrantParameter::Pods => Self::Pods,
            GrantParameter::Hosts => Self::Hosts,
            GrantParameter::Admin => Self::Admin,
        }
    }
}

/// Which tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokensQuery {
    /// Whose, by id or e-mail address: for admins. Your own if not given.
    user: Option<String>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// Whose token.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhoseQuery {
    /// Whose, by id or e-mail address: for admins. Your own if not given.
    user: Option<String>,
}

/// What a new token is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    /// What to call it: 1 to 64 letters.
    #[schema(example = "ci")]
    name: String,
    /// What it may be used for. `read` comes with each of the others.
    grants: BTreeSet<GrantParameter>,
    /// The only team that it is for, by id or name; without it for all that its person has.
    team: Option<String>,
    /// Days until it ends, from 1 to 366.
    #[schema(minimum = 1, maximum = 366, default = 90)]
    days: Option<u32>,
    /// Whose it is to be, by id or e-mail address: for the installation's own token, which is nobody's.
    user: Option<String>,
}

/// List tokens
///
/// Your own, the oldest first.
#[utoipa::path(get, path = "/tokens", operation_id = "token_list", tag = "accounts", params(TokensQuery),
    responses((status = 200, body = Page<TokenView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<TokensQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.request(Direction::Forward)?;
    let user = whose(&app, &identity, query.user.as_deref()).await?;
    let found = app.database.token_list(&user.to_string(), &page).await?;
    Ok(json(&Page {
        items: found.items.into_iter().map(TokenView::from).collect(),
        next_cursor: found.next.map(|cursor| cursor.to_string()),
    }))
}

/// Make a token
///
/// The answer holds its text, this once.
#[utoipa::path(post, path = "/tokens", operation_id = "token_create", tag = "accounts", request_body = TokenBody,
    responses((status = 201, body = TokenMade)))]
pub async fn create(app: Shared, identity: Identity, FromBody(body): FromBody<TokenBody>) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let row = wanted(&app, &identity, body, now).await?;
    let text = api_token::new();
    let row = ApiTokenRow { token_hash: Sha256::digest(text.expose().as_bytes()).to_vec(), ..row };
    match app.database.token_create(row.clone()).await {
        Ok(()) => {}
        Err(error) if *error.kind() == StoreErrorKind::Data => {
            return Err(Problem::new(Code::LimitReached, "a person has at most 100 tokens; revoke one"));
        }
        Err(error) => return Err(error.into()),
    }
    info!(identity = identity.name(), token_id = row.token_id, user_id = row.user_id, "made a token");
    let made = TokenMade { made: row.into(), token: text.expose().to_owned() };
    Ok((StatusCode::CREATED, json(&made)).into_response())
}

/// Revoke a token
///
/// It ends at once, with all that were made with it. `current` is the one that asks.
#[utoipa::path(delete, path = "/tokens/{token}", operation_id = "token_revoke", tag = "accounts",
    params(("token" = String, Path, description = "id"), WhoseQuery), responses((status = 204)))]
pub async fn revoke(
    app: Shared,
    identity: Identity,
    FromPath(token): FromPath<String>,
    FromQuery(query): FromQuery<WhoseQuery>,
) -> Result<Response, Problem> {
    let missing = || Problem::new(Code::TokenNotFound, Code::TokenNotFound.explanation());
    let token: TokenId = match (token.as_str(), identity.actor()) {
        ("current", Actor::User { via: Via::Token(own), .. }) => own,
        (id, _) => id.parse().map_err(|_| missing())?,
    };
    let user = whose(&app, &identity, query.user.as_deref()).await?.to_string();
    if let (Actor::User { via: Via::Token(own), .. }, false) = (identity.actor(), identity.is_admin())
        && own != token
        && !app.database.token_made_with(&token.to_string(), &own.to_string()).await?
    {
        return Err(missing());
    }
    match app.database.token_revoke(&user, &token.to_string(), Utc::now()).await {
        Ok(_) => {
            info!(identity = identity.name(), token_id = %token, "revoked a token");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Err(error) if *error.kind() == StoreErrorKind::NotFound => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Whose tokens are meant: those of whoever asks, if nobody is named.
async fn whose(app: &App, identity: &Identity, named: Option<&str>) -> Result<UserId, Problem> {
    let own = match identity.actor() {
        Actor::User { user_id, .. } => Some(user_id),
        Actor::Installation => None,
    };
    match named {
        None => own.ok_or_else(nobody),
        Some(named) if identity.is_admin() => users::find(app, named).await,
        // Whoever may not ask for others learns nothing of who there is.
        Some(named) if own.is_some_and(|own| own.to_string() == named) => own.ok_or_else(nobody),
        Some(_) => Err(Problem::new(Code::Forbidden, Code::Forbidden.explanation())),
    }
}

fn nobody() -> Problem {
    Problem::field(Code::InvalidParameter, "user", "must be given: the installation's own token is no person's")
}

/// The row of a new token, but for its digest. It is never more than what it is made with.
async fn wanted(app: &App, identity: &Identity, body: TokenBody, now: Timestamp) -> Result<ApiTokenRow, Problem> {
    let invalid = |field: &str, why: &str| Problem::field(Code::InvalidBody, field, why);
    if !(1..=LONGEST_NAME).contains(&body.name.chars().count()) || body.name.contains(char::is_control) {
        return Err(invalid("name", "must be 1 to 64 letters"));
    }
    let days = body.days.unwrap_or(USUAL_DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(invalid("days", "must be from 1 to 366"));
    }
    let mut grants: BTreeSet<Grant> = body.grants.into_iter().map(Grant::from).collect();
    if grants.is_empty() {
        return Err(invalid("grants", "must hold one at least of read, pods, hosts and admin"));
    }
    grants.insert(Grant::Read);
    if let Some(grant) = grants.iter().find(|grant| !identity.may(**grant)) {
        let detail = format!("this token has no grant {} to hand on", grant.as_str());
        return Err(Problem::new(Code::GrantMissing, detail));
    }
    let (user_id, made_by) = match identity.actor() {
        Actor::Installation => (users::find(app, body.user.as_deref().ok_or_else(nobody)?).await?, None),
        Actor::User { .. } if body.user.is_some() => {
            return Err(Problem::new(Code::Forbidden, "only the installation's own token makes tokens for others"));
        }
        Actor::User { user_id, via: Via::Session(_) } => (user_id, None),
        Actor::User { user_id, via: Via::Token(token) } => (user_id, Some(token)),
    };
    let mut expires_at = now.plus(DAY * days);
    let mut team_id: Option<TeamId> = match &body.team {
        Some(team) => Some(teams::find(app, identity, team).await?.0),
        None => None,
    };
    if let Some(made_by) = made_by {
        let with = app.database.token_get(&made_by.to_string()).await?;
        expires_at = with.expires_at.map_or(expires_at, |end| expires_at.min(end.into()));
        let limit: Option<TeamId> = with.team_id.and_then(|team| team.parse().ok());
        team_id = team_id.or(limit);
    }
    Ok(ApiTokenRow {
        token_id: TokenId::new().to_string(),
        user_id: user_id.to_string(),
        name: body.name,
        token_hash: Vec::new(),
        grants: grants.into_iter().map(|grant| grant.as_str().to_owned()).collect(),
        team_id: team_id.map(|team| team.to_string()),
        made_by: made_by.map(|token| token.to_string()),
        created_at: now.as_utc(),
        expires_at: Some(expires_at.as_utc()),
        used_at: None,
        revoked_at: None,
    })
}
