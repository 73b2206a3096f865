//! How people come to accounts: the first one, invitations, sign-up, and passwords set by a link. But for the first two
//! these routes take nobody's identity, and what they answer tells nothing about who has an account.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use pinacle_bus::contract::Timestamp;
use pinacle_store::{AccountRow, AccountTokenPurpose};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Shared, json};
use crate::{
    accounts::{Accounts, Errand, provider::Provider},
    audit,
    extract::FromBody,
    identity::{Actor, Identity},
    problem::{Code, Problem},
    settings::SignUp,
};

/// A person with an account.
#[derive(Serialize, ToSchema)]
pub struct Account {
    /// This person.
    #[schema(example = "user_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    user_id: String,
    /// Their address, in lower case.
    #[schema(example = "someone@example.org")]
    email: String,
    /// What they are called.
    name: String,
    /// Whether they look after the installation.
    is_admin: bool,
    /// When they proved that the address is theirs; null while they have not.
    #[schema(value_type = Option<String>, format = DateTime)]
    email_verified_at: Option<Timestamp>,
    /// Since when they may not come in.
    #[schema(value_type = Option<String>, format = DateTime)]
    suspended_at: Option<Timestamp>,
    /// Since when there is the account.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Self {
            user_id: row.user_id,
            email: row.email,
            name: row.name,
            is_admin: row.is_admin,
            email_verified_at: row.email_verified_at.map(Timestamp::from),
            suspended_at: row.suspended_at.map(Timestamp::from),
            created_at: row.created_at.into(),
        }
    }
}

/// A link that sets a password. It is shown once.
#[derive(Serialize, ToSchema)]
pub struct PasswordLink {
    /// Whose.
    email: String,
    /// The link. Its secret stands behind the `#`.
    url: String,
    /// Until when it is good.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// How the first admin comes in.
#[derive(Serialize, ToSchema)]
pub struct First {
    /// The link; null when somebody has come in already.
    link: Option<PasswordLink>,
}

/// A link for the first admin
///
/// While nobody has come in yet, for the installation's own token. Each call makes the link before it useless.
#[utoipa::path(post, path = "/accounts/first", operation_id = "account_first", tag = "accounts",
    responses((status = 200, body = First)))]
pub async fn first(app: Shared, identity: Identity) -> Result<Response, Problem> {
    if identity.actor() != Actor::Installation {
        return Err(Problem::new(Code::Forbidden, Code::Forbidden.explanation()));
    }
    let link = app.accounts.first_link().await?;
    let link = link.map(|(email, link)| PasswordLink { email, url: link.url, expires_at: link.expires_at.into() });
    Ok(json(&First { link }))
}

/// Whom to make an account for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Their address.
    email: String,
    /// What they are called.
    #[serde(default)]
    name: String,
    /// Whether they look after the installation; only an admin may say so.
    #[serde(default)]
    is_admin: bool,
}

/// A new account.
#[derive(Serialize, ToSchema)]
pub struct Invited {
    /// As in a list.
    #[serde(flatten)]
    account: Account,
    /// The link that they come in by, where no mail goes out: hand it over. It is shown once.
    link: Option<String>,
}

/// Invite somebody
///
/// They get a mail with a link that sets their password. Admins may; where `gateway.sign_up` is not `closed` everybody may,
/// and is told no more than that it is under way (202).
#[utoipa::path(post, path = "/users", operation_id = "user_create", tag = "accounts", request_body = NewUser,
    responses((status = 201, body = Invited), (status = 202, description = "A mail is on its way, if that can be")))]
