//! Signing in and out, one's own account, and the tickets that a page opens a WebSocket with.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use chrono::{TimeDelta, Utc};
use pinacle_bus::contract::{LoginId, Timestamp, UserId};
use pinacle_store::{AccountRow, AccountTokenPurpose, LiveTicketRow, LoginRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Shared, accounts::Account, json};
use crate::{
    accounts::{
        session::{self, Fresh, Visit},
        token,
    },
    audit,
    extract::{FromBody, FromPath},
    identity::{Actor, Identity, TICKET_PREFIX, Via},
    problem::{Code, Problem},
    request,
};

/// How long a page may take to open its WebSocket.
const TICKET: TimeDelta = TimeDelta::seconds(30);

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Their address.
    email: String,
    /// Their password.
    #[schema(format = Password)]
    password: String,
    /// The code of their app, or a recovery code, if they have a second factor.
    code: Option<String>,
}

/// A session that began. Its secret is in a cookie.
#[derive(Serialize, ToSchema)]
pub struct SignedIn {
    /// Who it is.
    account: Account,
    /// What changes need in the header `x-csrf-token`; the cookie `pinacle_csrf` holds the same.
    csrf_token: String,
}

/// Sign in
///
/// Sets the cookie of a new session. A wrong address and a wrong password are refused alike.
#[utoipa::path(post, path = "/sessions", operation_id = "session_create", tag = "accounts", security(()),
    request_body = SignIn, responses((status = 201, body = SignedIn)))]
pub async fn sign_in(app: Shared, headers: HeaderMap, FromBody(body): FromBody<SignIn>) -> Result<Response, Problem> {
    let address = request::address();
    if body.email.contains('@') {
        // Anything else may be a password in the wrong field.
        audit::about("email", &body.email, None);
    }
    app.limits.check_login(&body.email, address)?;
    let account = app.accounts.check(&body.email, body.password).await?;
    app.accounts.check_factor(&account, body.code.as_deref()).await?;
    app.limits.login_succeeded(&body.email, address);
    begin(&app, account, &headers).await
}

/// The second factor of who came from a provider.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondFactor {
    /// What stands behind `#pending=` of the page that one came to.
    token: String,
    /// The code of the app, or a recovery code.
    code: String,
}

/// Go on with a sign-in that lacks its second factor
///
/// For who came from a provider. A wrong code may be tried again.
#[utoipa::path(post, path = "/sessions/second-factor", operation_id = "session_second_factor", tag = "accounts",
    security(()), request_body = SecondFactor, responses((status = 201, body = SignedIn)))]
pub async fn second_factor(
    app: Shared,
    headers: HeaderMap,
    FromBody(body): FromBody<SecondFactor>,
) -> Result<Response, Problem> {
    let refused = || Problem::new(Code::LinkRefused, Code::LinkRefused.explanation());
    let digest = token::digest(&body.token).ok_or_else(refused)?;
    let now = Utc::now();
    let found = app.database.account_of_token(&digest, &[AccountTokenPurpose::Factor], now).await?;
    let (account, _) = found.ok_or_else(refused)?;
    let address = request::address();
    audit::about("user", &account.user_id, Some(&account.user_id));
    app.limits.check_login(&account.email, address)?;
    app.accounts.check_factor(&account, Some(&body.code)).await?;
    if !app.database.account_token_take(&digest, now).await? {
        return Err(refused());
    }
    app.limits.login_succeeded(&account.email, address);
    begin(&app, account, &headers).await
}

/// Begins a session; the one that the browser had ends.
pub(super) async fn replace(app: &App, account: &AccountRow, headers: &HeaderMap) -> Result<Fresh, Problem> {
    let accounts = &app.accounts;
    let fresh = accounts.begin(account, Visit::new(request::address(), headers)).await?;
    if let Some(digest) = session::cookie(headers, accounts.sessions.cookie()).and_then(token::digest) {
        accounts.database.login_end_by_token(&digest).await?;
    }
    Ok(fresh)
}

/// The same, told to a page.
async fn begin(app: &App, account: AccountRow, headers: &HeaderMap) -> Result<Response, Problem> {
    let fresh = replace(app, &account, headers).await?;
    let cookies = AppendHeaders(fresh.cookies.map(|cookie| (header::SET_COOKIE, cookie)));
    let body = json(&SignedIn { account: account.into(), csrf_token: fresh.csrf_token });
    Ok((StatusCode::CREATED, cookies, body).into_response())
}

/// A session in a browser.
#[derive(Serialize, ToSchema)]
pub struct Session {
    /// This session.
    #[schema(example = "login_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    session_id: String,
    /// Whether it is the one that asks.
    is_this: bool,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was used last, nearly.
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
    /// When it ends, if it is not used.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// From where it began.
    remote_address: String,
    /// What the browser called itself.
    user_agent: String,
}

/// One's sessions.
#[derive(Serialize, ToSchema)]
pub struct Sessions {
    /// The one used last first.
    items: Vec<Session>,
}

/// List your sessions
#[utoipa::path(get, path = "/sessions", operation_id = "session_list", tag = "accounts",
    responses((status = 200, body = Sessions)))]
