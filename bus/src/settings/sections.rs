//! The sections that several services have.

use serde::{Deserialize, Serialize};

use super::Secret;
use crate::trust::{Credentials, TrustError};

/// `[bus]` with its documentation.
pub const BUS_DEFAULTS: &str = include_str!("bus.toml");
/// `[log]` with its documentation.
pub const LOG_DEFAULTS: &str = include_str!("log.toml");
/// `[database]` with its documentation.
pub const DATABASE_DEFAULTS: &str = include_str!("database.toml");

/// `[bus]`: where NATS is; see `bus.toml` for each key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented in bus.toml, which people read")]
pub struct BusSettings {
    pub url: String,
    pub credentials: Secret,
    pub ca_file: String,
    pub replicas: usize,
    pub storage_bytes: u64,
    pub publish_timeout_ms: u64,
    pub reconnect_max_ms: u64,
}

impl BusSettings {
    /// Who connects; `None` = nobody in particular.
    ///
    /// # Errors
    /// When the credentials cannot be read.
    pub fn user(&self) -> Result<Option<Credentials>, TrustError> {
        if self.credentials.is_empty() { Ok(None) } else { Credentials::parse(self.credentials.expose()).map(Some) }
    }

    /// What it takes beyond the development mode, and is not there.
    pub fn missing_secrets(&self) -> Vec<String> {
        if self.credentials.is_empty() {
            vec!["bus.credentials: there are none; give some, or start in the development mode with --dev".into()]
        } else {
            Vec::new()
        }
    }

    /// What the types cannot say.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.url.is_empty() {
            faults.push("bus.url: must name at least one server, such as nats://127.0.0.1:4222".into());
        }
        if let Err(error) = self.user() {
            faults.push(format!("bus.credentials: {error}"));
        }
        if ![1, 3, 5].contains(&self.replicas) {
            faults.push(format!("bus.replicas: is {}, must be 1, 3 or 5", self.replicas));
        }
        if self.storage_bytes < 64 * 1024 * 1024 {
            faults.push("bus.storage_bytes: must be at least 67108864 (64 MiB)".into());
        }
        if !(100..=60_000).contains(&self.publish_timeout_ms) {
            faults.push("bus.publish_timeout_ms: must be from 100 to 60000".into());
        }
        if !(100..=60_000).contains(&self.reconnect_max_ms) {
            faults.push("bus.reconnect_max_ms: must be from 100 to 60000".into());
        }
        faults
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// `[log]`: see `log.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented in log.toml, which people read")]
pub struct LogSettings {
    pub format: LogFormat,
    pub filter: String,
}

/// `[admin]`: the service's own HTTP server for `/healthz`, `/readyz` and `/metrics`. Each service's `default.toml`
/// has its own default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Address and port, such as `127.0.0.1:9101`; empty = none.
    pub listen: String,
    /// How long a stop may take before what is left is cut off.
    pub drain_ms: u64,
}

impl AdminSettings {
    /// What the types cannot say.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.listen.is_empty() && self.listen.parse::<std::net::SocketAddr>().is_err() {
            faults
                .push(format!("admin.listen: {:?} is not an address and a port, such as 127.0.0.1:9101", self.listen));
        }
        if !(100..=300_000).contains(&self.drain_ms) {
            faults.push("admin.drain_ms: must be from 100 to 300000".into());
        }
        faults
    }
}

/// `[database]`: see `database.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented in database.toml, which people read")]
pub struct DatabaseSettings {
    pub url: Secret,
    pub max_connections: u32,
    pub statement_timeout_ms: u64,
}

impl DatabaseSettings {
    /// What the types cannot say.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !["postgres://", "postgresql://"].iter().any(|scheme| self.url.expose().starts_with(scheme)) {
            faults.push("database.url: must begin with postgres://".into());
        }
        if !(1..=1000).contains(&self.max_connections) {
            faults.push("database.max_connections: must be from 1 to 1000".into());
        }
        if !(100..=3_600_000).contains(&self.statement_timeout_ms) {
            faults.push("database.statement_timeout_ms: must be from 100 to 3600000".into());
        }
        faults
    }
}
