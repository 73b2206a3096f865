//! Hosts, from the live state: right while Postgres lags, and there while it is away.

use std::sync::Arc;

use axum::response::Response;
use pinacle_bus::contract::{HostId, host::HostState};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Shared, json, json_bytes,
    page::{Page, PageQuery},
    schema,
    view::{HostDetail, HostView},
};
use crate::{
    audit,
    extract::{FromPath, FromQuery},
    identity::{Grant, Identity},
    live::{board::Owned, fleet::HostLive},
    problem::{Code, Problem},
};

/// Which hosts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HostsQuery {
    /// Only in this state.
    #[param(value_type = Option<schema::HostState>)]
    state: Option<HostState>,
    /// Only with this name.
    name: Option<String>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// List hosts
///
/// Your own, in the order of their ids, with their newest figures.
#[utoipa::path(get, path = "/hosts", operation_id = "host_list", tag = "hosts", params(HostsQuery),
    responses((status = 200, body = Page<HostView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<HostsQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = usize::try_from(page.limit()?).unwrap_or(usize::MAX);
    let after = page.after::<HostId>()?;
    let mut hosts = app.fleet()?.hosts.page(after, limit + 1, |host| {
        identity.may_see(host)
            && query.state.is_none_or(|state| host.record.state == state)
            && query.name.as_ref().is_none_or(|name| host.record.name == *name)
    });
    let more = hosts.len() > limit;
    hosts.truncate(limit);
    let next_cursor = hosts.last().filter(|_| more).map(|(host, _)| host.to_string());
    Ok(json(&Page { items: hosts.iter().map(|(_, host)| HostView::from(&**host)).collect(), next_cursor }))
}

/// One host
///
/// With its newest heartbeat and sample in full.
#[utoipa::path(get, path = "/hosts/{host}", operation_id = "host_get", tag = "hosts", params(("host" = String, Path, description = "id or name")),
    responses((status = 200, body = HostDetail)))]
pub async fn one(app: Shared, identity: Identity, FromPath(host): FromPath<String>) -> Result<Response, Problem> {
    let (_, host) = visible(&app, &identity, &host)?;
    Ok(json_bytes(host.detail()))
}

/// A host that they may see, by id or name. Others' do not exist for them.
///
/// # Errors
/// When there is none, or several have the name.
pub fn visible(app: &App, identity: &Identity, id_or_name: &str) -> Result<(HostId, Arc<HostLive>), Problem> {
    let hosts = &app.fleet()?.hosts;
    let missing = || Problem::new(Code::HostNotFound, Code::HostNotFound.explanation());
    let told = |(id, host): (HostId, Arc<HostLive>)| {
        audit::about("host", id, host.owner());
        (id, host)
    };
    if let Ok(id) = id_or_name.parse::<HostId>() {
        return hosts
            .get(&id)
            .filter(|host| identity.may_see(&**host))
            .map(|host| told((id, host)))
            .ok_or_else(missing);
    }
    let mut named = hosts.page(None, 2, |host| host.record.name == id_or_name && identity.may_see(host));
    match named.len() {
        0 => Err(missing()),
        1 => named.pop().map(told).ok_or_else(missing),
        _ => Err(Problem::new(Code::NameAmbiguous, Code::NameAmbiguous.explanation())),
    }
}

/// A host that they may change: their own, if what they showed may be used for that.
///
/// # Errors
/// As for [`visible`], and when it may not.
pub fn controlled(app: &App, identity: &Identity, id_or_name: &str) -> Result<(HostId, Arc<HostLive>), Problem> {
    let found = visible(app, identity, id_or_name)?;
    if identity.may(Grant::Hosts) {
        Ok(found)
    } else {
        Err(Problem::new(Code::Forbidden, "the token that you use may not be used for hosts"))
    }
}
