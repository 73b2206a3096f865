//! The audit log, for whoever it is about.

mod export;

use axum::response::Response;
use pinacle_bus::contract::{Timestamp, audit::AuditOutcome};
use pinacle_store::{AuditFilter, AuditRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Shared, json,
    page::{OrderParameter, Page, PageQuery},
    schema,
};
use crate::{
    extract::{FromPath, FromQuery},
    identity::Identity,
    problem::{Code, Problem},
};

pub use export::{__path_export, FormatParameter, export};

/// Something that somebody did, or tried to.
#[derive(Serialize, ToSchema)]
pub struct AuditView {
    /// Its place in the chain; for admins only.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    /// This entry.
    audit_id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who: a person's id, `installation` for the holder of the installation's token, `nobody` for whoever did not say.
    actor: String,
    /// By what they were known: `token`, `session` or `none`.
    via: String,
    /// The id of that token or session; null for the installation's. Only of one's own entries, or for admins.
    credential_id: Option<String>,
    /// From where, an IP address. Only of one's own entries, or for admins.
    address: Option<String>,
    /// What: as a rule the name of the route.
    #[schema(example = "pod_create")]
    action: String,
    /// On what kind of thing.
    target_kind: Option<String>,
    /// On which thing.
    target_id: Option<String>,
    /// Whose that thing is.
    owner: Option<String>,
    /// How it ended.
    #[schema(value_type = schema::AuditOutcome)]
    outcome: String,
    /// The HTTP status of the answer; null when the entry was written before there was one.
    status: Option<i32>,
    /// The id of the HTTP request, as in the header `x-request-id` and in the log.
    request_id: String,
    /// The request on the bus that it led to.
    bus_request_id: Option<String>,
    /// The operation that carries that out.
    operation_id: Option<String>,
    /// What else there is to know.
    detail: serde_json::Value,
    /// The entry's hash; for admins only.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

impl AuditView {
    fn of(row: AuditRow, identity: &Identity) -> Self {
        let is_admin = identity.is_admin();
        // Others who work on the same things need not know from where.
        let is_open = is_admin || row.actor == identity.name();
        Self {
            seq: is_admin.then_some(row.seq),
            hash: is_admin.then(|| row.hash.iter().map(|byte| format!("{byte:02x}")).collect()),
            audit_id: row.audit_id,
            at: row.at.into(),
            actor: row.actor,
            via: row.via,
            credential_id: row.credential_id.filter(|_| is_open),
            address: is_open.then_some(row.address),
            action: row.action,
            target_kind: row.target_kind,
            target_id: row.target_id,
            owner: row.owner,
            outcome: row.outcome,
            status: row.status,
            request_id: row.request_id,
            bus_request_id: row.bus_request_id,
            operation_id: row.operation_id,
            // What is no JSON was altered; `pinacle audit verify` tells.
            detail: serde_json::from_str(&row.detail).unwrap_or_default(),
        }
    }
}

/// Which entries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only what this one did: a person's id, `installation` or `nobody`.
    actor: Option<String>,
    /// Only this action, such as `pod_create`.
    action: Option<String>,
    /// Only on the thing with this id.
    target: Option<String>,
    /// Only with this outcome.
    #[param(value_type = Option<schema::AuditOutcome>)]
    outcome: Option<AuditOutcome>,
    /// Only what led to this operation.
    operation: Option<String>,
    /// Only of the HTTP request, or of the request on the bus, with this id.
    request: Option<String>,
    /// Only from this time on.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Oldest or newest first.
    #[param(default = "desc")]
    order: Option<OrderParameter>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

impl AuditQuery {
    async fn read(self, app: &super::App, identity: &Identity) -> Result<Page<AuditView>, Problem> {
        let page = PageQuery { limit: self.limit, cursor: self.cursor };
        let page = page.request(self.order.unwrap_or(OrderParameter::Desc).into())?;
        let filter = AuditFilter {
            actor: self.actor,
            action: self.action,
            target_id: self.target,
            outcome: self.outcome.map(|outcome| outcome.as_str().to_owned()),
            operation_id: self.operation,
            request_id: self.request,
            since: self.since.map(Timestamp::as_utc),
            until: self.until.map(Timestamp::as_utc),
        };
        let found = app.database.audit_list(identity.scope(), &filter, &page).await?;
        Ok(Page {
            items: found.items.into_iter().map(|row| AuditView::of(row, identity)).collect(),
            next_cursor: found.next.map(|cursor| cursor.to_string()),
        })
    }
}

/// List the audit log
///
/// Admins see all; people what they did themselves, and what others did with things that are theirs or their teams'.
#[utoipa::path(get, path = "/audit", operation_id = "audit_list", tag = "audit", params(AuditQuery),
    responses((status = 200, body = Page<AuditView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<AuditQuery>,
) -> Result<Response, Problem> {
    Ok(json(&query.read(&app, &identity).await?))
}

/// One entry of the audit log
#[utoipa::path(get, path = "/audit/{id}", operation_id = "audit_get", tag = "audit", params(("id" = String, Path)),
    responses((status = 200, body = AuditView)))]
pub async fn one(app: Shared, identity: Identity, FromPath(id): FromPath<String>) -> Result<Response, Problem> {
    let missing = || Problem::new(Code::AuditEntryNotFound, Code::AuditEntryNotFound.explanation());
    if id.parse::<pinacle_bus::contract::AuditId>().is_err() {
        return Err(missing());
    }
    let row = app.database.audit_get(identity.scope(), &id).await?.ok_or_else(missing)?;
    Ok(json(&AuditView::of(row, &identity)))
}
