//! Whether a host takes part at all: disabled, enabled, with another key, gone; and what people say of it. A key that is
//! good for nothing any more is so at once: it is written, and the bus is told, before the orchestrator is asked.

use std::time::Duration;

use axum::response::Response;
use chrono::Utc;
use pinacle_bus::contract::{
    Timestamp,
    command::RotateKey,
    host::{LONGEST_NOTES, MOST_WINDOWS, Maintenance},
    request::{MaintainHost, NoteHost, RemoveHost},
};
use pinacle_store::StoreErrorKind;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::{App, Shared, asking::Accepted, hosts, json as respond, schema, terms};
use crate::{
    extract::{FromBody, FromPath, FromQuery},
    identity::Identity,
    problem::{Code, Problem},
};

/// How long an agent may take to bring the key that it made.
const ROTATED_WITHIN: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Disable a host
///
/// Its agent may not connect any more: the bus ends its connection at once. Pods on it go on, unwatched.
#[utoipa::path(post, path = "/hosts/{host}/disable", operation_id = "host_disable", tag = "hosts",
    params(("host" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
pub async fn disable(app: Shared, identity: Identity, FromPath(host): FromPath<String>) -> Result<Response, Problem> {
    let (host, _) = hosts::controlled(&app, &identity, &host)?;
    let had = app.database.host_disable(&host.to_string(), Utc::now()).await?;
    enforce(&app, had).await?;
    info!(%host, by = identity.name(), "a host is disabled");
    terms::change(&app, &identity, host, "disable", &json!({})).await
}

/// Enable a host again
///
/// Its agent connects by itself, within a minute or so.
#[utoipa::path(post, path = "/hosts/{host}/enable", operation_id = "host_enable", tag = "hosts",
    params(("host" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
pub async fn enable(app: Shared, identity: Identity, FromPath(host): FromPath<String>) -> Result<Response, Problem> {
    let (host, _) = hosts::controlled(&app, &identity, &host)?;
    app.database.host_enable(&host.to_string()).await?;
    terms::change(&app, &identity, host, "enable", &json!({})).await
}

/// Have a host make another key
///
/// Its agent makes the key and keeps it; the one before is good for nothing from then on. A key that somebody else may
/// have is not got rid of so: disable the host, or let it join again by a token that names it.
#[utoipa::path(post, path = "/hosts/{host}/rotate-key", operation_id = "host_rotate_key", tag = "hosts",
    params(("host" = String, Path, description = "id or name")), responses((status = 200, body = schema::KeyRotated)))]
pub async fn rotate_key(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::controlled(&app, &identity, &host)?;
    app.trust()?;
    let rotated = app.live.bus.ask(host, &RotateKey {}, app.live.settings.command_timeout()).await?;
    let began = Instant::now();
    loop {
        match app.database.host_key_get(&rotated.public_key).await {
            Ok(key) if key.host_id == host.to_string() => return Ok(respond(&rotated)),
            Ok(_) => {}
            Err(error) if *error.kind() == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if began.elapsed() > ROTATED_WITHIN {
            return Err(Problem::new(Code::AgentTimeout, "the agent made a key, but has not brought it yet"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What becomes of a removed host's data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataParameter {
    /// Its pods are kept as failed ones, its history as long as any.
    #[default]
    Keep,
    /// Its pods' records are deleted, and its history.
    Delete,
}

/// How to remove a host.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemovalQuery {
    /// What becomes of its data.
    #[serde(default)]
    #[param(inline)]
    data: DataParameter,
}

/// Remove a host
///
/// Its keys are good for nothing from now on: it can only come back by a new token, as a new host. What is on the machine
/// stays there; `install.sh --uninstall` removes it.
#[utoipa::path(delete, path = "/hosts/{host}", operation_id = "host_remove", tag = "hosts",
    params(("host" = String, Path, description = "id or name"), RemovalQuery),
    responses((status = 202, body = Accepted)))]
pub async fn remove(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromQuery(query): FromQuery<RemovalQuery>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::controlled(&app, &identity, &host)?;
    let had = app.database.host_keys_revoke(&host.to_string(), Utc::now()).await?;
    enforce(&app, had).await?;
    info!(%host, by = identity.name(), "a host is removed");
    let parameters = RemoveHost { delete_data: query.data == DataParameter::Delete };
    terms::change(&app, &identity, host, "remove", &parameters).await
}

/// Has the bus end the connections of keys that are revoked.
async fn enforce(app: &App, had_keys: bool) -> Result<(), Problem> {
    match &app.trust {
        Some(trust) => trust.tell().await,
        None if had_keys => app.trust().map(drop),
        // It never joined by a token: there is nothing that the bus could be told.
        None => Ok(()),
    }
}

/// What to remember.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotesBody {
    /// At most 4096 bytes; empty = nothing.
    notes: String,
}

/// Write down what is to be remembered about a host
#[utoipa::path(put, path = "/hosts/{host}/notes", operation_id = "host_note", tag = "hosts", request_body = NotesBody,
    params(("host" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
pub async fn note(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromBody(body): FromBody<NotesBody>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::controlled(&app, &identity, &host)?;
    let is_text = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    if body.notes.len() > LONGEST_NOTES || !body.notes.chars().all(is_text) {
        return Err(Problem::field(Code::InvalidBody, "notes", "must be text of at most 4096 bytes"));
    }
    terms::change(&app, &identity, host, "note", &NoteHost { notes: body.notes }).await
}

/// When a host takes no new pods.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceBody {
    /// All windows from now on; none = it takes pods at any time.
    windows: Vec<WindowBody>,
}

/// A window of maintenance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowBody {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// When it has ended.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    /// What for.
    #[serde(default)]
    reason: String,
}

/// Say when a host is under maintenance
///
/// It takes no new pods then. Those on it stay.
#[utoipa::path(put, path = "/hosts/{host}/maintenance", operation_id = "host_maintain", tag = "hosts",
    request_body = MaintenanceBody,
    params(("host" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
pub async fn maintain(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromBody(body): FromBody<MaintenanceBody>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::controlled(&app, &identity, &host)?;
    let field = |field: &str, why: &str| Err(Problem::field(Code::InvalidBody, field, why.to_owned()));
    if body.windows.len() > MOST_WINDOWS {
        return field("windows", "must be at most 32");
    }
    if body.windows.iter().any(|window| window.from >= window.until) {
        return field("windows", "must end after they begin");
    }
    if body.windows.iter().any(|window| window.reason.len() > 255 || window.reason.contains(char::is_control)) {
        return field("windows", "must have reasons of at most 255 bytes, without control characters");
    }
    let windows = body.windows.into_iter();
    let windows = windows.map(|WindowBody { from, until, reason }| Maintenance { from, until, reason }).collect();
    terms::change(&app, &identity, host, "maintain", &MaintainHost { windows }).await
}
