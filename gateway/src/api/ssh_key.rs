//! The key by which the orchestrator logs in to hosts: its public half, and which hosts do not know it yet.

use axum::response::Response;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use pinacle_bus::{
    client::Bucket,
    contract::{
        HostId, Timestamp,
        key::{SSH_KEY_RING, SshKeyRing},
        topology::KEYS,
    },
};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    Shared,
    asking::{self, Accepted},
    json as respond,
};
use crate::{
    identity::Identity,
    problem::{Code, Problem},
};

/// The key by which the orchestrator logs in to hosts.
#[derive(Serialize, ToSchema)]
pub struct SshKeyView {
    /// As in `authorized_keys`.
    #[schema(example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAeMVgkvZPfmgdQ6uJQXI0VdXkqhzqOYhMnXTVkxQZPy")]
    public_key: String,
    /// As `ssh-keygen -l` prints it.
    #[schema(example = "SHA256:pJkucUGNkrcocMZn1OJ6Z8ACIOphtMsBivbflSw1CLI")]
    fingerprint: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Whether it comes from the setting `orchestrator.ssh_key`, and is exchanged there.
    from_settings: bool,
    /// Fingerprints of former keys, which are kept for the hosts below.
    former: Vec<String>,
    /// Hosts that may know a former key alone, because they were away since the exchange.
    #[schema(value_type = Vec<String>)]
    hosts_behind: Vec<HostId>,
}

/// The orchestrator's SSH key
///
/// Its public half, for `authorized_keys` of hosts.
#[utoipa::path(get, path = "/ssh-key", operation_id = "ssh_key_get", tag = "hosts", responses((status = 200, body = SshKeyView)))]
pub async fn show(app: Shared, identity: Identity) -> Result<Response, Problem> {
    identity.admin()?;
    let bucket: Bucket<SshKeyRing> = app.live.bus.bucket(&KEYS).await?;
    let waiting = || Problem::new(Code::NotReady, "no orchestrator has started yet");
    let ring = bucket.get(SSH_KEY_RING).await?.ok_or_else(waiting)?.record;
    let (current, former) = ring.keys.split_first().ok_or_else(waiting)?;
    Ok(respond(&SshKeyView {
        fingerprint: fingerprint(&current.public_key),
        public_key: current.public_key.clone(),
        since: current.since,
        from_settings: current.private_key.is_none(),
        former: former.iter().map(|key| fingerprint(&key.public_key)).collect(),
        hosts_behind: ring.hosts_behind.into_iter().collect(),
    }))
}

/// Exchange the orchestrator's SSH key
///
/// It makes a new one, adds it on every host that can be reached, tries it, and withdraws the former one there. Hosts that
/// are away get it when they are back; `hosts_behind` says which.
#[utoipa::path(post, path = "/ssh-key/rotate", operation_id = "ssh_key_rotate", tag = "hosts", responses((status = 202, body = Accepted)))]
pub async fn rotate(app: Shared, identity: Identity) -> Result<Response, Problem> {
    identity.admin()?;
    let request = asking::request(&identity, "key", SSH_KEY_RING.to_owned(), "rotate", &json!({}))?;
    Ok(asking::ask(&app, request).await?.accepted(None))
}

fn fingerprint(public_key: &str) -> String {
    let key = public_key.split(' ').nth(1).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_as_ssh_keygen_prints_it() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAeMVgkvZPfmgdQ6uJQXI0VdXkqhzqOYhMnXTVkxQZPy";
        assert_eq!(fingerprint(key), "SHA256:pJkucUGNkrcocMZn1OJ6Z8ACIOphtMsBivbflSw1CLI");
    }
}
