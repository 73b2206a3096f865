//! The commands that were run for pods and on hosts, and what they printed: from the history. The WebSocket tells of them
//! as they run.

use std::collections::BTreeSet;

use axum::response::Response;
use pinacle_bus::contract::Timestamp;
use pinacle_store::{Direction, ExecFilter, ExecRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Shared, hosts, json,
    page::{Page, PageQuery},
    pods,
};
use crate::{
    audit,
    extract::{FromPath, FromQuery},
    identity::Identity,
    problem::Problem,
};

/// A command that ran, or runs, on a host.
#[derive(Serialize, ToSchema)]
pub struct ExecView {
    /// The operation that it belongs to.
    operation_id: String,
    /// Counts the operation's commands; with the operation it identifies the record.
    sequence: i64,
    /// The host that it ran on.
    host_id: String,
    /// The pod that it was for.
    pod_id: Option<String>,
    /// The step of the operation.
    step: String,
    /// What it is, for people.
    label: String,
    /// As sent to the host, with secrets masked.
    command: String,
    /// What ran inside the pod; null for infrastructure.
    container_command: Option<String>,
    /// What it printed; a cut is marked in the text.
    stdout: String,
    /// As for `stdout`.
    stderr: String,
    /// Null while it runs, or when it was killed.
    exit_code: Option<i32>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// How long it took; null while it runs.
    duration_ms: Option<i64>,
}

impl From<ExecRow> for ExecView {
    fn from(row: ExecRow) -> Self {
        Self {
            operation_id: row.operation_id,
            sequence: row.sequence,
            host_id: row.host_id,
            pod_id: row.pod_id,
            step: row.step,
            label: row.label,
            command: row.command,
            container_command: row.container_command,
            stdout: row.stdout,
            stderr: row.stderr,
            exit_code: row.exit_code,
            started_at: row.started_at.into(),
            duration_ms: row.duration_ms,
        }
    }
}

/// Which commands.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExecQuery {
    /// Only of this operation.
    operation: Option<String>,
    /// Only what ran inside of pods.
    #[param(default = false)]
    container_only: Option<bool>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// List the commands that were run for a pod
///
/// The newest operation's first, and of one operation the last one first.
#[utoipa::path(get, path = "/pods/{pod}/exec", operation_id = "pod_exec", tag = "pods",
    params(("pod" = String, Path, description = "id or name"), ExecQuery), responses((status = 200, body = Page<ExecView>)))]
pub async fn pod(
    app: Shared,
    identity: Identity,
    FromPath(pod): FromPath<String>,
    FromQuery(query): FromQuery<ExecQuery>,
) -> Result<Response, Problem> {
    let (pod, _) = pods::find(&app, &identity, &pod)?;
    read(&app, &identity, query, ExecFilter { pod_id: Some(pod.to_string()), ..ExecFilter::default() }).await
}

/// List the commands that were run on a host
///
/// Those for pods of yours, and, if the host is yours, those for the host itself. The newest operation's first, and of one
/// operation the last one first.
#[utoipa::path(get, path = "/hosts/{host}/exec", operation_id = "host_exec", tag = "hosts",
    params(("host" = String, Path, description = "id or name"), ExecQuery), responses((status = 200, body = Page<ExecView>)))]
pub async fn host(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromQuery(query): FromQuery<ExecQuery>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::visible(&app, &identity, &host)?;
    read(&app, &identity, query, ExecFilter { host_id: Some(host.to_string()), ..ExecFilter::default() }).await
}

/// List the commands that were run
///
/// Of what you may see: with `operation`, all that an operation did. The newest operation's first, and of one operation
/// the last one first.
#[utoipa::path(get, path = "/exec", operation_id = "exec_list", tag = "operations", params(ExecQuery),
    responses((status = 200, body = Page<ExecView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<ExecQuery>,
) -> Result<Response, Problem> {
    read(&app, &identity, query, ExecFilter::default()).await
}

async fn read(app: &App, identity: &Identity, query: ExecQuery, about: ExecFilter) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.request(Direction::Backward)?;
    let container_only = query.container_only.unwrap_or(false);
    let filter = ExecFilter { operation_id: query.operation, container_only, ..about };
    let found = app.database.exec_list(identity.scope(), &filter, &page).await?;
    if identity.is_admin() {
        let pods: BTreeSet<&str> = found.items.iter().filter_map(|row| row.pod_id.as_deref()).collect();
        for (pod, owner) in app.database.pod_owners(identity.scope(), pods).await? {
            audit::looked(&app.live, identity, "exec_list", ("pod", &pod), &owner).await;
        }
    }
    Ok(json(&Page {
        items: found.items.into_iter().map(ExecView::from).collect(),
        next_cursor: found.next.map(|cursor| cursor.to_string()),
    }))
}
