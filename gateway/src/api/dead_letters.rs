//! Messages that could not be handled: look at them, send them again, drop them.
//!
//! The bus is the write path: what is done to a dead letter is an event on it, and the row follows. Whether something was
//! done already is therefore asked of the bus, which knows it first.

use std::time::Duration;

use axum::response::Response;
use base64::{Engine, engine::general_purpose::STANDARD};
use pinacle_bus::contract::{
    DeadLetterId, EventId, SCHEMA_VERSION, Subject, Timestamp,
    event::{DEAD_LETTER_DROPPED, DEAD_LETTER_RESENT, Event},
    subject::EventKind,
    topology::StreamName,
};
use pinacle_store::{DeadLetterRow, StoreErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Shared, json as respond,
    page::{OrderParameter, Page, PageQuery},
};
use crate::{
    extract::{FromPath, FromQuery},
    identity::Identity,
    problem::{Code, Problem},
};

/// Each may hold 600 KiB of its message.
const MOST: u64 = 100;
/// How long an answer waits for its effect to reach the history.
const PATIENCE: Duration = Duration::from_secs(2);

/// A message that a consumer gave up on.
#[derive(Serialize, ToSchema)]
pub struct DeadLetterView {
    /// This dead letter.
    dead_letter_id: String,
    /// When the consumer gave up.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The stream that the message came from.
    stream: String,
    /// The consumer that gave up.
    consumer: String,
    /// The message's sequence in its stream.
    stream_sequence: i64,
    /// The subject that it was published to.
    subject: String,
    /// Its schema version.
    schema: i64,
    /// Why, in words that people understand.
    reason: String,
    /// How often it was delivered.
    tries: i64,
    /// The message's whole length.
    payload_bytes: i64,
    /// Whether all of the message was kept, so that it can be sent again.
    whole: bool,
    /// When it was sent again.
    #[schema(value_type = Option<String>, format = DateTime)]
    resent_at: Option<Timestamp>,
    /// When it was dropped.
    #[schema(value_type = Option<String>, format = DateTime)]
    dropped_at: Option<Timestamp>,
}

/// A dead letter with its message.
#[derive(Serialize, ToSchema)]
pub struct DeadLetterDetail {
    /// As in a list.
    #[serde(flatten)]
    letter: DeadLetterView,
    /// What was kept of the message, if it is text.
    payload_text: Option<String>,
    /// The same in base64, whatever it is.
    payload_base64: String,
}

/// What became of a dead letter.
#[derive(Serialize, ToSchema)]
pub struct Settled {
    /// The dead letter.
    #[schema(value_type = String)]
    dead_letter_id: DeadLetterId,
    /// Its message's new sequence in its stream, if it was sent again.
    sequence: Option<u64>,
    /// Whether the history shows it already; if not, it will in a moment.
    recorded: bool,
}

impl From<DeadLetterRow> for DeadLetterDetail {
    fn from(row: DeadLetterRow) -> Self {
        let payload_base64 = STANDARD.encode(&row.payload);
        let whole = is_whole(&row);
        Self {
            payload_text: String::from_utf8(row.payload).ok(),
            payload_base64,
            letter: DeadLetterView {
                dead_letter_id: row.dead_letter_id,
                at: row.at.into(),
                stream: row.stream,
                consumer: row.consumer,
                stream_sequence: row.stream_sequence,
                subject: row.subject,
                schema: row.schema,
                reason: row.reason,
                tries: row.tries,
                payload_bytes: row.payload_bytes,
                whole,
                resent_at: row.resent_at.map(Timestamp::from),
                dropped_at: row.dropped_at.map(Timestamp::from),
            },
        }
    }
}

fn is_whole(row: &DeadLetterRow) -> bool {
    i64::try_from(row.payload.len()).is_ok_and(|kept| kept == row.payload_bytes)
}

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadLettersQuery {
    /// Only those that nobody has sent again or dropped.
    #[param(default = false)]
    open: Option<bool>,
    /// Oldest or newest first.
    #[param(default = "asc")]
    order: Option<OrderParameter>,
    /// Most items, from 1 to 1000; of dead letters a page never has more than 100, since each may be large.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// List dead letters
#[utoipa::path(get, path = "/dead-letters", operation_id = "dead_letter_list", tag = "dead letters", params(DeadLettersQuery),
    responses((status = 200, body = Page<DeadLetterView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<DeadLettersQuery>,
) -> Result<Response, Problem> {
    identity.admin()?;
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let mut request = page.request(query.order.unwrap_or_default().into())?;
    request.limit = request.limit.min(MOST);
    let found = app.database.dead_letter_list(identity.scope(), query.open.unwrap_or(false), &request).await?;
    Ok(respond(&Page {
        items: found.items.into_iter().map(|row| DeadLetterDetail::from(row).letter).collect(),
        next_cursor: found.next.map(|cursor| cursor.to_string()),
    }))
}

/// One dead letter
///
/// With what was kept of its message.
#[utoipa::path(get, path = "/dead-letters/{id}", operation_id = "dead_letter_get", tag = "dead letters", params(("id" = String, Path)),
    responses((status = 200, body = DeadLetterDetail)))]
