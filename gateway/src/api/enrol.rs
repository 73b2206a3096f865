//! What an agent asks the gateway: a place among the hosts for a token, and another grant before the one that it has ends.
//! Nobody's identity is needed here; the token or the key is what counts.

use std::{collections::BTreeSet, time::Duration};

use axum::response::Response;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use pinacle_bus::{
    contract::{
        HostId, OperationId, RequestId, Timestamp,
        audit::AuditOutcome,
        enrolment::renewal_text,
        request::{EnrolHost, Request},
    },
    trust,
};
use pinacle_store::{Claimed, EnrolmentClaim, EnrolmentRefused, HostKeyRow, StoreErrorKind};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::info;
use utoipa::ToSchema;

use super::{App, Shared, asking, enrolment, json};
use crate::{
    audit::{self, Entry},
    extract::FromBody,
    identity::INSTALLATION,
    problem::{Code, Problem},
    request,
    trust::HostGrant,
};

/// How long the orchestrator may take to write the host's record.
const APPLIED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const MOST_KEYS: usize = 16;
const LONGEST_KEY: usize = 2048;

/// What a machine says of itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolBody {
    /// The token.
    token: String,
    /// The public half of the key that it has made.
    public_key: String,
    /// What tells it from other machines; empty = nothing does.
    machine_id: String,
    /// As it calls itself.
    hostname: String,
    /// The public keys that its SSH server is known by.
    ssh_host_keys: Vec<String>,
}

/// What a host connects with.
#[derive(Serialize, ToSchema)]
pub struct Enrolled {
    /// The host that it is.
    #[schema(value_type = String)]
    host_id: HostId,
    /// Claims for its key, for the bus.
    jwt: String,
    /// When they end: it asks for others before.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// Where the bus is.
    bus_url: String,
    /// The certificate authority of the bus, as PEM; null = one that every system knows.
    bus_ca: Option<String>,
}

/// Whose key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeBody {
    /// Its public half.
    public_key: String,
}

/// What to sign.
#[derive(Serialize, ToSchema)]
pub struct Challenge {
    /// Good for a minute.
    challenge: String,
}

/// A signed challenge.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewalBody {
    /// The key's public half.
    public_key: String,
    /// The challenge.
    challenge: String,
    /// The key's signature of `pinacle-renewal-v1`, the challenge and the fresh key or nothing, each on a line of its own.
    signature: String,
    /// The public half of a key that takes this one's place.
    #[serde(default)]
    fresh_key: Option<String>,
    /// Its signature of the same.
    #[serde(default)]
    fresh_signature: Option<String>,
}

fn refused(why: &'static str) -> Problem {
    Problem::new(Code::EnrolmentRefused, why)
}

/// Join as a host
///
/// For agents: exchanges a token for a host's id and a grant for its key.
#[utoipa::path(post, path = "/enrol", operation_id = "enrol", tag = "hosts", security(()), request_body = EnrolBody,
    responses((status = 200, body = Enrolled)))]
pub async fn enrol(app: Shared, FromBody(body): FromBody<EnrolBody>) -> Result<Response, Problem> {
    app.limits.check_enrolment(request::address())?;
    let trust = app.trust()?;
    if !body.token.starts_with(enrolment::PREFIX) {
        return Err(refused("that is no token of an enrolment"));
    }
    check(&body)?;
    let now = Utc::now();
    let expires_at = trust.end(now);
    let fresh = HostId::new();
    // Before anything is written: a key that is none must not use the token up.
    trust.grant(fresh, &body.public_key, expires_at)?;
    let hosts = &app.fleet()?.hosts;
    let claim = EnrolmentClaim {
        token_hash: enrolment::hash(&body.token),
        public_key: body.public_key.clone(),
        machine_id: body.machine_id.clone(),
        fresh_host_id: fresh.to_string(),
        at: now,
        expires_at,
    };
    let is_there = |host: &str| {
        let host = host.parse().ok().and_then(|host| hosts.get(&host));
        host.is_some_and(|host| host.record.state == pinacle_bus::contract::host::HostState::Online)
    };
    let claimed = match app.database.enrolment_claim(&claim, is_there).await? {
        Ok(claimed) => claimed,
        Err(why) => {
            let problem = told(why);
            let detail = serde_json::json!({ "code": problem.code().as_str() });
            audit::note(&app.live, None, Entry::new("host_enrol", AuditOutcome::Refused).detail(detail)).await;
            return Err(problem);
        }
    };
    let host = host_of(&claimed.key)?;
    if claimed.superseded {
        trust.tell().await?;
    }
    let grant = trust.grant(host, &body.public_key, expires_at)?;
    apply(&app, host, &claimed, body).await?;
    info!(%host, enrolment = claimed.enrolment.enrolment_id, owner = claimed.key.owner, "a machine joined");
    let entry = Entry::new("host_enrol", AuditOutcome::Succeeded).on("host", host).owned_by(&claimed.key.owner);
    audit::note(&app.live, None, entry.detail(serde_json::json!({ "enrolment": claimed.enrolment.enrolment_id })))
        .await;
    enrolled(&app, host, grant)
}