pub async fn invite(app: Shared, identity: Identity, FromBody(new): FromBody<NewUser>) -> Result<Response, Problem> {
    let accounts = &app.accounts;
    if !identity.is_admin() {
        if accounts.sign_up() == SignUp::Closed || new.is_admin || !identity.is_session() {
            return Err(Problem::new(Code::Forbidden, Code::Forbidden.explanation()));
        }
        let (email, name) = (Accounts::address(&new.email)?, Accounts::person_name(&new.name)?);
        accounts.later(Errand::Invite { email, name })?;
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let account = accounts.create(&new.email, &new.name, new.is_admin).await?;
    let link = accounts.password_link(&account, AccountTokenPurpose::Invite, TimeDelta::zero()).await?;
    let link = match link {
        Some(link) if accounts.has_mail() => {
            accounts.write_invitation(&account, &link)?;
            None
        }
        link => link.map(|link| link.url),
    };
    Ok((StatusCode::CREATED, json(&Invited { account: account.into(), link })).into_response())
}

/// How people sign in here.
#[derive(Serialize, ToSchema)]
pub struct Ways {
    /// Who may make an account: `closed`, `invited` or `open`.
    #[schema(value_type = String, example = "closed")]
    sign_up: SignUp,
    /// Whether mail goes out, so that a lost password can be replaced.
    mail: bool,
    /// Where else people may say who they are.
    providers: Vec<ProviderView>,
}

/// A provider that people sign in with.
#[derive(Serialize, ToSchema)]
pub struct ProviderView {
    /// Its name in paths.
    #[schema(example = "github")]
    id: String,
    /// Its name for people.
    #[schema(example = "GitHub")]
    name: String,
    /// Where a browser begins; `next` is where to go afterwards, a path of the gateway.
    #[schema(example = "/auth/github/start")]
    path: String,
}

/// How people sign in here
#[utoipa::path(get, path = "/accounts/ways", operation_id = "account_ways", tag = "accounts", security(()),
    responses((status = 200, body = Ways)))]
pub async fn ways(app: Shared) -> Response {
    let view = |provider: &Provider| ProviderView {
        id: provider.id().to_owned(),
        name: provider.name().to_owned(),
        path: format!("/auth/{}/start", provider.id()),
    };
    let providers = app.accounts.providers().iter().map(view).collect();
    json(&Ways { sign_up: app.accounts.sign_up(), mail: app.accounts.has_mail(), providers })
}

/// Who wants an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignUpBody {
    /// Their address.
    email: String,
    /// What they are called.
    #[serde(default)]
    name: String,
}

/// Ask for an account
///
/// Where `gateway.sign_up` is `open`. A link comes by mail; nothing tells whether the address has an account already.
#[utoipa::path(post, path = "/accounts", operation_id = "account_sign_up", tag = "accounts", security(()),
    request_body = SignUpBody, responses((status = 202, description = "A mail is on its way, if that can be")))]
pub async fn sign_up(app: Shared, FromBody(body): FromBody<SignUpBody>) -> Result<Response, Problem> {
    if app.accounts.sign_up() != SignUp::Open {
        return Err(Problem::new(Code::SignUpClosed, Code::SignUpClosed.explanation()));
    }
    let (email, name) = (Accounts::address(&body.email)?, Accounts::person_name(&body.name)?);
    app.accounts.later(Errand::SignUp { email, name })?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Whose password is lost.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetBody {
    /// Their address.
    email: String,
}

/// Ask for a new password
///
/// A link comes by mail; nothing tells whether the address has an account.
#[utoipa::path(post, path = "/accounts/reset", operation_id = "account_reset", tag = "accounts", security(()),
    request_body = ResetBody, responses((status = 202, description = "A mail is on its way, if there is an account")))]
pub async fn reset(app: Shared, FromBody(body): FromBody<ResetBody>) -> Result<Response, Problem> {
    app.accounts.later(Errand::Reset { email: Accounts::address(&body.email)? })?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// A new password, by a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// What stands behind the `#` of the link.
    token: String,
    /// The password.
    #[schema(format = Password)]
    password: String,
}

/// Set a password by a link
///
/// The link works once, and proves the address. All sessions end.
#[utoipa::path(post, path = "/accounts/password", operation_id = "account_set_password", tag = "accounts", security(()),
    request_body = SetPassword, responses((status = 200, body = Account)))]
pub async fn set_password(app: Shared, FromBody(body): FromBody<SetPassword>) -> Result<Response, Problem> {
    let account = app.accounts.set_password_by_link(&body.token, body.password).await?;
    audit::about("user", &account.user_id, Some(&account.user_id));
    Ok(json(&Account::from(account)))
}
