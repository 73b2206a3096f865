//! Pods, from the live state: right while Postgres lags, and there while it is away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{http::HeaderMap, response::Response};
use pinacle_bus::contract::{
    HostId, PodId,
    pod::{CreatePod, PodPhase, RestartPolicy, TIERS},
    request::{OwnersSecrets, Request, StartPod},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Shared,
    asking::{self, Accepted},
    commands::check,
    json as answer, json_bytes, owners,
    page::{Page, PageQuery},
    schema, secrets,
    view::PodView,
};
use crate::{
    audit,
    extract::{FromBody, FromPath, FromQuery},
    identity::Identity,
    live::{
        board::Owned,
        fleet::{Fleet, HostLive, PodLive},
    },
    problem::{Code, Problem},
    quota,
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
/// In the order of their ids, with their newest figures: those that you may see. Deleted ones only if `phase` says so.
#[utoipa::path(get, path = "/pods", operation_id = "pod_list", tag = "pods", params(PodsQuery), responses((status = 200, body = Page<PodView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<PodsQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = usize::try_from(page.limit()?).unwrap_or(usize::MAX);
    let after = page.after::<PodId>()?;
    let host: Option<HostId> = query.host.map(|host| named_host(&app, &identity, &host)).transpose()?;
    let mut pods = app.fleet()?.pods.page(after, limit + 1, |pod| {
        identity.may_see(pod)
            && host.is_none_or(|host| pod.host_id() == Some(host))
            && query.phase.map_or(!is_deleted(pod), |phase| pod.phase() == Some(phase))
            && query.name.as_ref().is_none_or(|name| pod.name() == Some(name))
    });
    let more = pods.len() > limit;
    pods.truncate(limit);
    let next_cursor = pods.last().filter(|_| more).map(|(pod, _)| pod.to_string());
    Ok(answer(&Page { items: pods.iter().map(|(_, pod)| PodView::from(&**pod)).collect(), next_cursor }))
}

/// One pod
#[utoipa::path(get, path = "/pods/{pod}", operation_id = "pod_get", tag = "pods", params(("pod" = String, Path, description = "id or name")),
    responses((status = 200, body = PodView)))]
pub async fn one(app: Shared, identity: Identity, FromPath(pod): FromPath<String>) -> Result<Response, Problem> {
    let (_, pod) = find(&app, &identity, &pod)?;
    Ok(json_bytes(pod.json()))
}

/// What a new pod is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// What to call it: 2 to 63 of a-z, 0-9 and `-`.
    #[schema(example = "web")]
    name: String,
    /// How much it may use: `dev.small`, `dev.medium`, `dev.large` or `dev.xlarge`.
    #[schema(default = "dev.small")]
    tier: Option<String>,
    /// The image; without it the installation's base image.
    image: Option<String>,
    /// Docker's runtime: `runsc`, or `runc` where the installation allows it.
    #[schema(default = "runsc")]
    runtime: Option<String>,
    /// Environment variables. No place for secrets.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// The only host that it may be on: id or name.
    host: Option<String>,
    /// Labels that its host must have.
    #[serde(default)]
    host_labels: BTreeMap<String, String>,
    /// What happens when it ends by itself.
    #[serde(default)]
    #[schema(value_type = schema::RestartPolicy, default = "always")]
    restart: RestartPolicy,
    /// Secrets of its owner's, by name: each is a file of that name in `/run/secrets`.
    #[serde(default)]
    secrets: BTreeSet<String>,
    /// The project that it is for: its secrets go before those for all projects.
    project: Option<String>,
    /// Whose it is to be: yourself, or a team that you are in, by id or name; for admins anybody. Without it yours, or
    /// the team's that your token is for.
    #[schema(example = "platform")]
    owner: Option<String>,
}

/// Make a pod and start it
///
/// Answers once the request is in the history: 201, or 202 when that takes longer. The pod is made meanwhile; follow its
/// operation. With the header `Idempotency-Key` the same request makes one pod however often it is sent, for a day.
#[utoipa::path(post, path = "/pods", operation_id = "pod_create", tag = "pods", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 letters, digits and signs")),
    responses((status = 201, body = Accepted), (status = 202, body = Accepted)))]