fn check(body: &EnrolBody) -> Result<(), Problem> {
    let field = |field: &str, why: &str| Err(Problem::field(Code::InvalidBody, field, why.to_owned()));
    let is_plain = |text: &str, most: usize| text.len() <= most && !text.contains(char::is_control);
    if !is_plain(&body.machine_id, 128) {
        return field("machine_id", "must have at most 128 characters");
    }
    if !is_plain(&body.hostname, 255) {
        return field("hostname", "must have at most 255 characters");
    }
    if body.ssh_host_keys.len() > MOST_KEYS || !body.ssh_host_keys.iter().all(|key| is_plain(key, LONGEST_KEY)) {
        return field("ssh_host_keys", "must be at most 16, each of at most 2048 characters");
    }
    Ok(())
}

fn told(why: EnrolmentRefused) -> Problem {
    match why {
        EnrolmentRefused::Unknown => refused("there is no such token"),
        EnrolmentRefused::Expired => refused("the token has ended: make another one"),
        EnrolmentRefused::Revoked => refused("the token was taken back"),
        EnrolmentRefused::UsedUp => refused("the token is used up: make another one"),
        EnrolmentRefused::KeyKnown => refused("the key is known already; make another one"),
        EnrolmentRefused::Disabled => Problem::new(Code::HostDisabled, Code::HostDisabled.explanation()),
        EnrolmentRefused::InUse(host) => {
            let why = format!(
                "a machine with this machine id is there, as {host}: give a copied machine an id of its own, or make a \
                 token that names that host"
            );
            Problem::new(Code::MachineKnown, why)
        }
    }
}

fn host_of(key: &HostKeyRow) -> Result<HostId, Problem> {
    key.host_id.parse().map_err(|error| Problem::internal(Code::Internal, "read a host's key", &error))
}

