//! What the gateway can be told. `default.toml` documents every key.

mod people;

use std::{net::SocketAddr, time::Duration};

use pinacle_bus::{
    service::ServiceSettings,
    settings::{
        AdminSettings, BUS_DEFAULTS, BusSettings, DATABASE_DEFAULTS, DatabaseSettings, LOG_DEFAULTS, LogSettings,
        Secret, Settings,
    },
};
use serde::{Deserialize, Serialize};

pub use people::SignUp;

use crate::proxies::TrustedProxies;
use crate::vault::MasterKeys;

/// `[gateway]` and `[admin]` with their documentation.
pub const GATEWAY_DEFAULTS: &str = include_str!("../default.toml");

/// What the gateway takes for its admin token in the development mode, if none is set.
pub const DEVELOPMENT_TOKEN: &str = "pinacle-development-token-not-secret";

/// What the gateway takes for its master key in the development mode, if none is set.
pub const DEVELOPMENT_MASTER_KEY: &str = "70696e61636c6520646576656c6f706d656e74206b65792c206e6f2073656372";

const SHORTEST_TOKEN: usize = 32;

/// The sections that the gateway reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "one field a section, documented where the section is")]
pub struct GatewaySettings {
    pub bus: BusSettings,
    pub log: LogSettings,
    pub admin: AdminSettings,
    pub database: DatabaseSettings,
    pub gateway: Gateway,
}

/// `[gateway]`: see `default.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented in default.toml, which people read")]
pub struct Gateway {
    pub listen: String,
    pub admin_token: Secret,
    pub tls_certificate_file: String,
    pub tls_key_file: String,
    pub tls_ca_file: String,
    pub authority: Secret,
    pub agent_bus_url: String,
    pub agent_bus_ca_file: String,
    pub host_grant_seconds: u64,
    pub agent_dir: String,
    pub master_key: Secret,
    pub public_url: String,
    pub sign_up: SignUp,
    pub admin_emails: String,
    pub session_idle_ms: u64,
    pub session_max_ms: u64,
    pub invite_link_ms: u64,
    pub reset_link_ms: u64,
    pub smtp_url: Secret,
    pub mail_from: String,
    pub oidc_issuer: String,
    pub oidc_name: String,
    pub oidc_client_id: String,
    pub oidc_client_secret: Secret,
    pub github_client_id: String,
    pub github_client_secret: Secret,
    pub github_url: String,
    pub github_api_url: String,
    pub allowed_origins: String,
    pub trusted_proxies: String,
    pub api_requests_per_second: u32,
    pub max_connections: usize,
    pub max_requests: usize,
    pub request_timeout_ms: u64,
    pub body_limit_bytes: usize,
    pub max_headers: usize,
    pub command_timeout_ms: u64,
    pub live_max_clients: usize,
    pub live_max_subscriptions: usize,
    pub live_message_bytes: usize,
    pub live_ping_ms: u64,
    pub live_write_timeout_ms: u64,
    pub live_recheck_ms: u64,
    pub live_push_interval_ms: u64,
    pub live_recent_events: usize,
    pub quota_pods: u64,
    pub quota_cpu_millis: u64,
    pub quota_memory_bytes: u64,
    pub quota_disk_bytes: u64,
}

impl Gateway {
    /// The longest time for a request.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// How long an agent may take to answer.
    pub fn command_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms)
    }

    /// What the types cannot say.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |key: &str, holds: bool, rule: &str| {
            if !holds {
                faults.push(format!("gateway.{key}: {rule}"));
            }
        };
        check(
            "listen",
            self.listen.parse::<SocketAddr>().is_ok(),
            "must be an address and a port, such as 127.0.0.1:8080",
        );
        let token = self.admin_token.expose();
        check(
            "admin_token",
            token.is_empty() || (token.len() >= SHORTEST_TOKEN && token.bytes().all(is_token_byte)),
            "must have at least 32 characters, of a-z, A-Z, 0-9, -, _, . and ~",
        );
        if !self.master_key.is_empty() {
            let fault = self.master_key.exposure().or_else(|| MasterKeys::parse(&self.master_key).err());
            check("master_key", fault.is_none(), fault.as_deref().unwrap_or_default());
        }
        let tls = (self.tls_certificate_file.is_empty(), self.tls_key_file.is_empty());
        check("tls_key_file", tls.0 == tls.1, "goes together with gateway.tls_certificate_file");
        check("host_grant_seconds", (5..=2_592_000).contains(&self.host_grant_seconds), "must be from 5 to 2592000");
        for origin in self.origins() {
            check(
                "allowed_origins",
                origin.starts_with("http://") || origin.starts_with("https://"),
                "must be origins such as https://console.example.org, separated by commas",
            );
        }
        check(
            "trusted_proxies",
            TrustedProxies::parse(&self.trusted_proxies).is_ok(),
            "must be addresses or networks such as 10.0.0.0/8, separated by commas",
        );
        check("api_requests_per_second", self.api_requests_per_second <= 1_000_000, "must be at most 1000000");
        check("max_connections", (1..=1_000_000).contains(&self.max_connections), "must be from 1 to 1000000");
        check("max_requests", (1..=100_000).contains(&self.max_requests), "must be from 1 to 100000");
        check("request_timeout_ms", (100..=600_000).contains(&self.request_timeout_ms), "must be from 100 to 600000");
        check(
            "body_limit_bytes",
            (1024..=16 * 1024 * 1024).contains(&self.body_limit_bytes),
            "must be from 1024 to 16777216",
        );
        check("max_headers", (8..=100).contains(&self.max_headers), "must be from 8 to 100");
        check(
            "command_timeout_ms",
            self.command_timeout_ms >= 100 && self.command_timeout_ms < self.request_timeout_ms,
            "must be at least 100 and less than gateway.request_timeout_ms",
        );
        check("live_max_clients", self.live_max_clients <= 1_000_000, "must be at most 1000000");
        check("live_max_subscriptions", (1..=1024).contains(&self.live_max_subscriptions), "must be from 1 to 1024");
        check("live_message_bytes", (256..=65_536).contains(&self.live_message_bytes), "must be from 256 to 65536");
        check("live_ping_ms", (100..=300_000).contains(&self.live_ping_ms), "must be from 100 to 300000");
        check(
            "live_write_timeout_ms",
            (100..=300_000).contains(&self.live_write_timeout_ms),
            "must be from 100 to 300000",
        );
        check("live_recheck_ms", (100..=300_000).contains(&self.live_recheck_ms), "must be from 100 to 300000");
        check("live_push_interval_ms", self.live_push_interval_ms <= 10_000, "must be at most 10000");
        check("live_recent_events", (16..=1_000_000).contains(&self.live_recent_events), "must be from 16 to 1000000");
        faults.extend(people::faults(self));
        faults
    }

    /// The origins besides our own whose pages may open the WebSocket.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.allowed_origins.split(',').map(str::trim).filter(|origin| !origin.is_empty())
    }
}

