//! Secrets of people and teams: named values that go in and never come out, but into pods.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use pinacle_bus::{
    client::Bucket,
    contract::{
        PodId, SecretId, TeamId, Timestamp, UserId,
        key::{
            MOST_POD_SECRETS, MOST_POD_SECRETS_BYTES, POD_SECRETS, PodSecrets, SEALING_KEY, SealingKey, secret_name,
        },
        topology::KEYS,
    },
    crypto::seal_to,
};
use pinacle_store::{Direction, NewSecretVersion, SecretFilter, SecretRow, SecretVersionRow, StoreErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::{
    App, Shared, json as respond,
    page::{Page, PageQuery},
};
use crate::{
    audit,
    extract::{FromBody, FromPath, FromQuery},
    identity::{Grant, INSTALLATION, Identity},
    problem::{Code, Problem},
};

/// What values are sealed for.
const PURPOSE: &str = "secret";
const LONGEST_VALUE: usize = 16 * 1024;
const LONGEST_PROJECT: usize = 255;
/// Of one owner.
const MOST: u64 = 500;
/// Versions of one secret.
const KEPT: i64 = 20;
/// How often a secret is looked for again when somebody else makes or removes it meanwhile.
pub const MOST_CONFLICTS: usize = 5;

/// A secret. Its value is shown to nobody.
#[derive(Serialize, ToSchema)]
pub struct SecretView {
    /// This secret.
    #[schema(example = "secret_2NxnYz0Gk2pVq8uVb3oZcX7fFqD")]
    secret_id: String,
    /// Whose it is.
    owner: String,
    /// The only project that it is for; null = all of its owner's.
    project: Option<String>,
    /// Its name, and that of its file in a pod.
    #[schema(example = "DATABASE_URL")]
    name: String,
    /// The number of its newest value.
    version: i64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it got its newest value.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Who gave it that.
    updated_by: String,
}

impl From<SecretRow> for SecretView {
    fn from(row: SecretRow) -> Self {
        Self {
            secret_id: row.secret_id,
            owner: row.owner,
            project: (!row.project.is_empty()).then_some(row.project),
            name: row.name,
            version: row.version,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
            updated_by: row.updated_by,
        }
    }
}

/// A value that a secret had or has.
#[derive(Serialize, ToSchema)]
pub struct SecretVersionView {
    /// Its number.
    version: i64,
    /// When it was given.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Who gave it.
    created_by: String,
}

impl From<SecretVersionRow> for SecretVersionView {
    fn from(row: SecretVersionRow) -> Self {
        Self { version: row.version, created_at: row.created_at.into(), created_by: row.created_by }
    }
}

/// What an exchange of the master key did.
#[derive(Serialize, ToSchema)]
pub struct RotatedView {
    /// The master key that all data keys are under now.
    master_key_id: String,
    /// How many were put under it.
    rewrapped: u64,
    /// How many stay under a master key that this gateway does not have.
    unreadable: u64,
    /// How many there are in all.
    all: u64,
}

/// Which secrets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SecretsQuery {
    /// Only of this owner: a person or a team.
    owner: Option<String>,
    /// Only of this project.
    project: Option<String>,
    /// Most items, from 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before, as it came.
    cursor: Option<String>,
}

/// Which secret, besides its name.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PlaceQuery {
    /// Whose: a person or a team; without it your own.
    pub owner: Option<String>,
    /// The project that it is for; without it one for all projects.
    pub project: Option<String>,
}

/// A secret's value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutBody {
    /// The value: text of 1 to 16384 bytes, of any lines.
    #[schema(min_length = 1, max_length = 16384)]
    value: String,
    /// Whose: you, or a team that you are in; without it your own.
    owner: Option<String>,
    /// The only project that it is for, such as a repository's address; without it all projects.
    #[schema(max_length = 255)]
    project: Option<String>,
}

