//! Giving a pod, a host or a secret to another owner.

use axum::response::Response;
use chrono::Utc;
use pinacle_bus::contract::request::{TransferHost, TransferPod};
use pinacle_store::{SecretRow, StoreError, StoreErrorKind};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Shared,
    asking::{self, Accepted},
    hosts, json, owners, pods,
    secrets::{self, Place, PlaceQuery, SecretView},
    terms,
};
use crate::{
    audit,
    extract::{FromBody, FromPath, FromQuery},
    identity::{INSTALLATION, Identity},
    live::board::Owned,
    problem::{Code, Problem},
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
/// With its history. For its owner, and in a team for admins of it. The new owner's quota must have room for it. A pod with
/// secrets must be stopped, and gets the new owner's of the same names: they must have all of them. Follow the operation.
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
    let mut wanted = TransferPod { owner, secrets: None };
    if pod.owner() != Some(wanted.owner.as_str()) {
        pods::free(&app, &wanted.owner, pod.name().unwrap_or_default())?;
        if pod.holds_secrets() {
            return Err(Problem::new(Code::StopFirst, Code::StopFirst.explanation()));
        }
        if let Some(had) = pod.secrets() {
            let (names, project) = (had.names.clone(), had.project.clone());
            let lacking = |names: &str| {
                let why = format!("the pod has secrets that its new owner lacks: set {names} for them first");
                Problem::new(Code::SecretsMissing, why)
            };
            wanted.secrets = secrets::for_pod(&app, &wanted.owner, pod_id, names, project, lacking).await?;
        }
        quota::claim(&app, &wanted.owner, pod_id, pod.tier().unwrap_or_default()).await?;
    }
    let request = asking::request(&identity, "pod", pod_id.to_string(), "transfer", &wanted)?;
    Ok(asking::ask(&app, request).await?.accepted(Some(&pod)))
}

/// Give a host to another owner
///
/// With its history. For its owner, and in a team for admins of it. It takes its new owner's pods alone from then on, the
/// installation's everybody's; those on it stay. The machine is the same host when it joins again by a token of the new
/// owner's; tokens that name it are good no more. Follow the operation.
#[utoipa::path(post, path = "/hosts/{host}/transfer", operation_id = "host_transfer", tag = "hosts",
    request_body = TransferBody,
    params(("host" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
pub async fn host(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromBody(body): FromBody<TransferBody>,
) -> Result<Response, Problem> {
    let (host_id, host) = hosts::controlled(&app, &identity, &host)?;
    owners::manage(&identity, host.owner())?;
    let owner = owners::find(&app, &identity, &body.owner).await?;
    if host.owner().unwrap_or(INSTALLATION) != owner {
        // Before the record: a token of the former owner's must not take the host back.
        app.database.host_pass_on(&host_id.to_string(), &owner, Utc::now()).await.map_err(refused)?;
    }
    let wanted = TransferHost { owner: Some(owner).filter(|owner| owner != INSTALLATION) };
    terms::change(&app, &identity, host_id, "transfer", &wanted).await
}

/// Give a secret to another owner
///
/// With all of its values, encrypted anew. For its owner, and in a team for admins of it. Pods that run keep it.
#[utoipa::path(post, path = "/secrets/{name}/transfer", operation_id = "secret_transfer", tag = "secrets",
    request_body = TransferBody,
    params(("name" = String, Path), PlaceQuery), responses((status = 200, body = SecretView)))]
pub async fn secret(
    app: Shared,
    identity: Identity,
    FromPath(name): FromPath<String>,
    FromQuery(query): FromQuery<PlaceQuery>,
    FromBody(body): FromBody<TransferBody>,
) -> Result<Response, Problem> {
    secrets::may_change(&identity)?;
    let place = Place::new(&identity, query.owner, query.project)?;
    for _ in 0..secrets::MOST_CONFLICTS {
        let row = place.find(&app, &identity, &name).await?.ok_or_else(secrets::missing)?;
        audit::about("secret", &row.secret_id, Some(&row.owner));
        owners::manage(&identity, Some(&row.owner))?;
        let owner = owners::find(&app, &identity, &body.owner).await?;
        if row.owner == owner {
            return Ok(json(&SecretView::from(row)));
        }
        secrets::has_room(&app, &owner).await?;
        let mut versions = app.database.secret_versions(&row).await?;
        for version in &mut versions {
            let value = secrets::open(&app, &row, version).await?;
            version.sealed = secrets::seal(&app, &owner, version, &value).await?;
        }
        if app.database.secret_pass_on(&row, &owner, &versions).await.map_err(refused)? {
            return Ok(json(&SecretView::from(SecretRow { owner, ..row })));
        }
    }
    Err(secrets::contended())
}

fn refused(error: StoreError) -> Problem {
    match error.kind() {
        StoreErrorKind::NotFound => Problem::new(Code::OwnerNotFound, Code::OwnerNotFound.explanation()),
        StoreErrorKind::Conflict { .. } => {
            Problem::new(Code::NameTaken, "its new owner has a secret of this name there: one of the two must go first")
        }
        _ => error.into(),
    }
}
