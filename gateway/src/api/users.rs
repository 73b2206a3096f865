//! People, as admins of the installation see and change them.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use pinacle_bus::contract::UserId;
use pinacle_store::{Direction, LAST_ADMIN, Scope, StoreError, StoreErrorKind, UserChange, UserFilter};
use serde::Deserialize;
use tracing::info;
use utoipa::IntoParams;

use super::{
    App, Shared,
    accounts::Account,
    json,
    page::{Page, PageQuery},
};
use crate::{
    extract::{FromPath, FromQuery},
    identity::Identity,
    problem::{Code, Problem},
};

/// Which people.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// Only who is suspended, or is not.
    suspended: Option<bool>,
    /// Only who is admin, or is not.
    admin: Option<bool>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// List people
#[utoipa::path(get, path = "/users", operation_id = "user_list", tag = "installation", params(UsersQuery),
    responses((status = 200, body = Page<Account>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<UsersQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.request(Direction::Forward)?;
    let filter = UserFilter { suspended: query.suspended, admin: query.admin };
    let found = app.database.user_list(identity.scope(), filter, &page).await?;
    Ok(json(&Page {
        items: found.items.into_iter().map(Account::from).collect(),
        next_cursor: found.next.map(|cursor| cursor.to_string()),
    }))
}

/// One person
#[utoipa::path(get, path = "/users/{user}", operation_id = "user_get", tag = "installation",
    params(("user" = String, Path, description = "id or e-mail address")), responses((status = 200, body = Account)))]
pub async fn one(app: Shared, identity: Identity, FromPath(user): FromPath<String>) -> Result<Response, Problem> {
    let row = app.database.user_get(identity.scope(), &user).await.map_err(refused)?;
    Ok(json(&Account::from(row)))
}

macro_rules! changes {
    ($($(#[doc = $doc:literal])* $name:ident($method:ident $path:literal, $id:literal, $change:expr);)*) => {$(
        $(#[doc = $doc])*
        #[utoipa::path($method, path = $path, operation_id = $id, tag = "installation",
            params(("user" = String, Path, description = "id or e-mail address")), responses((status = 204)))]
        pub async fn $name(app: Shared, identity: Identity, FromPath(user): FromPath<String>) -> Result<Response, Problem> {
            change(&app, &identity, &user, $change).await
        }
    )*};
}

changes! {
    /// Suspend a person
    ///
    /// Their sessions and tokens count no more at once; their pods go on. The last admin stays.
    suspend(post "/users/{user}/suspend", "user_suspend", UserChange::Suspended(Some(Utc::now())));
    /// Let a suspended person in again
    unsuspend(post "/users/{user}/unsuspend", "user_unsuspend", UserChange::Suspended(None));
    /// Make a person admin
    grant_admin(put "/users/{user}/admin", "user_grant_admin", UserChange::Admin(true));
    /// Make an admin a person like others
    ///
    /// The last one stays.
    revoke_admin(delete "/users/{user}/admin", "user_revoke_admin", UserChange::Admin(false));
}

async fn change(app: &App, identity: &Identity, user: &str, change: UserChange) -> Result<Response, Problem> {
    let row = app.database.user_get(identity.scope(), user).await.map_err(refused)?;
    app.database.user_change(&row.user_id, change).await.map_err(refused)?;
    info!(identity = identity.name(), user_id = row.user_id, ?change, "changed a person");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A person by id or e-mail address, for an admin.
///
/// # Errors
/// When there is none.
pub async fn find(app: &App, id_or_email: &str) -> Result<UserId, Problem> {
    let row = app.database.user_get(&Scope::All, id_or_email).await.map_err(refused)?;
    row.user_id.parse().map_err(|_| missing())
}

fn missing() -> Problem {
    Problem::new(Code::UserNotFound, Code::UserNotFound.explanation())
}

fn refused(error: StoreError) -> Problem {
    match error.kind() {
        StoreErrorKind::NotFound => missing(),
        StoreErrorKind::Conflict { constraint } if constraint == LAST_ADMIN => {
            Problem::new(Code::LastAdmin, Code::LastAdmin.explanation())
        }
        _ => error.into(),
    }
}