pub async fn list(app: Shared, identity: Identity) -> Result<Response, Problem> {
    let (user_id, this) = person(&identity)?;
    let rows = app.database.login_list(&user_id.to_string(), Utc::now()).await?;
    let this = this.map(|login_id| login_id.to_string());
    let view = |row: LoginRow| Session {
        is_this: this.as_deref() == Some(&row.login_id),
        session_id: row.login_id,
        created_at: row.created_at.into(),
        seen_at: row.seen_at.into(),
        expires_at: row.expires_at.into(),
        remote_address: row.remote_address,
        user_agent: row.user_agent,
    };
    Ok(json(&Sessions { items: rows.into_iter().map(view).collect() }))
}

/// End a session of yours
///
/// `current` is the one that asks: signing out.
#[utoipa::path(delete, path = "/sessions/{id}", operation_id = "session_end", tag = "accounts", params(("id" = String, Path)),
    responses((status = 204)))]
pub async fn end(app: Shared, identity: Identity, FromPath(id): FromPath<String>) -> Result<Response, Problem> {
    let (user_id, this) = person(&identity)?;
    let missing = || Problem::new(Code::SessionNotFound, Code::SessionNotFound.explanation());
    let login_id: LoginId = match id.as_str() {
        "current" => this.ok_or_else(missing)?,
        id => id.parse().map_err(|_| missing())?,
    };
    if !app.database.login_end(&user_id.to_string(), &login_id.to_string()).await? {
        return Err(missing());
    }
    if this == Some(login_id) {
        let cookies = AppendHeaders(app.accounts.sessions.farewell().map(|cookie| (header::SET_COOKIE, cookie)));
        return Ok((StatusCode::NO_CONTENT, cookies).into_response());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// End all your other sessions
#[utoipa::path(delete, path = "/sessions", operation_id = "session_end_others", tag = "accounts",
    responses((status = 204)))]
pub async fn end_others(app: Shared, identity: Identity) -> Result<Response, Problem> {
    let (user_id, this) = person(&identity)?;
    let this = this.map(|login_id| login_id.to_string());
    app.database.login_end_others(&user_id.to_string(), this.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Your account
#[utoipa::path(get, path = "/account", operation_id = "account_get", tag = "accounts",
    responses((status = 200, body = Account)))]
pub async fn account(app: Shared, identity: Identity) -> Result<Response, Problem> {
    Ok(json(&Account::from(own(&app, &identity).await?)))
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The one until now.
    #[schema(format = Password)]
    current_password: String,
    /// The one from now on.
    #[schema(format = Password)]
    password: String,
}

/// Change your password
///
/// In a session; all others end.
#[utoipa::path(put, path = "/account/password", operation_id = "account_change_password", tag = "accounts",
    request_body = ChangePassword, responses((status = 204)))]
pub async fn change_password(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<ChangePassword>,
) -> Result<Response, Problem> {
    let keep = session_of(&identity)?.to_string();
    let changed = with_password(&app, &identity, async |account| {
        app.accounts.change_password(account, body.current_password, body.password, Some(&keep)).await
    });
    changed.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What opens one WebSocket.
#[derive(Serialize, ToSchema)]
pub struct Ticket {
    /// To offer as the subprotocol `bearer.<ticket>`.
    ticket: String,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// A ticket for a WebSocket
///
/// For pages, whose cookie opens none: it is good once and for half a minute.
#[utoipa::path(post, path = "/live/ticket", operation_id = "live_ticket", tag = "live",
    responses((status = 201, body = Ticket)))]
pub async fn ticket(app: Shared, identity: Identity) -> Result<Response, Problem> {
    let login_id = session_of(&identity)?;
    let now = Utc::now();
    let ticket = format!("{TICKET_PREFIX}{}", token::generate());
    let row = LiveTicketRow {
        ticket_hash: token::digest(&ticket).unwrap_or_default(),
        login_id: login_id.to_string(),
        expires_at: now + TICKET,
    };
    let expires_at = row.expires_at.into();
    app.database.live_ticket_put(row, now).await?;
    Ok((StatusCode::CREATED, json(&Ticket { ticket, expires_at })).into_response())
}

/// Who asks, if it is a person, and their session, if it is one.
fn person(identity: &Identity) -> Result<(UserId, Option<LoginId>), Problem> {
    match identity.actor() {
        Actor::User { user_id, via: Via::Session(login_id) } => Ok((user_id, Some(login_id))),
        Actor::User { user_id, .. } => Ok((user_id, None)),
        Actor::Installation => Err(Problem::new(Code::NoAccount, Code::NoAccount.explanation())),
    }
}

/// The session that asks.
pub(super) fn session_of(identity: &Identity) -> Result<LoginId, Problem> {
    let (_, login_id) = person(identity)?;
    login_id.ok_or_else(|| Problem::new(Code::SessionNeeded, Code::SessionNeeded.explanation()))
}

/// The account of who asks.
pub(super) async fn own(app: &App, identity: &Identity) -> Result<AccountRow, Problem> {
    let (user_id, _) = person(identity)?;
    let found = app.database.account_find(&user_id.to_string()).await?;
    found.ok_or_else(|| Problem::new(Code::NoAccount, Code::NoAccount.explanation()))
}

/// Does what takes the asker's password, in a session. How often it may be wrong is bounded as at signing in.
pub(super) async fn with_password<T>(
    app: &App,
    identity: &Identity,
    work: impl AsyncFnOnce(&AccountRow) -> Result<T, Problem>,
) -> Result<T, Problem> {
    session_of(identity)?;
    let account = own(app, identity).await?;
    let address = request::address();
    app.limits.check_login(&account.email, address)?;
    let done = work(&account).await?;
    app.limits.login_succeeded(&account.email, address);
    Ok(done)
}
