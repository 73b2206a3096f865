//! A pod's output, read from its host by the agent.

use axum::response::Response;
use pinacle_bus::contract::{Timestamp, command::Logs};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Shared, json, pods, schema};
use crate::{
    extract::{FromPath, FromQuery},
    identity::Identity,
    problem::{Code, Problem},
};

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Lines from the end, from 0 to 10000.
    #[param(minimum = 0, maximum = 10000, default = 100)]
    tail: Option<u32>,
    /// Only from this time on, by the host's clock.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

/// A pod's output
///
/// At most 256 KiB; `truncated` says whether lines were left out.
#[utoipa::path(get, path = "/pods/{pod}/logs", operation_id = "pod_logs", tag = "pods",
    params(("pod" = String, Path, description = "id or name"), LogsQuery),
    responses((status = 200, body = schema::LogChunk)))]
pub async fn pod(
    app: Shared,
    identity: Identity,
    FromPath(pod): FromPath<String>,
    FromQuery(query): FromQuery<LogsQuery>,
) -> Result<Response, Problem> {
    let tail = query.tail.unwrap_or(100);
    if tail > 10_000 {
        return Err(Problem::field(Code::InvalidParameter, "tail", "must be from 0 to 10000"));
    }
    let (pod_id, pod) = pods::find(&app, &identity, &pod)?;
    let Some(host) = pod.host_id() else {
        return Err(Problem::new(Code::PodNotPlaced, Code::PodNotPlaced.explanation()));
    };
    let command = Logs { pod_id, tail, since: query.since, follow_seconds: 0 };
    Ok(json(&app.live.bus.ask(host, &command, app.live.settings.command_timeout()).await?))
}