pub async fn create(
    app: Shared,
    identity: Identity,
    headers: HeaderMap,
    FromBody(mut body): FromBody<CreateBody>,
) -> Result<Response, Problem> {
    let key = asking::key(&headers)?;
    let (secrets, project) = (std::mem::take(&mut body.secrets), body.project.take());
    let mut create = wanted(&app, &identity, body).await?;
    let pod_id = PodId::new();
    let lacking = |names: &str| Problem::field(Code::InvalidBody, "secrets", format!("there is no {names}"));
    create.secrets = secrets::for_pod(&app, &create.owner, pod_id, secrets, project, lacking).await?;
    let request = asking::request(&identity, "pod", pod_id.to_string(), "create", &create)?;
    let request = match key {
        Some(key) => the_one_of(&app, &identity, key, request, (pod_id, &create)).await?,
        None => {
            free(&app, &create.owner, &create.name)?;
            quota::claim(&app, &create.owner, pod_id, &create.tier).await?;
            request
        }
    };
    let asked = asking::ask(&app, request).await?;
    let pod = asked.request.target_id.parse().ok().and_then(|pod: PodId| app.live.fleet.pods.get(&pod));
    Ok(asked.created(&format!("/api/v1/pods/{}", asked.request.target_id), pod.as_deref()))
}

/// The request that a key stands for: the one that came with it first.
async fn the_one_of(
    app: &App,
    identity: &Identity,
    key: &str,
    request: Request,
    (pod_id, create): (PodId, &CreatePod),
) -> Result<Request, Problem> {
    if let Some(before) = asking::asked_before(app, identity, key, &request).await? {
        return Ok(before);
    }
    let possible = match free(app, &create.owner, &create.name) {
        Ok(()) => quota::claim(app, &create.owner, pod_id, &create.tier).await,
        Err(taken) => Err(taken),
    };
    match possible {
        Ok(()) => asking::remembered(app, identity, key, request).await,
        // The pod of this name, or the last that there was room for, may be the very one: its key was written before
        // anybody heard of it.
        Err(refused) => asking::asked_before(app, identity, key, &request).await?.ok_or(refused),
    }
}

/// What the contract has of a body.
async fn wanted(app: &App, identity: &Identity, body: CreateBody) -> Result<CreatePod, Problem> {
    app.fleet()?;
    let owner = match &body.owner {
        Some(owner) => owners::find(app, identity, owner).await?,
        None => owners::usual(identity)?,
    };
    let only_host = body.host.map(|host| host_for(app, identity, &owner, &host)).transpose()?;
    let create = CreatePod {
        name: body.name,
        owner,
        tier: body.tier.unwrap_or_else(|| TIERS[0].name.to_owned()),
        image: body.image,
        runtime: body.runtime,
        environment: body.environment,
        host_labels: body.host_labels,
        only_host,
        restart: body.restart,
        secrets: None,
    };
    check(&create)?;
    Ok(create)
}

/// A host that the asker may name, by id or name: one of their own, or one that has a pod of theirs. Of others they learn
/// nothing.
///
/// # Errors
/// When there is none, or several have the name.
pub fn named_host(app: &App, identity: &Identity, id_or_name: &str) -> Result<HostId, Problem> {
    let fleet = app.fleet()?;
    one_host(fleet, id_or_name, |id, host| {
        let has_theirs = |pod: &PodLive| identity.may_see(pod) && pod.host_id() == Some(*id);
        identity.may_see(host) || !fleet.pods.page(None, 1, has_theirs).is_empty()
    })
}

/// A host that a pod of this owner's may be on, as far as the asker may know.
fn host_for(app: &App, identity: &Identity, owner: &str, id_or_name: &str) -> Result<HostId, Problem> {
    one_host(app.fleet()?, id_or_name, |_, host| {
        let allowed = &host.record.allowed_owners;
        identity.may_see(host) || allowed.is_empty() || allowed.contains(owner)
    })
}

fn one_host(fleet: &Fleet, id_or_name: &str, may_name: impl Fn(&HostId, &HostLive) -> bool) -> Result<HostId, Problem> {
    let meant = |host: &HostLive| {
        let id = host.record.host_id;
        (host.record.name == id_or_name || id_or_name.parse() == Ok(id)) && may_name(&id, host)
    };
    match *fleet.hosts.page(None, 2, meant) {
        [] => Err(Problem::new(Code::HostNotFound, Code::HostNotFound.explanation())),
        [(id, _)] => Ok(id),
        _ => Err(Problem::new(Code::NameAmbiguous, Code::NameAmbiguous.explanation())),
    }
}

