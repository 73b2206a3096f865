//! The orchestrator's keys, in the bucket `keys`. Only it writes them; public halves are for everybody who may read the
//! bucket, private halves are encrypted under `orchestrator.key`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    HostId, RequestId, Timestamp,
    message::{Invalid, Message, check},
};

/// The key of the [`SealingKey`] in its bucket.
pub const SEALING_KEY: &str = "sealing";
/// The key of the [`SshKeyRing`] in its bucket.
pub const SSH_KEY_RING: &str = "ssh";
/// What secrets of pods are sealed for, besides the pod.
pub const POD_SECRETS: &str = "pod secrets";
/// Most SSH keys that a ring holds: the current one, and former ones that some host still knows alone.
pub const MOST_SSH_KEYS: usize = 4;
/// Most secrets of a pod.
pub const MOST_POD_SECRETS: usize = 64;
/// Most bytes of all values of a pod's secrets together.
pub const MOST_POD_SECRETS_BYTES: usize = 48 * 1024;
/// Most characters of a pod's secrets when they are sealed.
const MOST_SEALED: usize = 128 * 1024;

/// What secrets are sealed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealingKey {
    /// X25519, in base64.
    pub public_key: String,
    /// Encrypted, in base64.
    pub private_key: String,
    /// When it was made.
    pub made_at: Timestamp,
}

impl Message for SealingKey {
    const NAME: &'static str = "sealing_key";
    const MAX_BYTES: usize = 4096;

    fn check(&self) -> Result<(), Invalid> {
        check::text("public_key", &self.public_key, 64)?;
        check::text("private_key", &self.private_key, 512)
    }
}

/// The keys by which the orchestrator logs in to hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshKeyRing {
    /// The current one first.
    pub keys: Vec<SshKey>,
    /// Hosts that may know a former one alone: they were away since the last rotation.
    pub hosts_behind: BTreeSet<HostId>,
}

/// A key by which the orchestrator logs in to hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshKey {
    /// As in `authorized_keys`: algorithm and base64.
    pub public_key: String,
    /// Encrypted, in base64; null = the orchestrator has it from its settings.
    pub private_key: Option<String>,
    /// Since when it is used.
    pub since: Timestamp,
    /// What asked for it; null = it is the first.
    pub request_id: Option<RequestId>,
}

impl Message for SshKeyRing {
    const NAME: &'static str = "ssh_key_ring";
    const MAX_BYTES: usize = 512 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::length("keys", self.keys.len(), MOST_SSH_KEYS)?;
        if self.keys.is_empty() {
            return Err(Invalid { field: "keys", why: "must have one".into() });
        }
        check::length("hosts_behind", self.hosts_behind.len(), 15_000)?;
        self.keys.iter().try_for_each(|key| {
            check::text("keys.public_key", &key.public_key, 1024)?;
            check::text("keys.private_key", key.private_key.as_deref().unwrap_or_default(), 4096)
        })
    }
}

/// Secrets for a pod, as they travel: sealed to the orchestrator, for this pod alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSecrets {
    /// Their names, which are the names of the files in the pod.
    pub names: BTreeSet<String>,
    /// The project whose secrets go before those for all projects; null = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// A JSON object of names and values, sealed to [`SealingKey::public_key`] for [`POD_SECRETS`] and the pod's id.
    pub sealed: String,
}

impl PodSecrets {
    /// What the types cannot say.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        check::length("secrets.names", self.names.len(), MOST_POD_SECRETS)?;
        self.names.iter().try_for_each(|name| secret_name("secrets.names", name))?;
        check::text("secrets.project", self.project.as_deref().unwrap_or_default(), 255)?;
        check::text("secrets.sealed", &self.sealed, MOST_SEALED)
    }
}

/// A secret's name: 1 to 128 of A-Z, 0-9 and `_`, no digit first, as an environment's variable may be.
///
/// # Errors
/// When it is none.
pub fn secret_name(field: &'static str, name: &str) -> Result<(), Invalid> {
    let good = (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    let why = "must be 1 to 128 of A-Z, 0-9 and _, with no digit first".to_owned();
    if good { Ok(()) } else { Err(Invalid { field, why }) }
}