/// List secrets
///
/// Their names and versions, never their values: your own and your teams'.
#[utoipa::path(get, path = "/secrets", operation_id = "secret_list", tag = "secrets", params(SecretsQuery),
    responses((status = 200, body = Page<SecretView>)))]
pub async fn list(
    app: Shared,
    identity: Identity,
    FromQuery(query): FromQuery<SecretsQuery>,
) -> Result<Response, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.request(Direction::Forward)?;
    let texts = [("owner", &query.owner), ("project", &query.project)];
    texts.into_iter().try_for_each(|(field, text)| plain(field, text.as_deref().unwrap_or_default()))?;
    let filter = SecretFilter { owner: query.owner, project: query.project };
    let found = app.database.secret_list(identity.scope(), &filter, &page).await?;
    Ok(respond(&Page {
        items: found.items.into_iter().map(SecretView::from).collect(),
        next_cursor: found.next.map(|cursor| cursor.to_string()),
    }))
}

/// Give a secret a value
///
/// Makes it, or gives it another version; pods get it when they are made the next time. Nobody is ever shown the value.
#[utoipa::path(put, path = "/secrets/{name}", operation_id = "secret_put", tag = "secrets", request_body = PutBody,
    params(("name" = String, Path, description = "1 to 128 of A-Z, 0-9 and _, with no digit first")),
    responses((status = 200, body = SecretView)))]
pub async fn put(
    app: Shared,
    identity: Identity,
    FromPath(name): FromPath<String>,
    FromBody(body): FromBody<PutBody>,
) -> Result<Response, Problem> {
    may_change(&identity)?;
    secret_name("name", &name).map_err(|invalid| Problem::field(Code::InvalidParameter, "name", invalid.why))?;
    let value = Zeroizing::new(body.value);
    if !(1..=LONGEST_VALUE).contains(&value.len()) {
        return Err(Problem::field(Code::InvalidBody, "value", format!("must have 1 to {LONGEST_VALUE} bytes")));
    }
    let place = Place::new(&identity, body.owner, body.project)?;
    for _ in 0..MOST_CONFLICTS {
        if let Some(row) = place.put(&app, &identity, &name, &value).await? {
            audit::about("secret", &row.secret_id, Some(&row.owner));
            return Ok(respond(&SecretView::from(row)));
        }
    }
    Err(contended())
}

/// Remove a secret
///
/// With all of its values. Pods that run keep it; one that is to have it is started by nobody until there is one of that
/// name again.
#[utoipa::path(delete, path = "/secrets/{name}", operation_id = "secret_delete", tag = "secrets",
    params(("name" = String, Path), PlaceQuery), responses((status = 204)))]
pub async fn delete(
    app: Shared,
    identity: Identity,
    FromPath(name): FromPath<String>,
    FromQuery(query): FromQuery<PlaceQuery>,
) -> Result<Response, Problem> {
    may_change(&identity)?;
    let row = Place::new(&identity, query.owner, query.project)?.find(&app, &identity, &name).await?;
    let row = row.ok_or_else(missing)?;
    audit::about("secret", &row.secret_id, Some(&row.owner));
    if app.database.secret_delete(&row.secret_id).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(missing())
    }
}

/// A secret's versions
///
/// When it got which value, and from whom. The newest 20 are kept.
#[utoipa::path(get, path = "/secrets/{name}/versions", operation_id = "secret_versions", tag = "secrets",
    params(("name" = String, Path), PlaceQuery), responses((status = 200, body = Page<SecretVersionView>)))]
pub async fn versions(
    app: Shared,
    identity: Identity,
    FromPath(name): FromPath<String>,
    FromQuery(query): FromQuery<PlaceQuery>,
) -> Result<Response, Problem> {
    let row = Place::new(&identity, query.owner, query.project)?.find(&app, &identity, &name).await?;
    let row = row.ok_or_else(missing)?;
    audit::about("secret", &row.secret_id, Some(&row.owner));
    let versions = app.database.secret_versions(&row).await?;
    let items: Vec<SecretVersionView> = versions.into_iter().map(SecretVersionView::from).collect();
    Ok(respond(&Page { items, next_cursor: None }))
}

