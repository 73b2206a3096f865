//! On which terms a host takes part: open for new pods or not, whose, its labels, its SSH keys.

use std::collections::{BTreeMap, BTreeSet};

use axum::response::Response;
use pinacle_bus::contract::{HostId, request::LabelHost};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    App, Shared,
    asking::{self, Accepted},
    hosts,
};
use crate::{
    extract::{FromBody, FromPath},
    identity::Identity,
    problem::{Code, Problem},
};

const LONGEST_LABEL: usize = 255;

macro_rules! terms {
    ($($(#[doc = $doc:literal])* $name:ident($path:literal, $id:literal, $verb:literal);)*) => {$(
        $(#[doc = $doc])*
        #[utoipa::path(post, path = $path, operation_id = $id, tag = "hosts",
            params(("host" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
        pub async fn $name(app: Shared, identity: Identity, FromPath(host): FromPath<String>) -> Result<Response, Problem> {
            let (host, _) = hosts::controlled(&app, &identity, &host)?;
            change(&app, &identity, host, $verb, &json!({})).await
        }
    )*};
}

terms! {
    /// Close a host for new pods
    ///
    /// Those on it stay.
    cordon("/hosts/{host}/cordon", "host_cordon", "cordon");
    /// Open a host for new pods again
    uncordon("/hosts/{host}/uncordon", "host_uncordon", "uncordon");
    /// Trust the SSH keys that a host has now
    ///
    /// After it was set up anew. Compare their fingerprints first: whoever answers in its place would get all commands.
    trust_keys("/hosts/{host}/trust-keys", "host_trust_keys", "trust-keys");
}

/// What becomes of a host's labels.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsBody {
    /// Labels to set.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Labels to take away.
    #[serde(default)]
    remove: BTreeSet<String>,
}

/// Set and take away labels of a host
///
/// Pods may ask for them. Labels that are not named stay as they are.
#[utoipa::path(put, path = "/hosts/{host}/labels", operation_id = "host_label", tag = "hosts", request_body = LabelsBody,
    params(("host" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
pub async fn label(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromBody(body): FromBody<LabelsBody>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::controlled(&app, &identity, &host)?;
    let set = body.set.iter().map(|(key, value)| (key, Some(value)));
    check_labels("set", set.chain(body.remove.iter().map(|key| (key, None))))?;
    change(&app, &identity, host, "label", &LabelHost { set: body.set, remove: body.remove }).await
}

/// Whose pods a host takes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnersBody {
    /// Their names; empty = everybody.
    owners: BTreeSet<String>,
}

/// Say whose pods a host takes
///
/// Pods that are on it stay.
#[utoipa::path(put, path = "/hosts/{host}/owners", operation_id = "host_allow", tag = "hosts", request_body = OwnersBody,
    params(("host" = String, Path, description = "id or name")), responses((status = 202, body = Accepted)))]
pub async fn allow(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromBody(body): FromBody<OwnersBody>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::controlled(&app, &identity, &host)?;
    // Whoever has a host could read what others' pods hold.
    if !identity.is_admin() && (body.owners.is_empty() || !body.owners.iter().all(|owner| identity.owns(owner))) {
        return Err(Problem::field(Code::InvalidBody, "owners", "only admins may let a host take others' pods"));
    }
    change(&app, &identity, host, "allow", &body).await
}

/// Asks the orchestrator to change a host's record. Whether they may is the caller's to ask.
///
/// # Errors
/// When the bus does not take it in.
pub async fn change(
    app: &App,
    identity: &Identity,
    host: HostId,
    verb: &str,
    parameters: &impl Serialize,
) -> Result<Response, Problem> {
    let request = asking::request(identity, "host", host.to_string(), verb, parameters)?;
    Ok(asking::ask(app, request).await?.accepted(None))
}

/// Whether these can be labels.
///
/// # Errors
/// When one cannot.
pub fn check_labels<'a>(
    field: &str,
    labels: impl IntoIterator<Item = (&'a String, Option<&'a String>)>,
) -> Result<(), Problem> {
    let invalid = |text: &String| text.len() > LONGEST_LABEL || text.contains(char::is_control);
    if labels.into_iter().any(|(key, value)| key.is_empty() || invalid(key) || value.is_some_and(invalid)) {
        let why = "must have keys of 1 to 255 bytes and values of at most 255, without control characters";
        return Err(Problem::field(Code::InvalidBody, field, why));
    }
    Ok(())
}
