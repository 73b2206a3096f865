//! Which hosts may connect to the bus: the grants for their keys, and the keys that are good for nothing any more. The
//! table `host_key` is the truth; the servers are told of it anew after each change and on a clock, so that what one copy
//! could not tell them another does.

use std::{fs, time::Duration};

use anyhow::Context as _;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use pinacle_bus::{
    client::Bus,
    contract::{HostId, Timestamp},
    service::{Context, OnFailure},
    settings::{BusSettings, Secret},
    trust::{Authority, account_jwt, host_jwt},
};
use pinacle_store::Database;
use rand::RngExt;
use tokio::{sync::Notify, time::timeout};
use tracing::{info, warn};

use crate::{
    problem::{Code, Problem},
    settings::Gateway,
};

/// The servers are told of all revoked keys so often, whatever happens.
const EVERY: Duration = Duration::from_secs(60);
/// After an attempt that failed.
const PAUSE: Duration = Duration::from_secs(2);
const PUSHED_WITHIN: Duration = Duration::from_secs(5);
/// How long a challenge may be answered.
const CHALLENGE: Duration = Duration::from_secs(60);
/// Stands before what is signed here, so that no such signature is good for anything else.
const CHALLENGE_TEXT: &str = "pinacle-challenge-v1";

/// Admits and revokes hosts.
pub struct Trust {
    authority: Authority,
    system: Bus,
    database: Database,
    bus_url: String,
    bus_ca: Option<String>,
    lifetime: Duration,
    told: Notify,
}

/// What a host is given to connect with.
#[derive(Debug, Clone)]
pub struct HostGrant {
    /// Claims for its key.
    pub jwt: String,
    /// When they end.
    pub expires_at: DateTime<Utc>,
}

impl Trust {
    /// Connects with what `gateway.authority` says; `None` when that is empty.
    ///
    /// # Errors
    /// When the settings cannot be used. That the bus is away is none.
    pub async fn start(
        context: &Context,
        gateway: &Gateway,
        bus: &BusSettings,
        database: &Database,
    ) -> anyhow::Result<Option<std::sync::Arc<Self>>> {
        if gateway.authority.is_empty() {
            return Ok(None);
        }
        let authority = Authority::parse(gateway.authority.expose()).context("read gateway.authority")?;
        let credentials = Secret::new(authority.system_user.to_text().context("read gateway.authority")?);
        let system = Bus::connect(&BusSettings { credentials, ..bus.clone() }, "gateway authority").await?;
        let ca_file = if gateway.agent_bus_ca_file.is_empty() { &bus.ca_file } else { &gateway.agent_bus_ca_file };
        let bus_ca = match ca_file.as_str() {
            "" => None,
            path => Some(fs::read_to_string(path).with_context(|| format!("read {path}"))?),
        };
        let bus_url = if gateway.agent_bus_url.is_empty() { &bus.url } else { &gateway.agent_bus_url };
        let trust = std::sync::Arc::new(Self {
            authority,
            system,
            database: database.clone(),
            bus_url: bus_url.clone(),
            bus_ca,
            lifetime: Duration::from_secs(gateway.host_grant_seconds),
            told: Notify::new(),
        });
        let (keep, stop) = (trust.clone(), context.shutdown.clone());
        context.supervisor.spawn("revoked keys", OnFailure::Restart, move || {
            let (keep, stop) = (keep.clone(), stop.clone());
            async move { stop.run_until_cancelled(keep.keep_told()).await.unwrap_or(Ok(())) }
        });
        Ok(Some(trust))
    }

    /// Where agents reach the bus.
    pub fn bus_url(&self) -> &str {
        &self.bus_url
    }

    /// The certificate authority of the bus, as PEM; `None` = one that every system knows.
    pub fn bus_ca(&self) -> Option<&str> {
        self.bus_ca.as_deref()
    }

    /// When a grant that is made now will end.
    pub fn end(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        // In whole seconds, as claims have it.
        let end = now + self.lifetime;
        DateTime::from_timestamp(end.timestamp(), 0).unwrap_or(end)
    }

    /// A grant for a host's key.
    ///
    /// # Errors
    /// When it is no user's public key.
    pub fn grant(&self, host: HostId, public_key: &str, expires_at: DateTime<Utc>) -> Result<HostGrant, Problem> {
        let account = &self.authority.account.account;
        let jwt = host_jwt(&self.authority.hosts, account, host, public_key, Timestamp::from(expires_at))
            .map_err(|error| Problem::field(Code::InvalidBody, "public_key", error.to_string()))?;
        Ok(HostGrant { jwt, expires_at })
    }

    /// Tells the servers at once which keys are revoked: they end the connections of those.
    ///
    /// # Errors
    /// When the bus or the database does not answer; the servers are then told as soon as they do.
    pub async fn tell(&self) -> Result<(), Problem> {
        let told = self.push().await;
        if let Err(error) = told {
            self.told.notify_one();
            return Err(Problem::internal(Code::BusUnavailable, "tell the bus which keys are revoked", error.as_ref()));
        }
        Ok(())
    }

    async fn push(&self) -> anyhow::Result<()> {
        // One copy after the other, so that no list overtakes a newer one.
        self.database
            .host_keys_revoked(Utc::now(), async |revoked| {
                let revoked: Vec<(String, Timestamp)> =
                    revoked.into_iter().map(|(key, at)| (key, Timestamp::from(at))).collect();
                let jwt = account_jwt(&self.authority.operator, &self.authority.account, &revoked)?;
                timeout(PUSHED_WITHIN, self.system.push_account_jwt(&jwt))
                    .await
                    .context("the bus does not answer")??;
                anyhow::Ok(())
            })
            .await?
    }

    async fn keep_told(&self) -> anyhow::Result<()> {
        let mut failed = false;
        loop {
            match self.push().await {
                Ok(()) if failed => {
                    info!("the bus knows again which hosts' keys are revoked");
                    failed = false;
                }
                Ok(()) => {}
                Err(error) => {
                    if !failed {
                        warn!("the bus could not be told which hosts' keys are revoked; trying again: {error:#}");
                    }
                    failed = true;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            // Whether it was asked for or the time is up is the same.
            let _ = timeout(EVERY, self.told.notified()).await;
        }
    }

    /// A text that a host's key is to sign within a minute. It needs no memory: every copy of the gateway knows it again.
    ///
    /// # Errors
    /// When the key of the installation cannot sign.
    pub fn challenge(&self, public_key: &str) -> Result<String, Problem> {
        let random: [u8; 16] = rand::rng().random();
        let text = format!("{}.{}", Utc::now().timestamp_millis(), URL_SAFE_NO_PAD.encode(random));
        let signature = self
            .authority
            .hosts
            .sign(challenge_text(&text, public_key).as_bytes())
            .map_err(|error| Problem::internal(Code::Internal, "sign a challenge", &error))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whether a challenge is ours, for this key, and not too old.
    pub fn is_ours(&self, challenge: &str, public_key: &str) -> bool {
        let Some((text, signature)) = challenge.rsplit_once('.') else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        if self.authority.hosts.verify(challenge_text(text, public_key).as_bytes(), &signature).is_err() {
            return false;
        }
        let made = text.split('.').next().and_then(|millis| millis.parse::<i64>().ok()).unwrap_or(0);
        let age = Utc::now().timestamp_millis() - made;
        u128::try_from(age).is_ok_and(|age| age <= CHALLENGE.as_millis())
    }
}

fn challenge_text(text: &str, public_key: &str) -> String {
    format!("{CHALLENGE_TEXT}\n{text}\n{public_key}")
}