/// Exchange the master key
///
/// Reads `gateway.master_key` again and puts every data key under its first key. Everything goes on meanwhile. Cut off, it
/// goes on when it is asked for again.
#[utoipa::path(post, path = "/secrets/rotate", operation_id = "secret_rotate", tag = "secrets",
    responses((status = 200, body = RotatedView)))]
pub async fn rotate(app: Shared, identity: Identity) -> Result<Response, Problem> {
    identity.admin()?;
    let done = app.vault.rewrap().await?;
    Ok(respond(&RotatedView {
        master_key_id: done.master_key_id,
        rewrapped: done.rewrapped,
        unreadable: done.unreadable,
        all: done.all,
    }))
}

/// There is no such secret, or not for whoever asks.
pub fn missing() -> Problem {
    Problem::new(Code::SecretNotFound, Code::SecretNotFound.explanation())
}

/// It was changed by others each time that it was looked for.
pub fn contended() -> Problem {
    Problem::new(Code::Overloaded, "others make and remove this secret all the time; try again")
}

/// Whether what they showed may be used for changing secrets.
///
/// # Errors
/// When it may not.
pub fn may_change(identity: &Identity) -> Result<(), Problem> {
    if identity.may(Grant::Pods) {
        Ok(())
    } else {
        Err(Problem::new(Code::Forbidden, "the token is not for changing pods and what belongs to them"))
    }
}

/// Text that the database takes.
fn plain(field: &'static str, text: &str) -> Result<(), Problem> {
    if text.len() <= LONGEST_PROJECT && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let why = format!("must have at most {LONGEST_PROJECT} bytes and no control characters");
    Err(Problem::field(Code::InvalidParameter, field, why))
}

/// That an owner may have one more secret.
///
/// # Errors
/// When they have as many as may be.
pub async fn has_room(app: &App, owner: &str) -> Result<(), Problem> {
    if app.database.secret_count(owner).await? >= MOST {
        return Err(Problem::new(Code::TooManySecrets, Code::TooManySecrets.explanation()));
    }
    Ok(())
}

/// A value of a secret's.
///
/// # Errors
/// When it does not open: it was put into another secret's place.
pub async fn open(app: &App, secret: &SecretRow, version: &SecretVersionRow) -> Result<Zeroizing<Vec<u8>>, Problem> {
    if !version.row_id.starts_with(&format!("{} ", secret.secret_id)) {
        return Err(Problem::new(Code::Internal, Code::Internal.explanation()));
    }
    Ok(app.vault.open(&secret.owner, PURPOSE, &version.row_id, &version.sealed).await?)
}

/// The same value for another owner.
///
/// # Errors
/// When the vault does not answer.
pub async fn seal(app: &App, owner: &str, version: &SecretVersionRow, value: &[u8]) -> Result<Vec<u8>, Problem> {
    Ok(app.vault.seal(owner, PURPOSE, &version.row_id, value).await?)
}

/// Whose and for which project.
pub struct Place {
    owner: String,
    project: String,
}

impl Place {
    /// Of another's there is nothing here.
    ///
    /// # Errors
    /// When the asker has nothing there.
    pub fn new(identity: &Identity, owner: Option<String>, project: Option<String>) -> Result<Self, Problem> {
        let owner = owner.unwrap_or_else(|| identity.name().to_owned());
        let is_owner = owner == INSTALLATION || owner.parse::<UserId>().is_ok() || owner.parse::<TeamId>().is_ok();
        if !is_owner || !identity.owns(&owner) {
            return Err(missing());
        }
        let project = project.unwrap_or_default();
        plain("project", &project)?;
        Ok(Self { owner, project })
    }