pub async fn one(app: Shared, identity: Identity, FromPath(id): FromPath<String>) -> Result<Response, Problem> {
    let (_, row) = find(&app, &identity, &id).await?;
    Ok(respond(&DeadLetterDetail::from(row)))
}

/// Send a dead letter's message again
///
/// To the subject that it was published to. Once: a second time is refused.
#[utoipa::path(post, path = "/dead-letters/{id}/resend", operation_id = "dead_letter_resend", tag = "dead letters", params(("id" = String, Path)),
    responses((status = 200, body = Settled)))]
pub async fn resend(app: Shared, identity: Identity, FromPath(id): FromPath<String>) -> Result<Response, Problem> {
    let (id, row) = find(&app, &identity, &id).await?;
    refuse_settled(&app, id, &row).await?;
    let unsendable = || Problem::new(Code::DeadLetterUnsendable, Code::DeadLetterUnsendable.explanation());
    if !is_whole(&row) || row.schema > i64::from(SCHEMA_VERSION) {
        return Err(unsendable());
    }
    let subject: Subject = row.subject.parse().map_err(|_| unsendable())?;
    // The same for each attempt on this dead letter, so that two people at once send it once; another than the first
    // message's, which the stream may still remember.
    let message_id = format!("resend.{id}");
    let payload = bytes::Bytes::from(row.payload.clone());
    let published = app.live.bus.publish_bytes(&subject.to_string(), &message_id, payload).await?;
    settle(&app, &identity, id, &row, DEAD_LETTER_RESENT, Some(published.sequence)).await
}

/// Drop a dead letter
///
/// It stays in the history, but is no longer open.
#[utoipa::path(delete, path = "/dead-letters/{id}", operation_id = "dead_letter_drop", tag = "dead letters", params(("id" = String, Path)),
    responses((status = 200, body = Settled)))]
pub async fn drop(app: Shared, identity: Identity, FromPath(id): FromPath<String>) -> Result<Response, Problem> {
    let (id, row) = find(&app, &identity, &id).await?;
    refuse_settled(&app, id, &row).await?;
    settle(&app, &identity, id, &row, DEAD_LETTER_DROPPED, None).await
}

async fn find(app: &App, identity: &Identity, id: &str) -> Result<(DeadLetterId, DeadLetterRow), Problem> {
    identity.admin()?;
    let missing = || Problem::new(Code::DeadLetterNotFound, Code::DeadLetterNotFound.explanation());
    let id: DeadLetterId = id.parse().map_err(|_| missing())?;
    match app.database.dead_letter_get(identity.scope(), &id.to_string()).await {
        Ok(row) => Ok((id, row)),
        Err(error) if *error.kind() == StoreErrorKind::NotFound => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

fn subject(id: DeadLetterId, what: &str) -> Subject {
    Subject::Event { kind: EventKind::Dead, id: id.to_string(), what: what.to_owned() }
}

async fn refuse_settled(app: &App, id: DeadLetterId, row: &DeadLetterRow) -> Result<(), Problem> {
    let mut settled = row.resent_at.is_some() || row.dropped_at.is_some();
    for what in [DEAD_LETTER_RESENT, DEAD_LETTER_DROPPED] {
        settled = settled || app.live.bus.last(StreamName::Events, &subject(id, what)).await?.is_some();
    }
    if settled { Err(resolved()) } else { Ok(()) }
}

fn resolved() -> Problem {
    Problem::new(Code::DeadLetterResolved, Code::DeadLetterResolved.explanation())
}

/// Publishes what was done, and waits a moment for the history to show it.
async fn settle(
    app: &App,
    identity: &Identity,
    id: DeadLetterId,
    row: &DeadLetterRow,
    what: &str,
    sequence: Option<u64>,
) -> Result<Response, Problem> {
    info!(identity = identity.name(), dead_letter_id = %id, what, "dead letter");
    let message_id = format!("dead.{id}.{what}");
    let mut digest = [0; 15];
    for (to, from) in digest.iter_mut().zip(Sha256::digest(message_id.as_bytes())) {
        *to = from;
    }
    let event = Event {
        event_id: EventId::derived(row.at.into(), digest),
        at: Timestamp::now(),
        kind: EventKind::Dead,
        target_id: id.to_string(),
        what: what.to_owned(),
        message: format!("a dead letter of {} was {what} by {}", row.stream, identity.name()),
        detail: json!({ "dead_letter_id": id, "by": identity.name(), "sequence": sequence }),
    };
    if app.live.bus.publish(&subject(id, what), &message_id, &event).await?.duplicate {
        // Somebody else did it in the same moment.
        return Err(resolved());
    }
    let deadline = Instant::now() + PATIENCE;
    let mut recorded = false;
    while !recorded && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
        match app.database.dead_letter_get(identity.scope(), &id.to_string()).await {
            Ok(row) => recorded = row.resent_at.is_some() || row.dropped_at.is_some(),
            // It is done; only the history does not show it yet.
            Err(_) => break,
        }
    }
    Ok(respond(&Settled { dead_letter_id: id, sequence, recorded }))
}
