//! What happened, from the history. What happens is told by the WebSocket.

use axum::response::Response;
use chrono::{DateTime, Utc};
use pinacle_bus::contract::Timestamp;
use pinacle_store::{Cursor, EventFilter, EventRow, PageRequest};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Shared, hosts, json,
    page::{OrderParameter, Page, PageQuery},
    pods,
};
use crate::{
    extract::{FromPath, FromQuery},
    identity::Identity,
    problem::{Code, Problem},
};

/// Something that happened.
#[derive(Serialize, ToSchema)]
pub struct EventView {
    /// Its place among the events, to be given back as `after`: the WebSocket goes on behind it, too.
    position: String,
    /// This event.
    event_id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The kind of thing it happened to: `host` or `pod`.
    kind: String,
    /// The thing's id.
    target_id: String,
    /// What happened, one word.
    #[schema(example = "state_changed")]
    what: String,
    /// The same for people, one line.
    message: String,
    /// What programs need to know; its shape goes with `kind` and `what`.
    detail: serde_json::Value,
}

impl EventView {
    fn new(row: EventRow, position: String) -> Self {
        Self {
            position,
            event_id: row.event_id,
            at: row.at.into(),
            kind: row.kind,
            target_id: row.target_id,
            what: row.what,
            message: row.message,
            detail: row.detail,
        }
    }
}

/// The kinds of things that the history keeps events of.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KindParameter {
    /// Hosts.
    Host,
    /// Pods.
    Pod,
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only of this kind of thing.
    kind: Option<KindParameter>,
    /// Only of the thing with this id.
    target: Option<String>,
    /// Only this word, such as `state_changed`.
    what: Option<String>,
    /// Only from this time on.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only behind this position, or before it when the order is `desc`.
    after: Option<String>,
    /// Oldest or newest first.
    #[param(default = "asc")]
    order: Option<OrderParameter>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// Which events of one thing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ThingEventsQuery {
    /// Only this word, such as `state_changed`.
    what: Option<String>,
    /// Only from this time on.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Oldest or newest first.
    #[param(default = "asc")]
    order: Option<OrderParameter>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

impl ThingEventsQuery {
    fn of(self, kind: KindParameter, target: String) -> EventsQuery {
        EventsQuery {
            kind: Some(kind),
            target: Some(target),
            what: self.what,
            since: self.since,
            until: self.until,
            after: None,
            order: self.order,
            limit: self.limit,
            cursor: self.cursor,
        }
    }
}

/// List events
///
/// Of hosts and pods, in order. What has just happened may be missing for a moment; the WebSocket
/// has every event.
#[utoipa::path(get, path = "/events", operation_id = "event_list", tag = "events", params(EventsQuery),
    responses((status = 200, body = Page<EventView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<EventsQuery>,
) -> Result<Response, Problem> {
    read(&app, &identity, query).await
}

/// List a host's events
#[utoipa::path(get, path = "/hosts/{host}/events", operation_id = "host_events", tag = "hosts",
    params(("host" = String, Path, description = "id or name"), ThingEventsQuery),
    responses((status = 200, body = Page<EventView>)))]
pub async fn host(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromQuery(query): FromQuery<ThingEventsQuery>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::visible(&app, &identity, &host)?;
    read(&app, &identity, query.of(KindParameter::Host, host.to_string())).await
}

/// List a pod's events
#[utoipa::path(get, path = "/pods/{pod}/events", operation_id = "pod_events", tag = "pods",
    params(("pod" = String, Path, description = "id or name"), ThingEventsQuery),
    responses((status = 200, body = Page<EventView>)))]
pub async fn pod(
    app: Shared,
    identity: Identity,
    FromPath(pod): FromPath<String>,
    FromQuery(query): FromQuery<ThingEventsQuery>,
) -> Result<Response, Problem> {
    let (pod, _) = pods::find(&app, &identity, &pod)?;
    read(&app, &identity, query.of(KindParameter::Pod, pod.to_string())).await
}

async fn read(app: &App, identity: &Identity, query: EventsQuery) -> Result<Response, Problem> {
    let place =
        |field, text: Option<&String>| text.map(|text| app.live.positions.read(identity, field, text)).transpose();
    let after = match (place("cursor", query.cursor.as_ref())?, place("after", query.after.as_ref())?) {
        (Some(_), Some(_)) => {
            let message = "does not go with cursor, which has it inside";
            return Err(Problem::field(Code::InvalidParameter, "after", message));
        }
        (cursor, after) => cursor.or(after),
    };
    let page = PageQuery { limit: query.limit, cursor: None }.request(query.order.unwrap_or_default().into())?;
    let page = PageRequest { after: after.map(behind), ..page };
    let time = |time: Option<Timestamp>| -> Option<DateTime<Utc>> { time.map(Timestamp::as_utc) };
    let filter = EventFilter {
        kind: query.kind.map(|kind| match kind {
            KindParameter::Host => "host".into(),
            KindParameter::Pod => "pod".into(),
        }),
        target_id: query.target,
        what: query.what,
        since: time(query.since),
        until: time(query.until),
    };
    let found = app.database.event_list(identity.scope(), &filter, &page).await?;
    let position =
        |row: &EventRow| app.live.positions.write(identity, u64::try_from(row.stream_sequence).unwrap_or_default());
    let next_cursor = found.items.last().filter(|_| found.next.is_some()).map(position);
    let items = found.items.into_iter().map(|row| (position(&row), row));
    Ok(json(&Page { items: items.map(|(position, row)| EventView::new(row, position)).collect(), next_cursor }))
}

/// Sequences are the list's key; beyond what a column holds there is nothing.
fn behind(sequence: u64) -> Cursor {
    Cursor::from(sequence.min(i64::MAX.unsigned_abs()).to_string())
}
