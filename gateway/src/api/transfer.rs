//! Giving a pod to another owner.

use axum::response::Response;
use pinacle_bus::contract::request::TransferPod;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Shared,
    asking::{self, Accepted},
    owners, pods,
};
use crate::{
    extract::{FromBody, FromPath},
    identity::Identity,
    live::board::Owned,
    problem::Problem,
    quota,
};

/// Whose a thing is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferBody {
    /// A person's id or e-mail address, a team's id or name: yourself or a team that you are in; for admins anybody.
    #[schema(example = "platform")]
    owner: String,
}

/// Give a pod to another owner
///
/// With its history. For its owner, and in a team for admins of it. The new owner's quota must have room for it. Follow
/// the operation.
#[utoipa::path(post, path = "/pods/{pod}/transfer", operation_id = "pod_transfer", tag = "pods", request_body = TransferBody,
    params(("pod" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
pub async fn pod(
    app: Shared,
    identity: Identity,
    FromPath(pod): FromPath<String>,
    FromBody(body): FromBody<TransferBody>,
) -> Result<Response, Problem> {
    let (pod_id, pod) = pods::find(&app, &identity, &pod)?;
    owners::manage(&identity, pod.owner())?;
    let owner = owners::find(&app, &identity, &body.owner).await?;
    if pod.owner() != Some(owner.as_str()) {
        pods::free(&app, &owner, pod.name().unwrap_or_default())?;
        quota::claim(&app, &owner, pod_id, pod.tier().unwrap_or_default()).await?;
    }
    let request = asking::request(&identity, "pod", pod_id.to_string(), "transfer", &TransferPod { owner })?;
    Ok(asking::ask(&app, request).await?.accepted(Some(&pod)))
}