/// That the owner has no pod of this name. Two at once are told apart by the orchestrator.
///
/// # Errors
/// When there is one.
pub fn free(app: &App, owner: &str, name: &str) -> Result<(), Problem> {
    let taken = |pod: &PodLive| pod.name() == Some(name) && pod.owner() == Some(owner) && !is_deleted(pod);
    if app.fleet()?.pods.page(None, 1, taken).is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        Code::NameTaken,
        format!("there is a pod called {name} already; take another name or remove that one"),
    ))
}

/// Whether nothing is left of a pod but its record.
pub fn is_deleted(pod: &PodLive) -> bool {
    pod.phase() == Some(PodPhase::Deleted)
}

macro_rules! actions {
    ($($(#[doc = $doc:literal])* $name:ident($method:ident $path:literal, $id:literal, $verb:literal);)*) => {$(
        $(#[doc = $doc])*
        ///
        /// Carried out when it is its turn; follow the operation.
        #[utoipa::path($method, path = $path, operation_id = $id, tag = "pods",
            params(("pod" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
        pub async fn $name(app: Shared, identity: Identity, FromPath(pod): FromPath<String>) -> Result<Response, Problem> {
            act(&app, &identity, &pod, $verb).await
        }
    )*};
}

actions! {
    /// Start a pod that is stopped or failed, with the newest values of its secrets
    start(post "/pods/{pod}/start", "pod_start", "start");
    /// Stop a pod; its volumes stay
    stop(post "/pods/{pod}/stop", "pod_stop", "stop");
    /// Stop a pod and start it, with the newest values of its secrets
    restart(post "/pods/{pod}/restart", "pod_restart", "restart");
    /// Freeze a pod in memory
    pause(post "/pods/{pod}/pause", "pod_pause", "pause");
    /// Let a frozen pod go on
    resume(post "/pods/{pod}/resume", "pod_resume", "resume");
    /// Remove a pod with all that it has, for good
    delete(delete "/pods/{pod}", "pod_delete", "delete");
}

async fn act(app: &App, identity: &Identity, pod: &str, verb: &str) -> Result<Response, Problem> {
    let (id, pod) = find(app, identity, pod)?;
    let mut start = StartPod::default();
    match verb {
        "delete" => owners::manage(identity, pod.owner())?,
        "start" | "restart" => {
            quota::claim_again(app, &pod).await?;
            start.secrets = newest_secrets(app, id, &pod).await?;
        }
        _ => {}
    }
    let request = asking::request(identity, "pod", id.to_string(), verb, &start)?;
    Ok(asking::ask(app, request).await?.accepted(Some(&pod)))
}

/// The newest values of a pod's secrets. `None` = it goes on with those that it has, also while Postgres is away.
async fn newest_secrets(app: &App, id: PodId, pod: &PodLive) -> Result<Option<OwnersSecrets>, Problem> {
    let (Some(owner), Some(had)) = (pod.owner(), pod.secrets()) else { return Ok(None) };
    let lacking = |names: &str| {
        let why = format!("the pod is to have {names}, which is there no more: set it again, or make the pod anew");
        Problem::new(Code::SecretsMissing, why)
    };
    let found = secrets::for_pod(app, owner, id, had.names.clone(), had.project.clone(), lacking).await;
    match found {
        Ok(secrets) => Ok(secrets.map(|secrets| OwnersSecrets { owner: owner.to_owned(), secrets })),
        Err(problem) if problem.code() == Code::DatabaseUnavailable => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// A pod by id or name, if the asker may see it. A name is that of a pod that is not deleted.
///
/// # Errors
/// When there is none, or several have the name.
pub fn find(app: &App, identity: &Identity, id_or_name: &str) -> Result<(PodId, Arc<PodLive>), Problem> {
    let pods = &app.fleet()?.pods;
    let missing = || Problem::new(Code::PodNotFound, Code::PodNotFound.explanation());
    let told = |(id, pod): (PodId, Arc<PodLive>)| {
        audit::about("pod", id, pod.owner());
        (id, pod)
    };
    if let Ok(id) = id_or_name.parse::<PodId>() {
        return pods.get(&id).filter(|pod| identity.may_see(&**pod)).map(|pod| told((id, pod))).ok_or_else(missing);
    }
    let named = |pod: &PodLive| pod.name() == Some(id_or_name) && !is_deleted(pod);
    let mut named = pods.page(None, 2, |pod| named(pod) && identity.may_see(pod));
    match named.len() {
        0 => Err(missing()),
        1 => named.pop().map(told).ok_or_else(missing),
        _ => Err(Problem::new(Code::NameAmbiguous, Code::NameAmbiguous.explanation())),
    }
}