/// What may stand in a header and in a WebSocket subprotocol alike.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

impl Settings for GatewaySettings {
    const DEFAULTS: &'static [&'static str] = &[BUS_DEFAULTS, DATABASE_DEFAULTS, LOG_DEFAULTS, GATEWAY_DEFAULTS];

    fn faults(&self) -> Vec<String> {
        [self.bus.faults(), self.database.faults(), self.admin.faults(), self.gateway.faults()].concat()
    }
}

impl ServiceSettings for GatewaySettings {
    fn log(&self) -> &LogSettings {
        &self.log
    }

    fn admin(&self) -> &AdminSettings {
        &self.admin
    }

    fn bus(&self) -> &BusSettings {
        &self.bus
    }

    fn missing_secrets(&self) -> Vec<String> {
        let mut missing = self.bus.missing_secrets();
        let gateway = &self.gateway;
        let open = gateway.listen.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
        if open && gateway.tls_certificate_file.is_empty() && gateway.trusted_proxies.is_empty() {
            missing.push(
                "gateway.listen: others can reach this address, and what they send would be read on the way: give \
                 gateway.tls_certificate_file, or name the proxy in front in gateway.trusted_proxies, or start in the \
                 development mode with --dev"
                    .into(),
            );
        }
        if self.gateway.admin_token.is_empty() {
            missing.push(
                "gateway.admin_token: there is none; give one of at least 32 characters, best as file:/path, or start \
                 in the development mode with --dev"
                    .into(),
            );
        }
        if self.gateway.master_key.is_empty() {
            missing.push(
                "gateway.master_key: there is none; give 64 hexadecimal digits (openssl rand -hex 32), best as file:/path, \
                 or start in the development mode with --dev"
                    .into(),
            );
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use pinacle_bus::settings::{load, print};

    use super::*;

    fn load_with(pairs: &[(&str, &str)]) -> Result<GatewaySettings, Vec<String>> {
        let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(None, environment).map_err(|error| error.faults)
    }

    #[test]
    fn defaults_are_valid_and_document_every_key() {
        let settings = load_with(&[]).unwrap();
        let printed = print(&settings).unwrap();
        let own = &printed[printed.find("[admin]").unwrap()..];
        for line in own.lines().filter(|line| line.contains(" = ")) {
            let key = line.split(' ').next().unwrap();
            let Some(place) = GATEWAY_DEFAULTS.find(&format!("\n{key} = ")) else {
                // Of a section that several services share, whose own test looks after it.
                assert!(["url", "max_connections", "statement_timeout_ms"].contains(&key), "{key} is not documented");
                continue;
            };
            assert!(GATEWAY_DEFAULTS[..place].lines().next_back().unwrap().starts_with('#'), "{key} has no comment");
        }
    }

    #[test]
    fn a_token_is_demanded_long_and_never_printed() {
        let settings = load_with(&[]).unwrap();
        assert!(settings.missing_secrets().iter().any(|fault| fault.starts_with("gateway.admin_token")));
        let short = load_with(&[("PINACLE__GATEWAY__ADMIN_TOKEN", "short")]).unwrap_err();
        assert_eq!(short.len(), 1, "{short:?}");
        assert!(!short[0].contains("short"), "{short:?}");
        let token = "0123456789abcdef0123456789abcdef";
        let settings = load_with(&[("PINACLE__GATEWAY__ADMIN_TOKEN", token)]).unwrap();
        assert!(!format!("{settings:?}{}", print(&settings).unwrap()).contains(token));
    }

    #[test]
    fn contradictions_are_refused_all_at_once() {
        let faults = load_with(&[
            ("PINACLE__GATEWAY__COMMAND_TIMEOUT_MS", "30000"),
            ("PINACLE__GATEWAY__LISTEN", "nowhere"),
            ("PINACLE__GATEWAY__ALLOWED_ORIGINS", "example.org"),
        ])
        .unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
