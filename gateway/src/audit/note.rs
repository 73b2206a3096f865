//! The layer around all routes, and what handlers tell it.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::{MatchedPath, RawPathParams, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use pinacle_bus::contract::{LoginId, OperationId, RequestId, UserId, audit::AuditOutcome};
use serde_json::json;

use super::{Entry, entry, note};
use crate::{
    api::{self, App},
    identity::{Actor, Identity, Via},
    live::Live,
    problem::{Code, Problem},
    request,
};

/// What the layer knows of the request at hand.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// Who asks.
    pub actor: Option<Actor>,
    /// For what, by the route's name in the API's document.
    pub action: Option<String>,
    /// The thing that it is about: kind and id.
    pub target: Option<(String, String)>,
    /// Whose that is.
    pub owner: Option<String>,
    /// The request on the bus that has its entry.
    pub on_bus: Option<(RequestId, OperationId)>,
}

/// Tells the audit log what the request at hand is about, once a handler knows: the kind of thing, its id and its owner.
pub fn about(kind: &str, id: impl ToString, owner: Option<&str>) {
    if let Some(info) = request::current() {
        let mut note = info.note.lock();
        note.target = Some((kind.to_owned(), id.to_string()));
        note.owner = owner.map(str::to_owned);
    }
}

/// The names of what is done, by method and route, out of the API's document.
static ACTIONS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let mut actions = BTreeMap::new();
    for (path, item) in api::document().paths.paths {
        for (method, operation) in [
            (Method::GET, item.get),
            (Method::POST, item.post),
            (Method::PUT, item.put),
            (Method::PATCH, item.patch),
            (Method::DELETE, item.delete),
        ] {
            if let Some(id) = operation.and_then(|operation| operation.operation_id) {
                actions.insert(format!("{method} {path}"), id);
            }
        }
    }
    actions
});

/// Tells the audit log who the request at hand is from, where that is not known before: somebody signed in.
pub fn signed_in(user_id: UserId, login_id: LoginId) {
    if let Some(info) = request::current() {
        let mut note = info.note.lock();
        note.actor = Some(Actor::User { user_id, via: Via::Session(login_id) });
        note.target = Some(("account".to_owned(), user_id.to_string()));
        note.owner = Some(user_id.to_string());
    }
}

/// The layer behind the identity, and around what needs none.
pub async fn observe(State(app): State<Arc<App>>, params: RawPathParams, request: Request, next: Next) -> Response {
    let identity = request.extensions().get::<Identity>().cloned();
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let action = route.and_then(|route| ACTIONS.get(&format!("{} {route}", request.method())).cloned());
    let (Some(action), Some(info)) = (action, request::current()) else {
        // No route of the API's document: nothing can be done there.
        return next.run(request).await;
    };
    *info.note.lock() = Note {
        actor: identity.as_ref().map(Identity::actor),
        action: Some(action.clone()),
        target: params.iter().next().map(|(name, value)| (name.to_owned(), value.to_owned())),
        ..Note::default()
    };
    if request.method().is_safe() {
        let response = next.run(request).await;
        if let Some(identity) = &identity {
            look(&app.live, identity, &action, response.status()).await;
        }
        return response;
    }
    if !app.live.bus.is_connected() {
        // What cannot be recorded is not done.
        return Problem::new(Code::BusUnavailable, Code::BusUnavailable.explanation()).into_response();
    }
    let mut cut_off = CutOff { live: &app.live, action: &action, is_armed: true };
    let response = next.run(request).await;
    cut_off.is_armed = false;
    if let Some((actor, said)) = said(&action, Some(response.status())) {
        note(&app.live, actor, said).await;
    }
    response
}

/// What is to be said of a change, if its entry has not said it; without a status it was cut off.
fn said(action: &str, status: Option<StatusCode>) -> Option<(Option<Actor>, Entry)> {
    let note = request::current()?.note.lock().clone();
    let outcome = match status {
        Some(status) if status.is_client_error() => AuditOutcome::Refused,
        Some(status) if status.is_server_error() => AuditOutcome::Failed,
        Some(_) => AuditOutcome::Succeeded,
        None => AuditOutcome::Failed,
    };
    if note.on_bus.is_some() && (outcome == AuditOutcome::Succeeded || status.is_none()) {
        return None;
    }
    let (target_kind, target_id) = note.target.unzip();
    let detail = if status.is_none() { json!({ "cut_off": true }) } else { json!({}) };
    let said = Entry {
        target_kind,
        target_id,
        owner: note.owner,
        status: status.map(|status| status.as_u16()),
        on_bus: note.on_bus,
        ..Entry::new(action, outcome).detail(detail)
    };
    Some((note.actor, said))
}

/// An admin who looks at what is somebody else's leaves an entry.
async fn look(live: &Live, identity: &Identity, action: &str, status: StatusCode) {
    let Some(note_of) = request::current().map(|info| info.note.lock().clone()) else { return };
    let (Some(owner), Some((kind, id))) = (note_of.owner, note_of.target) else { return };
    if status.is_client_error() || status.is_server_error() {
        return;
    }
    looked(live, identity, action, (&kind, &id), &owner).await;
}

/// The entry of an admin's look at somebody else's thing, unless there is a recent one.
pub async fn looked(live: &Live, identity: &Identity, action: &str, (kind, id): (&str, &str), owner: &str) {
    if identity.is_admin() && !identity.is_own(owner) && live.audit.is_new_look(identity.name(), id) {
        let said = Entry::new(action, AuditOutcome::Succeeded).on(kind, id).owned_by(owner);
        note(live, Some(identity.actor()), said).await;
    }
}

/// A caller who hangs up, or takes too long, ends the handler at some point of its work: that leaves an entry, too.
struct CutOff<'a> {
    live: &'a Live,
    action: &'a str,
    is_armed: bool,
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        if self.is_armed
            && let Some((actor, said)) = said(self.action, None)
        {
            self.live.audit.later(entry(actor, said));
        }
    }
}
