//! One's own account: another address, and its end. Both take the password, so that a session that somebody left open is
//! not enough.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Shared, accounts::Account, factor::WithPassword, json, owners, sessions::with_password};
use crate::{
    accounts::{session, token},
    audit,
    extract::FromBody,
    identity::Identity,
    problem::{Code, Problem},
};

/// Another address.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeEmail {
    /// The new one.
    email: String,
    /// Your password.
    #[schema(format = Password)]
    password: String,
}

/// Ask for another e-mail address
///
/// A link goes to the new one by mail; until somebody follows it nothing changes. Nothing tells whether that address has
/// an account.
#[utoipa::path(post, path = "/account/email", operation_id = "account_change_email", tag = "accounts",
    request_body = ChangeEmail, responses((status = 202, description = "A mail is on its way, if that can be")))]
pub async fn change_email(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<ChangeEmail>,
) -> Result<Response, Problem> {
    let asked = with_password(&app, &identity, async |account| {
        app.accounts.ask_for_address(account, body.password, &body.email).await
    });
    asked.await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// What stands in a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmEmail {
    /// What stands behind the `#` of the link.
    token: String,
}

/// Take another e-mail address by a link
///
/// The link works once, and proves the address. The address before is told, and all sessions but the one that asks end.
#[utoipa::path(post, path = "/accounts/email", operation_id = "account_confirm_email", tag = "accounts", security(()),
    request_body = ConfirmEmail, responses((status = 200, body = Account)))]
pub async fn confirm_email(
    app: Shared,
    headers: HeaderMap,
    FromBody(body): FromBody<ConfirmEmail>,
) -> Result<Response, Problem> {
    let keep = session::cookie(&headers, app.accounts.sessions.cookie()).and_then(token::digest);
    let account = app.accounts.take_address(&body.token, keep.as_deref()).await?;
    audit::about("user", &account.user_id, Some(&account.user_id));
    Ok(json(&Account::from(account)))
}

/// Delete your account
///
/// Your sessions and tokens end at once. Not while you have pods, hosts, secrets or tokens by which hosts join, are the only
/// owner of a team, or the only admin.
#[utoipa::path(post, path = "/account/delete", operation_id = "account_delete", tag = "accounts",
    request_body = WithPassword, responses((status = 204)))]
pub async fn delete(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<WithPassword>,
) -> Result<Response, Problem> {
    let proven = with_password(&app, &identity, async |account| {
        app.accounts.check_own_password(account, "password", body.password).await?;
        Ok(account.clone())
    });
    let account = proven.await?;
    let live = owners::live_belongings(&app, &account.user_id)?;
    crate::quota::settle(&app, &account.user_id).await?;
    if let Err(has) = app.accounts.delete(&account, live).await? {
        return Err(Problem::new(Code::AccountNotEmpty, owners::still_has(has)));
    }
    let farewell = AppendHeaders(app.accounts.sessions.farewell().map(|cookie| (header::SET_COOKIE, cookie)));
    Ok((StatusCode::NO_CONTENT, farewell).into_response())
}