/// Has the host's record written, and waits for it.
async fn apply(app: &App, host: HostId, claimed: &Claimed, body: EnrolBody) -> Result<(), Problem> {
    let terms = &claimed.enrolment;
    let read = |value: &serde_json::Value| value.clone();
    let wanted = EnrolHost {
        name: if terms.name.is_empty() { body.hostname } else { terms.name.clone() },
        owner: Some(terms.owner.clone()).filter(|owner| owner != INSTALLATION),
        labels: serde_json::from_value(read(&terms.labels)).unwrap_or_default(),
        allowed_owners: serde_json::from_value::<BTreeSet<String>>(read(&terms.allowed_owners))
            .map_err(|error| Problem::internal(Code::Internal, "read an enrolment token", &error))?,
        ssh_host_keys: body.ssh_host_keys,
    };
    let parameters =
        serde_json::to_value(wanted).map_err(|error| Problem::internal(Code::Internal, "write a request", &error))?;
    let now = Timestamp::now();
    let request = Request {
        request_id: RequestId::new(),
        operation_id: OperationId::new(),
        kind: "host".into(),
        target_id: host.to_string(),
        verb: "enrol".into(),
        requested_by: terms.created_by.clone(),
        requested_at: now,
        deadline_at: Some(now.plus(APPLIED_WITHIN)),
        parameters,
    };
    let operation = request.operation_id;
    asking::ask(app, request).await?;
    let began = Instant::now();
    loop {
        if let Some(known) = app.live.operations.board.get(&operation)
            && let Some((progress, cause)) = known.ended()
        {
            return match cause {
                None if progress == pinacle_bus::contract::request::Progress::Succeeded => Ok(()),
                cause => Err(Problem::new(Code::Internal, cause.unwrap_or_else(|| "it was not done".into()))),
            };
        }
        if began.elapsed() > APPLIED_WITHIN {
            return Err(Problem::new(Code::NotReady, "the orchestrator has not taken the host in yet; try again"));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn enrolled(app: &App, host_id: HostId, grant: HostGrant) -> Result<Response, Problem> {
    let trust = app.trust()?;
    Ok(json(&Enrolled {
        host_id,
        jwt: grant.jwt,
        expires_at: grant.expires_at.into(),
        bus_url: trust.bus_url().to_owned(),
        bus_ca: trust.bus_ca().map(str::to_owned),
    }))
}

/// Ask for a challenge
///
/// For agents: what their key signs to renew their grant.
#[utoipa::path(post, path = "/enrol/challenge", operation_id = "enrol_challenge", tag = "hosts", security(()),
    request_body = ChallengeBody, responses((status = 200, body = Challenge)))]
pub async fn challenge(app: Shared, FromBody(body): FromBody<ChallengeBody>) -> Result<Response, Problem> {
    app.limits.check_enrolment(request::address())?;
    // Known or not: the answer tells nothing.
    let challenge = app.trust()?.challenge(&body.public_key)?;
    Ok(json(&Challenge { challenge }))
}

/// Renew a grant
///
/// For agents: another grant for a key that is good, or for a fresh key that takes its place.
#[utoipa::path(post, path = "/enrol/renewal", operation_id = "enrol_renewal", tag = "hosts", security(()),
    request_body = RenewalBody, responses((status = 200, body = Enrolled)))]
pub async fn renewal(app: Shared, FromBody(body): FromBody<RenewalBody>) -> Result<Response, Problem> {
    let trust = app.trust()?;
    let unknown = || refused("the key is not a host's");
    if !trust.is_ours(&body.challenge, &body.public_key) {
        return Err(refused("the challenge is too old, or not of this key"));
    }
    let text = renewal_text(&body.challenge, body.fresh_key.as_deref());
    verify(&body.public_key, &text, &body.signature)?;
    let key = match app.database.host_key_get(&body.public_key).await {
        Ok(key) => key,
        Err(error) if *error.kind() == StoreErrorKind::NotFound => return Err(unknown()),
        Err(error) => return Err(error.into()),
    };
    match key.state.as_str() {
        "active" => {}
        "disabled" => return Err(Problem::new(Code::HostDisabled, Code::HostDisabled.explanation())),
        _ => return Err(refused("the key was revoked")),
    }
    let (host, now) = (host_of(&key)?, Utc::now());
    let expires_at = trust.end(now);
    let Some(fresh) = &body.fresh_key else {
        let grant = trust.grant(host, &key.public_key, expires_at)?;
        if !app.database.host_key_renew(&key.public_key, expires_at).await? {
            return Err(unknown());
        }
        return enrolled(&app, host, grant);
    };
    verify(fresh, &text, body.fresh_signature.as_deref().unwrap_or_default())?;
    let grant = trust.grant(host, fresh, expires_at)?;
    match app.database.host_key_rotate(&key.public_key, fresh, now, expires_at).await {
        Ok(Some(_)) => {}
        Ok(None) => return Err(unknown()),
        Err(error) if matches!(error.kind(), StoreErrorKind::Conflict { .. }) => {
            return Err(refused("the fresh key is known already"));
        }
        Err(error) => return Err(error.into()),
    }
    info!(%host, "a host has another key");
    // It is written: the agent must have its answer, and the servers are told again in a moment.
    let _ = trust.tell().await;
    enrolled(&app, host, grant)
}

fn verify(public_key: &str, text: &str, signature: &str) -> Result<(), Problem> {
    let fits = URL_SAFE_NO_PAD
        .decode(signature)
        .is_ok_and(|signature| trust::verify(public_key, text.as_bytes(), &signature).is_ok());
    if fits { Ok(()) } else { Err(refused("the signature is not of this key")) }
}
