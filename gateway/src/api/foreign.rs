//! The way to a provider and back: two addresses that a browser is sent to, beside the API.

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
    routing::get,
};
use pinacle_bus::contract::audit::AuditOutcome;
use pinacle_store::AccountRow;
use serde::Deserialize;
use std::sync::Arc;
use tracing::warn;

use super::{App, Shared, sessions::replace};
use crate::{
    accounts::{
        flow::{self, Flow},
        provider::{Provider, ProviderError},
        session::Fresh,
    },
    audit::{self, Entry},
    identity::{Actor, Via},
    problem::{Code, Problem},
};

/// Longest code that is passed on.
const LONGEST_CODE: usize = 2048;

/// Where to go afterwards.
#[derive(Deserialize)]
struct Start {
    next: Option<String>,
}

/// What a provider sends back. It may say more.
#[derive(Deserialize)]
struct Callback {
    code: Option<String>,
    state: Option<String>,
}

/// Why somebody is back at the page without a session.
enum Why {
    /// Nobody here, or an address that is not proven.
    Unlinked,
    /// It did not work.
    Refused,
    /// The provider does not answer.
    Unavailable,
}

/// Both addresses.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/auth/{provider}/start", get(start)).route("/auth/{provider}/callback", get(callback))
}

fn find<'a>(app: &'a App, id: &str) -> Result<&'a Provider, Problem> {
    let found = app.accounts.providers().iter().find(|provider| provider.id() == id);
    found.ok_or_else(|| Problem::new(Code::RouteNotFound, Code::RouteNotFound.explanation()))
}

async fn start(app: Shared, Path(id): Path<String>, Query(query): Query<Start>) -> Result<Response, Problem> {
    let provider = find(&app, &id)?;
    let flow = Flow::begin(provider.id(), query.next.as_deref());
    match provider.begin(&flow.challenge()).await {
        Ok(url) => Ok(go(&url, [flow.cookie(app.accounts.sessions.is_secure())])),
        Err(error) => Ok(back(&app, tell(provider, &error))),
    }
}

async fn callback(
    State(app): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<Callback>,
) -> Result<Response, Problem> {
    let provider = find(&app, &id)?;
    let flow = Flow::find(&headers, app.accounts.sessions.is_secure(), provider.id());
    // Another browser's answer, a second one, or none of ours.
    let fits = |flow: &Flow| query.state.as_deref().is_some_and(|state| flow.is_state(state));
    let code = query.code.clone().filter(|code| (1..=LONGEST_CODE).contains(&code.len()));
    let (Some(flow), Some(code)) = (flow.filter(fits), code) else { return Ok(back(&app, Why::Refused)) };
    let foreigner = match provider.finish(code, flow.challenge()).await {
        Ok(foreigner) => foreigner,
        Err(error) => return Ok(back(&app, tell(provider, &error))),
    };
    let Some(account) = app.accounts.of_foreigner(&foreigner).await? else { return Ok(back(&app, Why::Unlinked)) };
    let farewell = flow::farewell(app.accounts.sessions.is_secure());
    if let Some(pending) = app.accounts.pending_factor(&account).await? {
        return Ok(go(&format!("/sign-in?next={}#pending={pending}", escaped(&flow.next)), [farewell]));
    }
    let fresh = replace(&app, &account, &headers).await?;
    note_sign_in(&app, &account, &fresh).await;
    let [session, csrf] = fresh.cookies;
    Ok(go(&flow.next, [session, csrf, farewell]))
}

/// These addresses are none of the API's, whose requests are recorded by themselves.
async fn note_sign_in(app: &App, account: &AccountRow, fresh: &Fresh) {
    if let (Ok(user_id), Ok(login_id)) = (account.user_id.parse(), fresh.row.login_id.parse()) {
        let actor = Actor::User { user_id, via: Via::Session(login_id) };
        let said = Entry::new("session_create", AuditOutcome::Succeeded).on("user", user_id);
        audit::note(&app.live, Some(actor), said.owned_by(&account.user_id)).await;
    }
}

/// Back to the page, which says why.
fn back(app: &App, why: Why) -> Response {
    let why = match why {
        Why::Unlinked => "unlinked",
        Why::Refused => "refused",
        Why::Unavailable => "unavailable",
    };
    go(&format!("/sign-in?why={why}"), [flow::farewell(app.accounts.sessions.is_secure())])
}

fn go<const N: usize>(address: &str, cookies: [HeaderValue; N]) -> Response {
    // What stands in it was looked at; a header that cannot be is the page.
    let address = HeaderValue::try_from(address).unwrap_or_else(|_| HeaderValue::from_static("/sign-in"));
    let cookies = AppendHeaders(cookies.map(|cookie| (header::SET_COOKIE, cookie)));
    (StatusCode::SEE_OTHER, [(header::LOCATION, address)], cookies).into_response()
}

fn tell(provider: &Provider, error: &ProviderError) -> Why {
    warn!(provider = provider.id(), "nobody came from a provider: {error}");
    match error {
        ProviderError::Unavailable(_) => Why::Unavailable,
        ProviderError::Refused(_) => Why::Refused,
    }
}

/// A path as a parameter.
fn escaped(path: &str) -> String {
    openidconnect::url::form_urlencoded::byte_serialize(path.as_bytes()).collect()
}
