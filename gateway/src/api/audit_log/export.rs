//! The audit log as a file: a line an entry, for other programs.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use pinacle_bus::contract::{Timestamp, audit::AuditOutcome};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{AuditQuery, AuditView};
use crate::{
    api::{
        Shared,
        page::{OrderParameter, Page},
        schema,
    },
    extract::FromQuery,
    identity::Identity,
    problem::{Code, Problem},
};

/// Names the cursor of the next part; absent behind the last one.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");
const WHOLE_PAGE: u64 = 1000;
const COLUMNS: &str = "seq,audit_id,at,actor,via,credential_id,address,action,target_kind,target_id,owner,outcome,status,\
                       request_id,bus_request_id,operation_id,detail,hash\r\n";

/// The forms of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatParameter {
    /// A JSON object a line.
    #[default]
    Ndjson,
    /// RFC 4180, with the names of the columns in the first line of the first part.
    Csv,
}

/// Which entries, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// In which form.
    #[param(default = "ndjson")]
    format: Option<FormatParameter>,
    /// Only what this one did: a person's id, `installation` or `nobody`.
    actor: Option<String>,
    /// Only this action, such as `pod_create`.
    action: Option<String>,
    /// Only on the thing with this id.
    target: Option<String>,
    /// Only with this outcome.
    #[param(value_type = Option<schema::AuditOutcome>)]
    outcome: Option<AuditOutcome>,
    /// Only from this time on.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Where to go on: the header `x-next-cursor` of the part before, as it came.
    cursor: Option<String>,
}

/// Export the audit log
///
/// Oldest first, in parts of 1000 entries: while the header `x-next-cursor` is there, ask again with it as `cursor`. One
/// sees what one sees in the list.
#[utoipa::path(get, path = "/audit/export", operation_id = "audit_export", tag = "audit", params(ExportQuery),
    responses((status = 200, body = String, content_type = "application/x-ndjson")))]
pub async fn export(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<ExportQuery>,
) -> Result<Response, Problem> {
    let is_first = query.cursor.is_none();
    let wanted = AuditQuery {
        actor: query.actor,
        action: query.action,
        target: query.target,
        outcome: query.outcome,
        since: query.since,
        until: query.until,
        order: Some(OrderParameter::Asc),
        limit: Some(WHOLE_PAGE),
        cursor: query.cursor,
        ..AuditQuery::default()
    };
    let page = wanted.read(&app, &identity).await?;
    let (kind, body) = match query.format.unwrap_or_default() {
        FormatParameter::Ndjson => ("application/x-ndjson", lines(&page)),
        FormatParameter::Csv => ("text/csv; charset=utf-8", table(&page, is_first)),
    };
    let body = body.map_err(|error| Problem::internal(Code::Internal, "write a response", &error))?;
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    if let Some(cursor) = page.next_cursor.and_then(|cursor| HeaderValue::from_str(&cursor).ok()) {
        response.headers_mut().insert(NEXT_CURSOR, cursor);
    }
    Ok(response)
}

fn lines(page: &Page<AuditView>) -> Result<String, serde_json::Error> {
    let lines = page.items.iter().map(|entry| serde_json::to_string(entry).map(|line| line + "\n"));
    lines.collect()
}

fn table(page: &Page<AuditView>, is_first: bool) -> Result<String, serde_json::Error> {
    let mut table = if is_first { COLUMNS.to_owned() } else { String::new() };
    for entry in &page.items {
        let serde_json::Value::Object(entry) = serde_json::to_value(entry)? else { continue };
        let cells = COLUMNS.trim_end().split(',').map(|column| match entry.get(column) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => cell(text),
            Some(other) => cell(&other.to_string()),
        });
        table.push_str(&cells.collect::<Vec<_>>().join(","));
        table.push_str("\r\n");
    }
    Ok(table)
}

/// Spreadsheets take a cell that begins like this for a formula, and what people give for a name may be one.
fn cell(text: &str) -> String {
    let guarded = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if guarded.contains([',', '"', '\r', '\n']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_formula_and_no_second_cell() {
        assert_eq!(cell("web"), "web");
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(cell("@x,y"), "\"'@x,y\"");
    }
}
