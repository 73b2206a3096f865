//! Tokens by which hosts join: made by who brings a machine, exchanged once or a few times, stored as digests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use pinacle_bus::contract::{EnrolmentId, Timestamp};
use pinacle_store::{Direction, HostEnrolmentRow, StoreErrorKind};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Shared, hosts, json,
    page::{Page, PageQuery},
    terms,
};
use crate::{
    extract::{FromBody, FromPath, FromQuery},
    identity::{Grant, INSTALLATION, Identity},
    problem::{Code, Problem},
};

/// What a token begins with, so that people and scanners know one when they see it.
pub const PREFIX: &str = "pinh_";
const LONGEST_NAME: usize = 63;
const MOST_LABELS: usize = 32;
const MOST_USES: u32 = 1000;
const DEFAULT_SECONDS: u64 = 60 * 60;
const MOST_SECONDS: u64 = 30 * 24 * 60 * 60;

/// On which terms machines join.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnrolmentBody {
    /// What the host is to be called; left out = as the machine calls itself.
    #[schema(max_length = 63)]
    name: Option<String>,
    /// Labels that it begins with.
    labels: BTreeMap<String, String>,
    /// Whose it is: you, or a team that you are in; left out = you.
    owner: Option<String>,
    /// Whether it takes everybody's pods. Only admins may say so; left out = only for hosts of the installation.
    shared: Option<bool>,
    /// The host that joins again by it, by id or name: a machine that was set up anew, or another one in its place.
    host: Option<String>,
    /// When it ends: from 60 seconds to 30 days; left out = an hour.
    #[schema(minimum = 60, maximum = 2_592_000)]
    expires_in_seconds: Option<u64>,
    /// How many machines may join by it; left out = one.
    #[schema(minimum = 1, maximum = 1000)]
    uses: Option<u32>,
}

/// A token that was made. It is shown this once.
#[derive(Serialize, ToSchema)]
pub struct EnrolmentMade {
    /// As in lists.
    #[serde(flatten)]
    enrolment: EnrolmentView,
    /// The token.
    token: String,
    /// What to run on the machine, as root.
    command: String,
}

/// A token, without itself.
#[derive(Serialize, ToSchema)]
pub struct EnrolmentView {
    /// This token.
    #[schema(example = "enrol_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    enrolment_id: String,
    /// What the host is to be called; empty = as the machine calls itself.
    name: String,
    /// Labels that its hosts begin with.
    #[schema(value_type = BTreeMap<String, String>)]
    labels: Value,
    /// Whose its hosts are.
    owner: String,
    /// Whose pods they take; empty = everybody's.
    #[schema(value_type = Vec<String>)]
    allowed_owners: Value,
    /// The host that joins again by it.
    host_id: Option<String>,
    /// Who made it.
    created_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// How many machines may join by it.
    uses: i32,
    /// How many have.
    used: i32,
    /// When somebody took it back.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

impl From<HostEnrolmentRow> for EnrolmentView {
    fn from(row: HostEnrolmentRow) -> Self {
        Self {
            enrolment_id: row.enrolment_id,
            name: row.name,
            labels: row.labels,
            owner: row.owner,
            allowed_owners: row.allowed_owners,
            host_id: row.host_id,
            created_by: row.created_by,
            created_at: row.created_at.into(),
            expires_at: row.expires_at.into(),
            uses: row.uses,
            used: row.used,
            revoked_at: row.revoked_at.map(Timestamp::from),
        }
    }
}

/// What is kept of a token.
pub fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// Let a machine join
///
/// Makes a token and the line to run on the machine. Both are shown this once.
#[utoipa::path(post, path = "/hosts/enrolment-tokens", operation_id = "enrolment_create", tag = "hosts",
    request_body = EnrolmentBody, responses((status = 201, body = EnrolmentMade)))]
pub async fn create(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<EnrolmentBody>,
) -> Result<Response, Problem> {
    app.trust()?;
    let (row, token) = made(&app, &identity, body)?;
    if !app.database.enrolment_create(row.clone()).await? {
        return Err(Problem::field(Code::InvalidBody, "owner", "is a team that has just ended"));
    }
    let command = app.install.command(&token);
    Ok((StatusCode::CREATED, json(&EnrolmentMade { enrolment: row.into(), token, command })).into_response())
}

