//! Pods, from the live state: right while Postgres lags, and there while it is away.

use std::sync::Arc;

use axum::response::Response;
use pinacle_bus::contract::{HostId, PodId, pod::PodPhase};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Shared, hosts, json, json_bytes,
    page::{Page, PageQuery},
    schema,
    view::PodView,
};
use crate::{
    extract::{FromPath, FromQuery},
    identity::Identity,
    live::fleet::PodLive,
    problem::{Code, Problem},
};

/// Which pods.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PodsQuery {
    /// Only on this host: id or name.
    host: Option<String>,
    /// Only in this phase.
    #[param(value_type = Option<schema::PodPhase>)]
    phase: Option<PodPhase>,
    /// Only with this name.
    name: Option<String>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// List pods
///
/// In the order of their ids, with their newest figures: those that you may see.
#[utoipa::path(get, path = "/pods", operation_id = "pod_list", tag = "pods", params(PodsQuery), responses((status = 200, body = Page<PodView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<PodsQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = usize::try_from(page.limit()?).unwrap_or(usize::MAX);
    let after = page.after::<PodId>()?;
    let host: Option<HostId> = query.host.map(|host| hosts::find(&app, &host)).transpose()?.map(|(host, _)| host);
    let mut pods = app.fleet()?.pods.page(after, limit + 1, |pod| {
        let record = pod.record.as_ref();
        identity.may_see(pod)
            && host.is_none_or(|host| pod.host_id() == Some(host))
            && query.phase.is_none_or(|phase| record.is_some_and(|record| record.phase == phase))
            && query.name.as_ref().is_none_or(|name| record.is_some_and(|record| record.name == *name))
    });
    let more = pods.len() > limit;
    pods.truncate(limit);
    let next_cursor = pods.last().filter(|_| more).map(|(pod, _)| pod.to_string());
    Ok(json(&Page { items: pods.iter().map(|(_, pod)| PodView::from(&**pod)).collect(), next_cursor }))
}

/// One pod
#[utoipa::path(get, path = "/pods/{pod}", operation_id = "pod_get", tag = "pods", params(("pod" = String, Path, description = "id or name")),
    responses((status = 200, body = PodView)))]
pub async fn one(app: Shared, identity: Identity, FromPath(pod): FromPath<String>) -> Result<Response, Problem> {
    let (_, pod) = find(&app, &identity, &pod)?;
    Ok(json_bytes(pod.json()))
}

/// A pod by id or name, if the asker may see it.
///
/// # Errors
/// When there is none, or several have the name.
pub fn find(app: &App, identity: &Identity, id_or_name: &str) -> Result<(PodId, Arc<PodLive>), Problem> {
    let pods = &app.fleet()?.pods;
    let missing = || Problem::new(Code::PodNotFound, Code::PodNotFound.explanation());
    if let Ok(id) = id_or_name.parse::<PodId>() {
        return pods.get(&id).filter(|pod| identity.may_see(pod)).map(|pod| (id, pod)).ok_or_else(missing);
    }
    let named = |pod: &PodLive| pod.record.as_ref().is_some_and(|record| record.name == id_or_name);
    let mut named = pods.page(None, 2, |pod| named(pod) && identity.may_see(pod));
    match named.len() {
        0 => Err(missing()),
        1 => named.pop().ok_or_else(missing),
        _ => Err(Problem::new(Code::NameAmbiguous, Code::NameAmbiguous.explanation())),
    }
}
