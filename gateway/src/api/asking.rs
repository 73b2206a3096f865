//! Asking the orchestrator for something: a request on the bus, and the wait until it is in the history, so that whoever
//! asked finds everywhere what they asked for.

use std::time::Duration;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use pinacle_bus::{
    client::{Bucket, BusError, BusErrorKind},
    contract::{
        Message, OperationId, RequestId, Subject, Timestamp,
        request::{IdempotentRequest, Request},
        topology::IDEMPOTENCY,
    },
};
use pinacle_store::Scope;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tracing::info;
use utoipa::ToSchema;

use super::{App, json, view::PodView};
use crate::{
    audit,
    identity::Identity,
    live::{feed, fleet::PodLive},
    problem::{Code, Problem},
    request,
};

/// The header that makes a request the same one however often it is sent.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LONGEST_KEY: usize = 255;
/// How long an answer waits for the request's row.
const COMMITTED_WITHIN: Duration = Duration::from_secs(2);
/// How often a key is looked up again when its entry came or went meanwhile.
const MOST_CONFLICTS: usize = 3;

/// What was asked for will be carried out; follow the operation.
#[derive(Serialize, ToSchema)]
pub struct Accepted<'a> {
    /// What carries it out: `GET /api/v1/operations/{operation}`, or the topic `op:<id>`.
    #[schema(value_type = String, example = "op_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    operation_id: OperationId,
    /// The request.
    #[schema(value_type = String)]
    request_id: RequestId,
    /// The pod that it is about, as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<PodView<'a>>,
}

/// A request that the bus has taken in.
pub struct Asked {
    /// The request.
    pub request: Request,
    /// Whether its row is in the history.
    committed: bool,
}

impl Asked {
    /// For something that is done to a thing: 202.
    pub fn accepted(&self, pod: Option<&PodLive>) -> Response {
        (StatusCode::ACCEPTED, self.body(pod)).into_response()
    }

    /// For a thing that is made: 201 with where it is, or 202 while its request is not in the history yet.
    pub fn created(&self, location: &str, pod: Option<&PodLive>) -> Response {
        let status = if self.committed { StatusCode::CREATED } else { StatusCode::ACCEPTED };
        (status, [(header::LOCATION, location.to_owned())], self.body(pod)).into_response()
    }

    fn body(&self, pod: Option<&PodLive>) -> Response {
        let Request { operation_id, request_id, .. } = self.request;
        json(&Accepted { operation_id, request_id, pod: pod.map(PodView::from) })
    }
}

/// A request as this identity makes it, which nobody has been told of yet.
///
/// # Errors
/// When its parameters have no JSON form.
pub fn request(
    identity: &Identity,
    kind: &str,
    target_id: String,
    verb: &str,
    parameters: &impl Serialize,
) -> Result<Request, Problem> {
    let parameters = serde_json::to_value(parameters)
        .map_err(|error| Problem::internal(Code::Internal, "write a request", &error))?;
    Ok(Request {
        request_id: RequestId::new(),
        operation_id: OperationId::new(),
        kind: kind.to_owned(),
        target_id,
        verb: verb.to_owned(),
        requested_by: identity.name().to_owned(),
        requested_at: Timestamp::now(),
        deadline_at: None,
        parameters,
    })
}

/// Publishes a request, and waits a moment until ingest has written its row.
///
/// # Errors
/// When the bus does not take it in.
pub async fn ask(app: &App, request: Request) -> Result<Asked, Problem> {
    request.check().map_err(|invalid| Problem::field(Code::InvalidBody, invalid.field, invalid.why))?;
    let (kind, id, verb) = (request.kind.clone(), request.target_id.clone(), request.verb.clone());
    let id_of_http = request::current().map(|info| info.id.clone()).unwrap_or_default();
    let (request_id, operation_id) = (request.request_id, request.operation_id);
    info!(request_id = id_of_http, by = request.requested_by, %operation_id, kind, target = id, verb, "asked");
    audit::asked(app, &request).await?;
    let bus = &app.live.bus;
    // Before the request goes out, so that the answer cannot be missed.
    let mut commits = bus.subscribe(Subject::Committed(request_id).to_string()).await?;
    let published = bus.publish(&Subject::Request { kind, id, verb }, &request_id.to_string(), &request).await?;
    feed::requested(&app.live, request.clone());
    // One that came before may have been told as committed before anybody listened here.
    let known = published.duplicate && app.database.request_get(&Scope::All, &request_id.to_string()).await.is_ok();
    let committed = known || matches!(timeout(COMMITTED_WITHIN, commits.next()).await, Ok(Some(_)));
    Ok(Asked { request, committed })
}

/// The key of a request, if it has one.
///
/// # Errors
/// When it is none.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=LONGEST_KEY).contains(&key.len()));
    let why = "must be 1 to 255 letters, digits and signs of ASCII";
    key.map(Some).ok_or_else(|| Problem::field(Code::InvalidParameter, IDEMPOTENCY_KEY, why))
}

/// What an identity's keys are kept under.
fn entry_key(identity: &Identity, key: &str) -> String {
    let digest = Sha256::digest(format!("{}\0{key}", identity.name()));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The request that came with this key before, if it is the same as `request` but for its ids.
///
/// # Errors
/// When another one came with it.
pub async fn asked_before(
    app: &App,
    identity: &Identity,
    key: &str,
    request: &Request,
) -> Result<Option<Request>, Problem> {
    let bucket: Bucket<IdempotentRequest> = app.live.bus.bucket(&IDEMPOTENCY).await?;
    let Some(entry) = bucket.get(&entry_key(identity, key)).await? else { return Ok(None) };
    same(entry.record.request, request).map(Some)
}

fn same(before: Request, request: &Request) -> Result<Request, Problem> {
    let about = |request: &Request| {
        let mut parameters = request.parameters.clone();
        // The same values are sealed otherwise each time.
        if let Some(secrets) = parameters.get_mut("secrets").and_then(serde_json::Value::as_object_mut) {
            secrets.remove("sealed");
        }
        (request.kind.clone(), request.verb.clone(), parameters)
    };
    if about(&before) == about(request) {
        Ok(before)
    } else {
        Err(Problem::new(Code::IdempotencyKeyReused, Code::IdempotencyKeyReused.explanation()))
    }
}

/// Remembers the request under the key, before anybody hears of it. What comes back is what to ask for: another copy of
/// the gateway may have been first.
///
/// # Errors
/// When the key stands for something else, or the bus does not answer.
pub async fn remembered(app: &App, identity: &Identity, key: &str, request: Request) -> Result<Request, Problem> {
    let bucket: Bucket<IdempotentRequest> = app.live.bus.bucket(&IDEMPOTENCY).await?;
    let (key, record) = (entry_key(identity, key), IdempotentRequest { request });
    let mut conflict: Option<BusError> = None;
    for _ in 0..MOST_CONFLICTS {
        match bucket.create(&key, &record).await {
            Ok(_) => return Ok(record.request),
            Err(error) if error.kind() == BusErrorKind::Conflict => conflict = Some(error),
            Err(error) => return Err(error.into()),
        }
        if let Some(entry) = bucket.get(&key).await? {
            return same(entry.record.request, &record.request);
        }
    }
    Err(conflict.map_or_else(|| Problem::new(Code::Internal, Code::Internal.explanation()), Problem::from))
}
