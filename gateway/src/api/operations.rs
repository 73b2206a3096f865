//! Operations: the newest ones live, the rest from the history.

use std::{collections::BTreeMap, sync::Arc};

use axum::response::Response;
use pinacle_bus::contract::{
    OperationId, Timestamp,
    request::{CancelOperation, Operation, OperationStep, Progress, Request},
};
use pinacle_store::{Direction, OperationFilter, OperationRow, OperationStepRow, RequestRow, StoreErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Shared,
    asking::{self, Accepted},
    json, json_bytes,
    page::{Page, PageQuery},
    pods, schema,
};
use crate::{
    audit,
    extract::{FromPath, FromQuery},
    identity::Identity,
    live::operations::{Known, OperationLive},
    problem::{Code, Problem},
};

/// The record of a request being carried out, without its steps.
#[derive(Serialize, ToSchema)]
pub struct OperationBrief {
    /// This operation.
    #[schema(example = "op_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    operation_id: String,
    /// The request that it carries out.
    request_id: String,
    /// The kind of thing that it works on: `pod` or `host`.
    kind: String,
    /// The thing's id.
    target_id: String,
    /// What is done.
    #[schema(example = "create")]
    verb: String,
    /// Who asked for it; `pinacle` for what the installation does by itself.
    requested_by: String,
    /// The host that it works on, once known.
    host_id: Option<String>,
    /// How far it is.
    #[schema(value_type = schema::Progress)]
    progress: String,
    /// Why it waits, failed or was cancelled.
    cause: Option<String>,
    /// How often another copy of the orchestrator has taken it over.
    takeovers: u32,
    /// When it was taken up; null while it waits for its turn.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When it must have ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    deadline_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

/// The record of a request being carried out.
#[derive(Serialize, ToSchema)]
pub struct OperationView {
    /// As in a list.
    #[serde(flatten)]
    operation: OperationBrief,
    /// Its steps, in order.
    steps: Vec<StepView>,
}

/// A step of an operation.
#[derive(Serialize, ToSchema)]
pub struct StepView {
    /// Its label.
    #[schema(example = "network")]
    label: String,
    /// How far it is.
    #[schema(value_type = schema::Progress)]
    progress: String,
    /// What went wrong.
    cause: Option<String>,
    /// What it is at, or what it waits for.
    note: Option<String>,
    /// When it began.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

impl From<&Operation> for OperationBrief {
    fn from(operation: &Operation) -> Self {
        Self {
            operation_id: operation.operation_id.to_string(),
            request_id: operation.request_id.to_string(),
            kind: operation.kind.clone(),
            target_id: operation.target_id.clone(),
            verb: operation.verb.clone(),
            requested_by: operation.requested_by.clone(),
            host_id: operation.host_id.map(|host| host.to_string()),
            progress: operation.progress.as_str().to_owned(),
            cause: operation.cause.clone(),
            takeovers: operation.takeovers,
            started_at: Some(operation.started_at),
            deadline_at: Some(operation.deadline_at),
            ended_at: operation.ended_at,
        }
    }
}

impl From<&Request> for OperationBrief {
    fn from(request: &Request) -> Self {
        Self::waiting(
            [request.operation_id.to_string(), request.request_id.to_string()],
            [&request.kind, &request.target_id, &request.verb, &request.requested_by],
        )
    }
}

impl From<&Known> for OperationBrief {
    fn from(known: &Known) -> Self {
        match known {
            Known::Asked(request) => Self::from(&**request),
            Known::TakenUp(operation) => Self::from(&**operation),
        }
    }
}

impl From<OperationRow> for OperationBrief {
    fn from(row: OperationRow) -> Self {
        Self {
            operation_id: row.operation_id,
            request_id: row.request_id,
            kind: row.kind,
            target_id: row.target_id,
            verb: row.verb,
            requested_by: row.requested_by,
            host_id: row.host_id,
            progress: row.progress,
            cause: row.cause,
            takeovers: u32::try_from(row.takeovers).unwrap_or_default(),
            started_at: Some(row.started_at.into()),
            deadline_at: Some(row.deadline_at.into()),
            ended_at: row.ended_at.map(Timestamp::from),
        }
    }
}

impl OperationBrief {
    /// One that was not taken up yet.
    fn waiting([operation_id, request_id]: [String; 2], [kind, target_id, verb, requested_by]: [&str; 4]) -> Self {
        Self {
            operation_id,
            request_id,
            kind: kind.to_owned(),
            target_id: target_id.to_owned(),
            verb: verb.to_owned(),
            requested_by: requested_by.to_owned(),
            host_id: None,
            progress: Progress::Waiting.as_str().to_owned(),
            cause: None,
            takeovers: 0,
            started_at: None,
            deadline_at: None,
            ended_at: None,
        }
    }
}

impl From<&Known> for OperationView {
    fn from(known: &Known) -> Self {
        let steps = match known {
            Known::Asked(_) => Vec::new(),
            Known::TakenUp(operation) => operation.steps.iter().map(StepView::from).collect(),
        };
        Self { operation: known.into(), steps }
    }
}

impl From<&OperationStep> for StepView {
    fn from(step: &OperationStep) -> Self {
        Self {
            label: step.label.clone(),
            progress: step.progress.as_str().to_owned(),
            cause: step.cause.clone(),
            note: step.note.clone(),
            started_at: step.started_at,
            ended_at: step.ended_at,
        }
    }
}

impl From<OperationStepRow> for StepView {
    fn from(row: OperationStepRow) -> Self {
        Self {
            label: row.label,
            progress: row.progress,
            cause: row.cause,
            note: row.note,
            started_at: row.started_at.map(Timestamp::from),
            ended_at: row.ended_at.map(Timestamp::from),
        }
    }
}

impl From<RequestRow> for OperationView {
    fn from(row: RequestRow) -> Self {
        let operation = OperationBrief::waiting(
            [row.operation_id, row.request_id],
            [&row.kind, &row.target_id, &row.verb, &row.requested_by],
        );
        Self { operation, steps: Vec::new() }
    }
}

/// Which operations.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OperationsQuery {
    /// Only on this pod: id or name.
    pod: Option<String>,
    /// Only on this host: id or name.
    host: Option<String>,
    /// Only those that are so far.
    #[param(value_type = Option<schema::Progress>)]
    progress: Option<Progress>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// List operations
///
/// On what you may see, the newest first. While Postgres is away: the recent ones alone.
#[utoipa::path(get, path = "/operations", operation_id = "operation_list", tag = "operations", params(OperationsQuery),
    responses((status = 200, body = Page<OperationBrief>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<OperationsQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = usize::try_from(page.limit()?).unwrap_or(usize::MAX);
    let before = page.after::<OperationId>()?;
    let pod = query.pod.map(|pod| pods::find(&app, &identity, &pod)).transpose()?.map(|(pod, _)| pod.to_string());
    let host = match query.host {
        Some(host) => Some(pods::named_host(&app, &identity, &host)?),
        None => None,
    };
    let wanted = |operation: &OperationLive| {
        let known = &operation.known;
        identity.may_see(operation)
            && pod.as_ref().is_none_or(|pod| known.target_id() == pod)
            && host.is_none_or(|host| known.host_id() == Some(host))
            && query.progress.is_none_or(|progress| known.progress() == progress)
    };
    app.fleet()?;
    let board = &app.live.operations.board;
    let live = board.page_back(before, limit + 1, wanted);
    let mut found: BTreeMap<String, OperationBrief> =
        live.iter().map(|(id, operation)| (id.to_string(), OperationBrief::from(&operation.known))).collect();

    let filter = OperationFilter {
        target_id: pod.clone(),
        host_id: host.map(|host| host.to_string()),
        progress: query.progress.map(|progress| progress.as_str().to_owned()),
    };
    match app.database.operation_list(identity.scope(), &filter, &page.request(Direction::Backward)?).await {
        Ok(history) => {
            let is_live = |row: &OperationRow| row.operation_id.parse().is_ok_and(|id| board.get(&id).is_some());
            // What is known live is told as it is now, and only if it is wanted as it is now.
            let rows = history.items.into_iter().filter(|row| !is_live(row));
            found.extend(rows.map(|row| (row.operation_id.clone(), OperationBrief::from(row))));
            Ok(answer(found, limit, history.next.map(|next| next.to_string())))
        }
        Err(error) if *error.kind() == StoreErrorKind::Unavailable => Ok(answer(found, limit, None)),
        Err(error) => Err(error.into()),
    }
}

/// The newest `limit` of what both sources have. The history was read down to `floor`, if it has more: what is older is
/// left to the next page.
fn answer(mut found: BTreeMap<String, OperationBrief>, limit: usize, floor: Option<String>) -> Response {
    if let Some(floor) = &floor {
        found = found.split_off(floor);
    }
    let more = found.len() > limit;
    let items: Vec<OperationBrief> = found.into_values().rev().take(limit).collect();
    let last = items.last().filter(|_| more).map(|operation| operation.operation_id.clone());
    json(&Page { items, next_cursor: last.or(floor) })
}

/// One operation with its steps
#[utoipa::path(get, path = "/operations/{operation}", operation_id = "operation_get", tag = "operations",
    params(("operation" = String, Path, description = "id")), responses((status = 200, body = OperationView)))]
pub async fn one(app: Shared, identity: Identity, FromPath(id): FromPath<String>) -> Result<Response, Problem> {
    let id = parse(&id)?;
    if let Some(operation) = live(&app, &identity, id)? {
        return Ok(json_bytes(operation.full()));
    }
    Ok(json(&history(&app, &identity, id).await?))
}

fn missing() -> Problem {
    Problem::new(Code::OperationNotFound, Code::OperationNotFound.explanation())
}

fn parse(id: &str) -> Result<OperationId, Problem> {
    id.parse().map_err(|_| missing())
}

/// A recent operation, if the asker may see it.
fn live(app: &App, identity: &Identity, id: OperationId) -> Result<Option<Arc<OperationLive>>, Problem> {
    app.fleet()?;
    match app.live.operations.board.get(&id) {
        Some(operation) if !identity.may_see(&*operation) => Err(missing()),
        known => {
            if let Some(operation) = &known {
                audit::about("operation", id, operation.owner.as_deref());
            }
            Ok(known)
        }
    }
}

async fn history(app: &App, identity: &Identity, id: OperationId) -> Result<OperationView, Problem> {
    let id = id.to_string();
    match app.database.operation_get(identity.scope(), &id).await {
        Ok((row, steps)) => {
            let owners = app.database.pod_owners(identity.scope(), [row.target_id.as_str()]).await?;
            audit::about("operation", &id, owners.get(&row.target_id).map(String::as_str));
            Ok(OperationView { operation: row.into(), steps: steps.into_iter().map(StepView::from).collect() })
        }
        Err(error) if *error.kind() == StoreErrorKind::NotFound => {
            match app.database.request_of_operation(identity.scope(), &id).await {
                Ok(row) => {
                    audit::about("operation", &id, Some(&row.requested_by));
                    Ok(row.into())
                }
                Err(error) if *error.kind() == StoreErrorKind::NotFound => Err(missing()),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Cancel an operation
///
/// What it has made so far is cleared away. The operation itself tells how that went: the answer names it.
#[utoipa::path(post, path = "/operations/{operation}/cancel", operation_id = "operation_cancel", tag = "operations",
    params(("operation" = String, Path, description = "id")), responses((status = 202, body = Accepted)))]
pub async fn cancel(app: Shared, identity: Identity, FromPath(id): FromPath<String>) -> Result<Response, Problem> {
    let id = parse(&id)?;
    let Some(operation) = live(&app, &identity, id)? else {
        let told = history(&app, &identity, id).await?;
        return Err(ended(&told.operation.progress));
    };
    let (kind, target, progress) = (operation.known.kind(), operation.known.target_id(), operation.known.progress());
    if matches!(progress, Progress::Succeeded | Progress::Failed | Progress::Cancelled) {
        return Err(ended(progress.as_str()));
    }
    if kind != "pod" {
        return Err(Problem::new(
            Code::OperationEnded,
            "what is done to a host is done at once: there is nothing to cancel",
        ));
    }
    let parameters = CancelOperation { operation_id: id };
    let request = asking::request(&identity, kind, target.to_owned(), "cancel", &parameters)?;
    Ok(asking::ask(&app, request).await?.accepted(None))
}

fn ended(progress: &str) -> Problem {
    Problem::new(Code::OperationEnded, format!("the operation has ended: it {progress}"))
}
