//! What the reconcilers found and did last: what is not as it should be, and what is done about it.

use axum::response::Response;
use pinacle_bus::contract::{audit::AUDIT_HEAD, reconciler::ReconcilerStatus, topology::STATUS};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Shared, json, schema};
use crate::{identity::Identity, problem::Problem};

/// All reconcilers.
#[derive(Serialize, ToSchema)]
pub struct Reconcilers {
    /// By name.
    #[schema(value_type = Vec<schema::ReconcilerStatus>)]
    items: Vec<ReconcilerStatus>,
}

/// List what the reconcilers see
///
/// Each compares what should be with what is, on a clock, and repairs the difference.
#[utoipa::path(get, path = "/reconcilers", operation_id = "reconciler_list", tag = "installation",
    responses((status = 200, body = Reconcilers)))]
pub async fn list(app: Shared, identity: Identity) -> Result<Response, Problem> {
    identity.admin()?;
    let bucket = app.live.bus.bucket::<ReconcilerStatus>(&STATUS).await?;
    let mut items = Vec::new();
    let mut names = bucket.keys().await?;
    names.sort();
    for name in names.into_iter().filter(|name| name != AUDIT_HEAD) {
        // One that was removed meanwhile is not missed.
        items.extend(bucket.get(&name).await?.map(|entry| entry.record));
    }
    Ok(json(&Reconcilers { items }))
}
