//! How a machine becomes a host and stays one: it makes a key, which never leaves it, exchanges a token for a grant for
//! that key, and renews the grant before it ends. All of it lies in one file of the state directory.

mod keep;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pinacle_bus::{
    contract::{HostId, Timestamp, enrolment::renewal_text},
    settings::{BusSettings, Secret},
    trust::{Credentials, nkeys::KeyPair},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    gateway::{AskError, Gateway, Refusal},
    identity::write_whole,
    inventory,
    settings::AgentSettings,
};

pub use keep::{Keeper, RotateNow};

const FILE: &str = "enrolment.json";
const CA_FILE: &str = "bus-ca.pem";
/// Between attempts to join while the gateway is away, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the file holds. It is a secret.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Of the key.
    seed: String,
    /// Digest of the token that was exchanged, so that another one is noticed.
    token_sha256: String,
    /// `None` until the gateway has answered.
    grant: Option<Grant>,
    /// Of a key that is to take the first one's place, from before the gateway is asked until it has answered.
    fresh_seed: Option<String>,
}

/// The gateway's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Grant {
    host_id: HostId,
    jwt: String,
    expires_at: Timestamp,
    bus_url: String,
    bus_ca: Option<String>,
    /// When the answer came, by this machine's clock.
    #[serde(default = "Timestamp::now")]
    received_at: Timestamp,
}

#[derive(Deserialize)]
struct Challenge {
    challenge: String,
}

/// This machine as a host that joined by a token.
pub struct Membership {
    gateway: Gateway,
    path: PathBuf,
    stored: Stored,
    grant: Grant,
}

/// Joins, if the settings say so and it has not been done, and gives `bus` what it takes to connect. `None` when the
/// settings have credentials, or nothing to join by.
///
/// # Errors
/// When the state directory cannot be used, the settings are wrong, or the gateway refuses the token. While the gateway is
/// away this waits.
pub async fn join(settings: &AgentSettings, bus: &mut BusSettings) -> anyhow::Result<Option<Membership>> {
    let path = settings.state_dir.join(FILE);
    if !bus.credentials.is_empty() {
        return Ok(None);
    }
    let known = read(&path)?;
    if settings.gateway_url.is_empty() {
        anyhow::ensure!(known.is_none(), "{} is there, but agent.gateway_url is not set", path.display());
        return Ok(None);
    }
    let gateway = Gateway::new(&settings.gateway_url, &settings.gateway_ca_file).context("read agent.gateway_url")?;
    let token = settings.enrolment_token.expose();
    let digest = hexadecimal(token.as_bytes());
    let stored = match known {
        Some(known) if token.is_empty() || known.token_sha256 == digest => known,
        _ if token.is_empty() => {
            anyhow::bail!("this machine has not joined yet: agent.enrolment_token is not set");
        }
        // The seed is written down first: when the answer is lost, the same key comes with the same token again.
        _ => {
            let seed = KeyPair::new_user().seed().context("make a key")?;
            let fresh = Stored { seed, token_sha256: digest, grant: None, fresh_seed: None };
            write(&path, &fresh)?;
            fresh
        }
    };
    let grant = match &stored.grant {
        Some(grant) => grant.clone(),
        None => exchange(settings, &gateway, &stored).await?,
    };
    let mut membership = Membership { gateway, path, stored, grant };
    membership.save()?;
    bus.credentials = Secret::new(membership.credentials()?.to_text().context("write credentials")?);
    bus.url.clone_from(&membership.grant.bus_url);
    if let Some(ca) = &membership.grant.bus_ca {
        let file = settings.state_dir.join(CA_FILE);
        write_whole(&file, ca.as_bytes()).with_context(|| format!("write {}", file.display()))?;
        bus.ca_file = file.display().to_string();
    }
    Ok(Some(membership))
}

