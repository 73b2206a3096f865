//! What owners may use, and use.

use axum::response::Response;
use chrono::Utc;
use pinacle_store::QuotaRow;
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::{App, Shared, json, owners};
use crate::{
    extract::{FromBody, FromPath},
    identity::Identity,
    problem::{Code, Problem},
    quota::{self, Amount, Limits},
};

/// What an owner may use, and uses.
#[derive(Serialize, ToSchema)]
pub struct QuotaView {
    /// Whose.
    owner: String,
    /// The most.
    limits: Limits,
    /// What is used of it.
    used: Amount,
}

/// What an owner may use; null, or left out = as the installation's settings say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaBody {
    /// Pods that are not deleted.
    pods: Option<u64>,
    /// Thousandths of a core.
    cpu_millis: Option<u64>,
    /// Memory.
    memory_bytes: Option<u64>,
    /// Disk.
    disk_bytes: Option<u64>,
}

/// What an owner may use, and uses
///
/// Yours, a team's that you are in; everybody's for admins.
#[utoipa::path(get, path = "/quotas/{owner}", operation_id = "quota_get", tag = "accounts",
    params(("owner" = String, Path, description = "a person's id or e-mail address, a team's id or name")),
    responses((status = 200, body = QuotaView)))]
pub async fn one(app: Shared, identity: Identity, FromPath(owner): FromPath<String>) -> Result<Response, Problem> {
    let owner = owners::find(&app, &identity, &owner).await?;
    told(&app, owner).await
}

/// Set what an owner may use
///
/// All of it at once. What is used already stays, also beyond the quota.
#[utoipa::path(put, path = "/quotas/{owner}", operation_id = "quota_set", tag = "installation", request_body = QuotaBody,
    params(("owner" = String, Path, description = "a person's id or e-mail address, a team's id or name")),
    responses((status = 200, body = QuotaView)))]
pub async fn set(
    app: Shared,
    identity: Identity,
    FromPath(owner): FromPath<String>,
    FromBody(body): FromBody<QuotaBody>,
) -> Result<Response, Problem> {
    let owner = owners::find(&app, &identity, &owner).await?;
    let number = |field: &str, number: Option<u64>| match number.map(i64::try_from).transpose() {
        Ok(number) => Ok(number),
        Err(_) => Err(Problem::field(Code::InvalidBody, field, "is more than there can be")),
    };
    let row = QuotaRow {
        owner: owner.clone(),
        pods: number("pods", body.pods)?,
        cpu_millis: number("cpu_millis", body.cpu_millis)?,
        memory_bytes: number("memory_bytes", body.memory_bytes)?,
        disk_bytes: number("disk_bytes", body.disk_bytes)?,
        set_by: identity.name().to_owned(),
        set_at: Utc::now(),
    };
    info!(identity = identity.name(), owner, "set a quota");
    app.database.quota_set(row).await?;
    told(&app, owner).await
}

async fn told(app: &App, owner: String) -> Result<Response, Problem> {
    let (limits, used) = quota::of(app, &owner).await?;
    Ok(json(&QuotaView { owner, limits, used }))
}
