//! Commands to a host's agent, through the bus, each with a deadline.

use axum::response::Response;
use pinacle_bus::contract::{
    Message,
    command::{Command, Ping, Sample, SetInterval, TakeInventory, Version},
};
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::{App, Shared, hosts, json, schema};
use crate::{
    extract::{FromBody, FromPath},
    identity::Identity,
    problem::{Code, Problem},
    request,
};

/// How often to sample.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IntervalBody {
    /// From 1000 to 60000.
    #[schema(minimum = 1000, maximum = 60000, example = 5000)]
    interval_ms: u64,
}

/// Ask whether a host's agent is there
#[utoipa::path(post, path = "/hosts/{host}/commands/ping", operation_id = "host_ping", tag = "commands",
    params(("host" = String, Path, description = "id or name")), responses((status = 200, body = schema::Pong)))]
pub async fn ping(app: Shared, identity: Identity, FromPath(host): FromPath<String>) -> Result<Response, Problem> {
    ask(&app, &identity, &host, &Ping {}).await
}

/// Ask a host's agent which release it is
#[utoipa::path(post, path = "/hosts/{host}/commands/version", operation_id = "host_agent_version", tag = "commands",
    params(("host" = String, Path, description = "id or name")), responses((status = 200, body = schema::AgentVersion)))]
pub async fn version(app: Shared, identity: Identity, FromPath(host): FromPath<String>) -> Result<Response, Problem> {
    ask(&app, &identity, &host, &Version {}).await
}

/// Have a host sampled now
#[utoipa::path(post, path = "/hosts/{host}/commands/sample", operation_id = "host_sample", tag = "commands",
    params(("host" = String, Path, description = "id or name")), responses((status = 200, body = schema::Metrics)))]
pub async fn sample(app: Shared, identity: Identity, FromPath(host): FromPath<String>) -> Result<Response, Problem> {
    ask(&app, &identity, &host, &Sample {}).await
}

/// Have a host's inventory taken now
#[utoipa::path(post, path = "/hosts/{host}/commands/inventory", operation_id = "host_inventory", tag = "commands",
    params(("host" = String, Path, description = "id or name")), responses((status = 200, body = schema::Inventory)))]
pub async fn inventory(app: Shared, identity: Identity, FromPath(host): FromPath<String>) -> Result<Response, Problem> {
    ask(&app, &identity, &host, &TakeInventory {}).await
}

/// Have a host sampled at another interval
///
/// Until its agent restarts.
#[utoipa::path(post, path = "/hosts/{host}/commands/set-interval", operation_id = "host_set_interval", tag = "commands",
    params(("host" = String, Path, description = "id or name")), request_body = IntervalBody,
    responses((status = 200, body = schema::IntervalSet)))]
pub async fn set_interval(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromBody(body): FromBody<IntervalBody>,
) -> Result<Response, Problem> {
    ask(&app, &identity, &host, &SetInterval { interval_ms: body.interval_ms }).await
}

/// Asks the agent of a host that they may change.
///
/// # Errors
/// When they may not, or it does not answer.
pub async fn ask<C: Command>(app: &App, identity: &Identity, host: &str, command: &C) -> Result<Response, Problem>
where
    C::Reply: Serialize,
{
    let (host, _) = hosts::controlled(app, identity, host)?;
    check(command)?;
    let request_id = request::current().map(|info| info.id.clone()).unwrap_or_default();
    info!(request_id, identity = identity.name(), %host, verb = C::VERB, "command");
    Ok(json(&app.live.bus.ask(host, command, app.live.settings.command_timeout()).await?))
}

/// What the contract says of a message, as a problem.
///
/// # Errors
/// When a field cannot be so.
pub fn check<M: Message>(message: &M) -> Result<(), Problem> {
    message.check().map_err(|invalid| Problem::field(Code::InvalidBody, invalid.field, invalid.why))
}