/// Exchanges the token; waits while the gateway is away.
async fn exchange(settings: &AgentSettings, gateway: &Gateway, stored: &Stored) -> anyhow::Result<Grant> {
    let key = KeyPair::from_seed(&stored.seed).context("read the key of the state directory")?;
    let body = json!({
        "token": settings.enrolment_token.expose(),
        "public_key": key.public_key(),
        "machine_id": machine_id(settings),
        "hostname": inventory::hostname(settings),
        "ssh_host_keys": inventory::host_keys(settings),
    });
    let mut pause = FIRST_PAUSE;
    loop {
        match gateway.post::<Grant>("/enrol", &body).await {
            Ok(grant) => {
                info!(host = %grant.host_id, "this machine has joined");
                return Ok(grant);
            }
            Err(AskError::Refused(refusal)) if is_final(&refusal) => {
                return Err(anyhow::Error::new(refusal).context("the gateway does not let this machine join"));
            }
            Err(error) => warn!("cannot join yet, trying again in {} s: {error}", pause.as_secs()),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether asking again cannot help.
fn is_final(refusal: &Refusal) -> bool {
    matches!(refusal.status, 400 | 401 | 403 | 404 | 422)
}

impl Membership {
    /// The host that this machine is.
    pub fn host_id(&self) -> HostId {
        self.grant.host_id
    }

    /// What it takes to connect.
    fn credentials(&self) -> anyhow::Result<Credentials> {
        let key = KeyPair::from_seed(&self.stored.seed).context("read the key of the state directory")?;
        Credentials::new(&self.grant.jwt, key).context("read the grant of the state directory")
    }

    fn save(&mut self) -> anyhow::Result<()> {
        self.stored.grant = Some(self.grant.clone());
        write(&self.path, &self.stored)
    }

    /// When to ask for another grant: when two thirds of this one have passed.
    fn renew_at(&self) -> Timestamp {
        let (from, until) = (self.grant.received_at.as_millis(), self.grant.expires_at.as_millis());
        self.grant.received_at.plus(Duration::from_millis(until.saturating_sub(from).unsigned_abs() / 3 * 2))
    }

    /// Gets another grant, for the key or, if one is on its way, for the fresh one.
    async fn renew(&mut self) -> Result<(), AskError> {
        let renewed = self.ask(&self.stored.seed, self.stored.fresh_seed.as_deref()).await;
        let grant = match (renewed, self.stored.fresh_seed.clone()) {
            (Ok(grant), None) => grant,
            (Ok(grant), Some(fresh)) => {
                (self.stored.seed, self.stored.fresh_seed) = (fresh, None);
                grant
            }
            // The answer to an earlier question may have been lost: then the fresh key has taken the place already.
            (Err(AskError::Refused(refusal)), Some(fresh)) if refusal.status == 401 => {
                let grant = self.ask(&fresh, None).await?;
                (self.stored.seed, self.stored.fresh_seed) = (fresh, None);
                grant
            }
            (Err(error), _) => return Err(error),
        };
        self.grant = grant;
        Ok(self.save()?)
    }

    async fn ask(&self, seed: &str, fresh_seed: Option<&str>) -> Result<Grant, AskError> {
        let pair = |seed: &str| KeyPair::from_seed(seed).context("read the key of the state directory");
        let key = pair(seed)?;
        let fresh = fresh_seed.map(pair).transpose()?;
        let public_key = key.public_key();
        let Challenge { challenge } =
            self.gateway.post("/enrol/challenge", &json!({ "public_key": public_key })).await?;
        let fresh_key = fresh.as_ref().map(KeyPair::public_key);
        let text = renewal_text(&challenge, fresh_key.as_deref());
        let sign = |key: &KeyPair| -> anyhow::Result<String> {
            Ok(URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).context("sign")?))
        };
        let body = json!({
            "public_key": public_key,
            "challenge": challenge,
            "signature": sign(&key)?,
            "fresh_key": fresh_key,
            "fresh_signature": fresh.as_ref().map(sign).transpose()?,
        });
        self.gateway.post("/enrol/renewal", &body).await
    }
}

/// What tells this machine from others, without being its machine id, which is nobody else's business; empty = nothing
/// does.
fn machine_id(settings: &AgentSettings) -> String {
    let text = fs::read_to_string(settings.etc_dir.join("machine-id")).unwrap_or_default();
    let id = text.trim();
    if id.len() < 16 { String::new() } else { hexadecimal(format!("pinacle-machine\n{id}").as_bytes()) }
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> anyhow::Result<Option<Stored>> {
    match fs::read(path) {
        Ok(bytes) => {
            let stored = serde_json::from_slice(&bytes);
            let shown = path.display();
            stored.map(Some).with_context(|| format!("{shown} is damaged; restore it, or remove it and join again"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn write(path: &Path, stored: &Stored) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(stored).context("write the enrolment down")?;
    write_whole(path, &bytes).with_context(|| format!("write {}", path.display()))
}