/// The row of a new token, and the token.
fn made(app: &App, identity: &Identity, body: EnrolmentBody) -> Result<(HostEnrolmentRow, String), Problem> {
    if !identity.may(Grant::Hosts) {
        return Err(Problem::new(Code::Forbidden, Code::Forbidden.explanation()));
    }
    let field = |field: &str, why: &str| Err(Problem::field(Code::InvalidBody, field, why.to_owned()));
    let name = body.name.unwrap_or_default();
    if name.len() > LONGEST_NAME || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return field("name", "must have at most 63 letters, digits, dots, dashes and underscores");
    }
    if body.labels.len() > MOST_LABELS {
        return field("labels", "must be at most 32");
    }
    terms::check_labels("labels", body.labels.iter().map(|(key, value)| (key, Some(value))))?;
    let host = body.host.map(|host| hosts::controlled(app, identity, &host)).transpose()?;
    // A host that joins again stays whose it is.
    let given = host.as_ref().map(|(_, host)| host.record.owner.clone().unwrap_or_else(|| INSTALLATION.to_owned()));
    if given.is_some() && (body.owner.is_some() || body.shared.is_some()) {
        return field("host", "a host that joins again keeps its owner and whose pods it takes");
    }
    let owner = given.or(body.owner).unwrap_or_else(|| identity.name().to_owned());
    if !is_owner(&owner) || !identity.owns(&owner) {
        return field("owner", "must be you, or a team that you are in");
    }
    let shared = body.shared.unwrap_or(owner == INSTALLATION);
    if shared && !identity.is_admin() {
        return field("shared", "only admins may let a host take everybody's pods");
    }
    let seconds = body.expires_in_seconds.unwrap_or(DEFAULT_SECONDS);
    if !(60..=MOST_SECONDS).contains(&seconds) {
        return field("expires_in_seconds", "must be from 60 to 2592000");
    }
    let uses = body.uses.unwrap_or(1);
    if !(1..=MOST_USES).contains(&uses) {
        return field("uses", "must be from 1 to 1000");
    }
    if host.is_some() && uses != 1 {
        return field("uses", "must be 1 where a host is named");
    }
    let allowed: BTreeSet<String> = match &host {
        Some((_, host)) => host.record.allowed_owners.clone(),
        None if shared => BTreeSet::new(),
        None => [owner.clone()].into(),
    };
    let random: [u8; 32] = rand::rng().random();
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let now = Utc::now();
    let row = HostEnrolmentRow {
        enrolment_id: EnrolmentId::new().to_string(),
        token_hash: hash(&token),
        name,
        labels: value(&body.labels)?,
        allowed_owners: value(&allowed)?,
        owner,
        host_id: host.map(|(host, _)| host.to_string()),
        created_by: identity.name().to_owned(),
        created_at: now,
        expires_at: now + Duration::from_secs(seconds),
        uses: uses.cast_signed(),
        used: 0,
        revoked_at: None,
    };
    Ok((row, token))
}

/// Whether a text can name an owner: a user, a team or the installation.
fn is_owner(text: &str) -> bool {
    text == INSTALLATION
        || text.parse::<pinacle_bus::contract::UserId>().is_ok()
        || text.parse::<pinacle_bus::contract::TeamId>().is_ok()
}

fn value(of: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(of).map_err(|error| Problem::internal(Code::Internal, "write an enrolment token", &error))
}

/// Which tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnrolmentsQuery {
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// List tokens by which hosts join
///
/// Those of your own hosts, the newest first, also those that have ended; never the tokens themselves.
#[utoipa::path(get, path = "/hosts/enrolment-tokens", operation_id = "enrolment_list", tag = "hosts", params(EnrolmentsQuery),
    responses((status = 200, body = Page<EnrolmentView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<EnrolmentsQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.request(Direction::Backward)?;
    let rows = app.database.enrolment_list(identity.scope(), &page).await?;
    let items: Vec<EnrolmentView> = rows.items.into_iter().map(EnrolmentView::from).collect();
    Ok(json(&Page { items, next_cursor: rows.next.map(|cursor| cursor.to_string()) }))
}

/// Take a token back
///
/// No machine joins by it any more. Hosts that have stay.
#[utoipa::path(delete, path = "/hosts/enrolment-tokens/{token}", operation_id = "enrolment_revoke", tag = "hosts",
    params(("token" = String, Path, description = "the token's id")), responses((status = 200, body = EnrolmentView)))]
pub async fn revoke(app: Shared, identity: Identity, FromPath(id): FromPath<String>) -> Result<Response, Problem> {
    if !identity.may(Grant::Hosts) {
        return Err(Problem::new(Code::Forbidden, Code::Forbidden.explanation()));
    }
    let missing = || Problem::new(Code::EnrolmentNotFound, Code::EnrolmentNotFound.explanation());
    let id: EnrolmentId = id.parse().map_err(|_| missing())?;
    match app.database.enrolment_revoke(identity.scope(), &id.to_string(), Utc::now()).await {
        Ok(row) => Ok(json(&EnrolmentView::from(row))),
        Err(error) if *error.kind() == StoreErrorKind::NotFound => Err(missing()),
        Err(error) => Err(error.into()),
    }
}
