//! The orchestrator's own keys: what secrets are sealed to, and what hosts are logged in to with. They are made at the
//! first start and lie in the bucket `keys`, their private halves encrypted under `orchestrator.key`, so that all copies
//! have the same ones. Of several copies that make one at once, the first one's stays.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use pinacle_bus::{
    client::{Bucket, Bus, BusError, Change},
    contract::{
        HostId, RequestId, Timestamp,
        key::{MOST_SSH_KEYS, SEALING_KEY, SSH_KEY_RING, SealingKey, SshKey, SshKeyRing},
        topology::KEYS,
    },
    crypto::{Key, NotOpened, OpeningKey},
    settings::Secret,
};
use russh::keys::{Algorithm, PrivateKey, PublicKey, decode_secret_key, ssh_key::LineEnding};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::{lease::won, settings::Orchestrator, ssh::SshKeys};

const CONTEXT: &str = "orchestrator key";

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The bus; it is to be tried again.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// What is on the bus is not for us.
    #[error("the keys on the bus cannot be opened with orchestrator.key: it is another one than they were made under")]
    NotOpened(#[from] NotOpened),
    /// No key could be made.
    #[error("cannot make an SSH key: {0}")]
    Ssh(#[from] russh::keys::ssh_key::Error),
}

/// See the module. Cheap to clone; all clones share them.
#[derive(Clone)]
pub struct Keys {
    sealing: Arc<OpeningKey>,
    rings: Bucket<SshKeyRing>,
    wrapping: Key,
    given: Secret,
    ssh: SshKeys,
}

impl Keys {
    /// Reads the keys, and makes those that are not there yet.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub async fn open(bus: &Bus, wrapping: Key, settings: &Orchestrator) -> Result<Self, KeysError> {
        let sealing = sealing(&bus.bucket(&KEYS).await?, &wrapping).await?;
        let keys = Self {
            sealing: Arc::new(sealing),
            rings: bus.bucket(&KEYS).await?,
            wrapping,
            given: settings.ssh_key.clone(),
            ssh: settings.ssh_key.clone().into(),
        };
        let ring = keys.make_ring().await?;
        keys.use_ring(&ring)?;
        Ok(keys)
    }

    /// Opens what is sealed to this installation.
    pub fn sealing(&self) -> &OpeningKey {
        &self.sealing
    }

    /// What hosts are logged in to with.
    pub fn ssh(&self) -> &SshKeys {
        &self.ssh
    }

    /// The ring as it is on the bus.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn ring(&self) -> Result<Option<SshKeyRing>, BusError> {
        Ok(self.rings.get(SSH_KEY_RING).await?.map(|entry| entry.record))
    }

    /// The private half of a ring's current key.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn current(&self, ring: &SshKeyRing) -> Result<Secret, KeysError> {
        let key = ring.keys.first().ok_or(NotOpened)?;
        Ok(self.private(key)?.unwrap_or_else(|| self.given.clone()))
    }

    /// Makes a new SSH key, which these hosts do not know yet; the inner error is for people. Once more for the same
    /// request is the same.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub async fn rotate(
        &self,
        request_id: RequestId,
        hosts: BTreeSet<HostId>,
    ) -> Result<Result<(), String>, KeysError> {
        if !self.given.is_empty() {
            return Ok(Err("the key is that of the setting orchestrator.ssh_key, and is exchanged there".into()));
        }
        loop {
            let Some(entry) = self.rings.get(SSH_KEY_RING).await? else { return Ok(Err("there is no key yet".into())) };
            let mut ring = entry.record;
            if ring.keys.iter().any(|key| key.request_id == Some(request_id)) {
                return Ok(Ok(()));
            }
            if ring.keys.len() >= MOST_SSH_KEYS {
                let behind = ring.hosts_behind.len();
                return Ok(Err(format!(
                    "{behind} hosts are still on former keys, of which there are as many as may be"
                )));
            }
            ring.keys.insert(0, self.new_ssh_key(Some(request_id))?);
            ring.hosts_behind.extend(&hosts);
            if won(self.rings.update(SSH_KEY_RING, &ring, entry.revision).await)? {
                self.use_ring(&ring)?;
                return Ok(Ok(()));
            }
        }
    }

    /// These hosts know the current key, or are gone. Once no host is behind, former keys are forgotten.
    ///
    /// # Errors
    /// When the bus does not do it.
    pub async fn caught_up(&self, hosts: &BTreeSet<HostId>) -> Result<(), BusError> {
        let Some(entry) = self.rings.get(SSH_KEY_RING).await? else { return Ok(()) };
        let mut ring = entry.record.clone();
        ring.hosts_behind.retain(|host| !hosts.contains(host));
        if ring.hosts_behind.is_empty() {
            ring.keys.truncate(1);
        }
        if ring != entry.record {
            // Who was faster made a new key, for which these hosts are behind again: the next run sees to it.
            won(self.rings.update(SSH_KEY_RING, &ring, entry.revision).await)?;
        }
        Ok(())
    }

    /// Takes up what other copies change, until shutdown.
    ///
    /// # Errors
    /// When a ring cannot be opened.
    pub async fn follow(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut watch = self.rings.watch();
        loop {
            let change = tokio::select! {
                // cancel-safe: says so.
                change = watch.next() => change,
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
            };
            match change {
                Ok(Change::Put { key, entry }) if key == SSH_KEY_RING => self.use_ring(&entry.record)?,
                // The other key of the bucket.
                Ok(_) => {}
                Err(error) => {
                    warn!(%error, "the keys cannot be followed; trying again");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// The ring on the bus, made if it is not there, and led by the key of the settings if they have one.
    async fn make_ring(&self) -> Result<SshKeyRing, KeysError> {
        loop {
            let entry = self.rings.get(SSH_KEY_RING).await?;
            let mut ring = match &entry {
                Some(entry) => entry.record.clone(),
                None => SshKeyRing { keys: Vec::new(), hosts_behind: [].into() },
            };
            let first = ring.keys.first();
            let lead = match self.given_public() {
                Some(given) if first.is_some_and(|key| key.public_key == given) => None,
                Some(public_key) => {
                    Some(SshKey { public_key, private_key: None, since: Timestamp::now(), request_id: None })
                }
                // A key of the settings that is there no more, or cannot be read, leads no more either.
                None if first.is_some_and(|key| key.private_key.is_some()) => None,
                None => Some(self.new_ssh_key(None)?),
            };
            let Some(lead) = lead else { return Ok(ring) };
            ring.keys.retain(|key| key.private_key.is_some());
            ring.keys.insert(0, lead);
            ring.keys.truncate(MOST_SSH_KEYS);
            let written = match entry {
                Some(entry) => self.rings.update(SSH_KEY_RING, &ring, entry.revision).await,
                None => self.rings.create(SSH_KEY_RING, &ring).await,
            };
            if won(written)? {
                info!(key = ring.keys.first().map(|key| &key.public_key), "hosts are logged in to with a new key");
                return Ok(ring);
            }
        }
    }

    fn new_ssh_key(&self, request_id: Option<RequestId>) -> Result<SshKey, KeysError> {
        let private = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        let public_key = line(private.public_key());
        let text = private.to_openssh(LineEnding::LF)?;
        let encrypted = self.wrapping.seal(&[CONTEXT, SSH_KEY_RING, &public_key], text.as_bytes())?;
        Ok(SshKey { private_key: Some(STANDARD.encode(encrypted)), public_key, since: Timestamp::now(), request_id })
    }

    fn use_ring(&self, ring: &SshKeyRing) -> Result<(), KeysError> {
        let given = (!self.given.is_empty()).then(|| self.given.clone());
        let mut secrets: Vec<Secret> = given.into_iter().collect();
        for key in &ring.keys {
            secrets.extend(self.private(key)?);
        }
        self.ssh.set(secrets);
        Ok(())
    }

    /// The private half of a key, if the ring has it.
    fn private(&self, key: &SshKey) -> Result<Option<Secret>, KeysError> {
        let Some(encrypted) = &key.private_key else { return Ok(None) };
        let encrypted = STANDARD.decode(encrypted).map_err(|_| NotOpened)?;
        let text = self.wrapping.open(&[CONTEXT, SSH_KEY_RING, &key.public_key], &encrypted)?;
        Ok(Some(Secret::new(str::from_utf8(&text).map_err(|_| NotOpened)?)))
    }

    /// The public half of the settings' key; `None` when they have none that can be read.
    fn given_public(&self) -> Option<String> {
        decode_secret_key(self.given.expose(), None).ok().map(|key| line(key.public_key()))
    }
}

/// A public key as in `authorized_keys`, without a comment.
fn line(key: &PublicKey) -> String {
    let text = key.to_openssh().unwrap_or_default();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

async fn sealing(bucket: &Bucket<SealingKey>, wrapping: &Key) -> Result<OpeningKey, KeysError> {
    let context = [CONTEXT, SEALING_KEY];
    loop {
        if let Some(entry) = bucket.get(SEALING_KEY).await? {
            let encrypted = STANDARD.decode(&entry.record.private_key).map_err(|_| NotOpened)?;
            return Ok(OpeningKey::from_bytes(&wrapping.open(&context, &encrypted)?)?);
        }
        let key = OpeningKey::random();
        let bytes: Zeroizing<Vec<u8>> = key.to_bytes();
        let record = SealingKey {
            public_key: key.public(),
            private_key: STANDARD.encode(wrapping.seal(&context, &bytes)?),
            made_at: Timestamp::now(),
        };
        if won(bucket.create(SEALING_KEY, &record).await)? {
            return Ok(key);
        }
    }
}
