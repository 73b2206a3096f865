//! Events of hosts and pods as one list, in the order of the stream.

use chrono::{DateTime, Utc};
use sea_orm::{FromQueryResult, Value};
use serde::Serialize;

use crate::{Database, Direction, Page, PageRequest, Scope, StoreError};

/// Something that happened to a host or a pod.
#[derive(Debug, Clone, PartialEq, Serialize, FromQueryResult)]
pub struct EventRow {
    /// The event.
    pub event_id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// `host` or `pod`.
    pub kind: String,
    /// The thing's id.
    pub target_id: String,
    /// What happened, one word.
    pub what: String,
    /// The same for people.
    pub message: String,
    /// What programs need to know.
    pub detail: serde_json::Value,
    /// Its place in the stream of events, and the list's key.
    pub stream_sequence: i64,
}

/// Which events are wanted; the default is all in scope.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only of this kind of thing, `host` or `pod`.
    pub kind: Option<String>,
    /// Only of the thing with this id.
    pub target_id: Option<String>,
    /// Only this word.
    pub what: Option<String>,
    /// Not before this time.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

/// `$1` scope's owner, `$2` kind, `$3` target, `$4` what, `$5` since, `$6` until, `$7` cursor, `$8` limit; null = any.
/// Each table is cut to the page's length before the two are merged, so that neither is read whole.
macro_rules! events {
    ($after:literal, $order:literal) => {
        concat!(
            "SELECT * FROM (",
            "(SELECT event_id, at, 'host' AS kind, host_id AS target_id, what, message, detail, stream_sequence ",
            "FROM host_event WHERE ($1::text[] IS NULL OR EXISTS ",
            "(SELECT FROM host WHERE host.host_id = host_event.host_id AND host.owner = ANY($1))) ",
            "AND ($2::text IS NULL OR $2 = 'host') ",
            "AND ($3::text IS NULL OR host_id = $3) AND ($4::text IS NULL OR what = $4) ",
            "AND ($5::timestamptz IS NULL OR at >= $5) AND ($6::timestamptz IS NULL OR at < $6) ",
            "AND ($7::bigint IS NULL OR stream_sequence ",
            $after,
            " $7) ",
            "ORDER BY stream_sequence ",
            $order,
            " LIMIT $8) UNION ALL ",
            "(SELECT event_id, at, 'pod', pod_id, what, message, detail, stream_sequence ",
            "FROM pod_event WHERE ($1::text[] IS NULL OR EXISTS ",
            "(SELECT FROM pod WHERE pod.pod_id = pod_event.pod_id AND pod.owner = ANY($1))) ",
            "AND ($2::text IS NULL OR $2 = 'pod') ",
            "AND ($3::text IS NULL OR pod_id = $3) AND ($4::text IS NULL OR what = $4) ",
            "AND ($5::timestamptz IS NULL OR at >= $5) AND ($6::timestamptz IS NULL OR at < $6) ",
            "AND ($7::bigint IS NULL OR stream_sequence ",
            $after,
            " $7) ",
            "ORDER BY stream_sequence ",
            $order,
            " LIMIT $8)",
            ") AS events ORDER BY stream_sequence ",
            $order,
            " LIMIT $8"
        )
    };
}

impl Database {
    /// Events in the order of the stream. A cursor is a sequence number of the stream of events.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`](crate::StoreErrorKind::BadCursor),
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn event_list(
        &self,
        scope: &Scope,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<EventRow>, StoreError> {
        const QUERY: &str = "list events";
        let after = page.after.as_ref().map(|cursor| cursor.key::<i64>(QUERY)).transpose()?;
        let sql = match page.direction {
            Direction::Forward => events!(">", "ASC"),
            Direction::Backward => events!("<", "DESC"),
        };
        let text = |text: &Option<String>| Value::from(text.clone());
        let values = [
            Value::from(scope.owners().map(|owners| owners.iter().cloned().collect::<Vec<_>>())),
            text(&filter.kind),
            text(&filter.target_id),
            text(&filter.what),
            Value::from(filter.since),
            Value::from(filter.until),
            Value::from(after),
            Value::from(i64::try_from(page.fetch()).unwrap_or(i64::MAX)),
        ];
        let select = EventRow::find_by_statement(Self::statement(sql, values));
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.stream_sequence))
    }
}