    /// The secret of this name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find(&self, app: &App, identity: &Identity, name: &str) -> Result<Option<SecretRow>, Problem> {
        if secret_name("name", name).is_err() {
            return Ok(None);
        }
        Ok(app.database.secret_find(identity.scope(), &self.owner, &self.project, name).await?)
    }

    /// `None` when somebody else made or removed it meanwhile.
    async fn put(&self, app: &App, identity: &Identity, name: &str, value: &str) -> Result<Option<SecretRow>, Problem> {
        let now = Utc::now();
        let row = match self.find(app, identity, name).await? {
            Some(row) => row,
            None => {
                has_room(app, &self.owner).await?;
                SecretRow {
                    secret_id: SecretId::new().to_string(),
                    owner: self.owner.clone(),
                    project: self.project.clone(),
                    name: name.to_owned(),
                    version: 0,
                    created_by: identity.name().to_owned(),
                    created_at: now,
                    updated_by: String::new(),
                    updated_at: now,
                }
            }
        };
        let row_id = format!("{} {}", row.secret_id, SecretId::new());
        let sealed = app.vault.seal(&self.owner, PURPOSE, &row_id, value.as_bytes()).await?;
        let by = identity.name().to_owned();
        let version = NewSecretVersion { row_id, sealed, by: by.clone(), at: now };
        let number = app.database.secret_put(&row, &version, KEPT).await.map_err(|error| match error.kind() {
            // The team has just ended.
            StoreErrorKind::NotFound => missing(),
            _ => error.into(),
        })?;
        Ok(number.map(|version| SecretRow { version, updated_by: by, updated_at: now, ..row }))
    }
}

/// The newest values of an owner's secrets, sealed to the orchestrator for one pod. `lacking` says what it means that there
/// are none of some names.
///
/// # Errors
/// When one is not there, or all are too large together.
pub async fn for_pod(
    app: &App,
    owner: &str,
    pod: PodId,
    names: BTreeSet<String>,
    project: Option<String>,
    lacking: impl FnOnce(&str) -> Problem,
) -> Result<Option<PodSecrets>, Problem> {
    let refuse = |why: String| Problem::field(Code::InvalidBody, "secrets", why);
    if names.is_empty() {
        return Ok(None);
    }
    if names.len() > MOST_POD_SECRETS {
        return Err(refuse(format!("must be at most {MOST_POD_SECRETS}")));
    }
    names.iter().try_for_each(|name| secret_name("secrets", name)).map_err(|invalid| refuse(invalid.why))?;
    let of_project = project.as_deref().unwrap_or_default();
    plain("project", of_project)?;
    let wanted: Vec<String> = names.iter().cloned().collect();
    let found = app.database.secret_values(owner, of_project, &wanted).await?;
    let mut values: BTreeMap<String, Zeroizing<String>> = BTreeMap::new();
    for (secret, version) in found {
        let opened = open(app, &secret, &version).await?;
        values.insert(secret.name, Zeroizing::new(String::from_utf8_lossy(&opened).into_owned()));
    }
    let absent: Vec<&str> = names.iter().filter(|name| !values.contains_key(*name)).map(String::as_str).collect();
    if !absent.is_empty() {
        return Err(lacking(&absent.join(", ")));
    }
    if values.values().map(|value| value.len()).sum::<usize>() > MOST_POD_SECRETS_BYTES {
        return Err(refuse(format!("must have at most {MOST_POD_SECRETS_BYTES} bytes together")));
    }
    let bucket: Bucket<SealingKey> = app.live.bus.bucket(&KEYS).await?;
    let key = bucket
        .get(SEALING_KEY)
        .await?
        .ok_or_else(|| Problem::new(Code::NotReady, "no orchestrator has started yet"))?;
    let plain: BTreeMap<&str, &str> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let text = serde_json::to_string(&plain).map(Zeroizing::new);
    let text = text.map_err(|error| Problem::internal(Code::Internal, "write secrets", &error))?;
    let sealed = seal_to(&key.record.public_key, &[POD_SECRETS, &pod.to_string()], text.as_bytes())
        .map_err(|error| Problem::internal(Code::Internal, "seal secrets", &error))?;
    Ok(Some(PodSecrets { names, project, sealed }))
}
