//! What the orchestrator can be told. `default.toml` documents every key.

use std::{path::PathBuf, time::Duration};

use pinacle_bus::{
    crypto::Key,
    service::ServiceSettings,
    settings::{AdminSettings, BUS_DEFAULTS, BusSettings, LOG_DEFAULTS, LogSettings, Secret, Settings},
};
use serde::{Deserialize, Serialize};

use crate::liveness::{HEARTBEAT_INTERVAL, Patience};

/// `[orchestrator]` and `[admin]` with their documentation.
pub const ORCHESTRATOR_DEFAULTS: &str = include_str!("../default.toml");

/// What the orchestrator takes for its key in the development mode, if none is set.
pub const DEVELOPMENT_KEY: &str = "70696e61636c6520646576656c6f706d656e74206b65792c206e6f2073656372";

/// An agent that has found the bus again needs a moment before its first heartbeat is here.
const AFTER_RECONNECT: Duration = Duration::from_secs(1);

/// The sections that the orchestrator reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "one field a section, documented where the section is")]
pub struct OrchestratorSettings {
    pub bus: BusSettings,
    pub log: LogSettings,
    pub admin: AdminSettings,
    pub orchestrator: Orchestrator,
}

/// `[orchestrator]`: see `default.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented in default.toml, which people read")]
pub struct Orchestrator {
    pub degraded_after_ms: u64,
    pub offline_after_ms: u64,
    pub closed_settle_ms: u64,
    pub reconnect_grace_ms: u64,
    pub changes_at_once: usize,
    pub inventories_at_once: usize,
    pub key: Secret,
    pub ssh_key: Secret,
    pub ssh_user: String,
    pub ssh_channels: usize,
    pub ssh_connect_ms: u64,
    pub ssh_idle_ms: u64,
    pub limactl: String,
    pub base_image: String,
    pub base_image_archive: PathBuf,
    pub allow_runc: bool,
    pub blocked_networks: Vec<String>,
    pub placement: Placement,
    pub cpu_overcommit: f64,
    pub memory_overcommit: f64,
    pub disk_overcommit: f64,
    pub memory_reserve_bytes: u64,
    pub operations_at_once: usize,
    pub operations_per_host: usize,
    pub lease_ms: u64,
    pub create_deadline_ms: u64,
    pub operation_deadline_ms: u64,
    pub restart_tries: u32,
    pub restart_backoff_ms: u64,
    pub restart_backoff_max_ms: u64,
    pub restart_settled_ms: u64,
    pub reconcile_ms: u64,
    pub orphan_grace_ms: u64,
    pub deleted_kept_ms: u64,
    pub crash_at: String,
}

/// Which of the hosts with room is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The one with the most room.
    Spread,
    /// The one with the least that suffices.
    Pack,
}

impl Orchestrator {
    /// How long a host may be silent before that means something.
    pub fn patience(&self) -> Patience {
        Patience {
            degraded_after: Duration::from_millis(self.degraded_after_ms),
            offline_after: Duration::from_millis(self.offline_after_ms),
            closed_settle: Duration::from_millis(self.closed_settle_ms),
            reconnect_grace: Duration::from_millis(self.reconnect_grace_ms),
        }
    }
}

impl Settings for OrchestratorSettings {
    const DEFAULTS: &'static [&'static str] = &[BUS_DEFAULTS, LOG_DEFAULTS, ORCHESTRATOR_DEFAULTS];

    fn faults(&self) -> Vec<String> {
        let mut faults = [self.bus.faults(), self.admin.faults()].concat();
        let own = &self.orchestrator;
        let interval = u64::try_from(HEARTBEAT_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        if !own.key.is_empty() {
            let fault = own.key.exposure().or_else(|| {
                Key::from_hex(own.key.expose()).is_none().then(|| "must be 64 hexadecimal digits".to_owned())
            });
            faults.extend(fault.map(|fault| format!("orchestrator.key: {fault}")));
        }
        if own.degraded_after_ms < interval + 500 {
            faults.push(format!("orchestrator.degraded_after_ms: must be at least {}", interval + 500));
        }
        if own.offline_after_ms > 14_000 {
            faults.push("orchestrator.offline_after_ms: must be at most 14000".into());
        }
        if own.offline_after_ms < own.degraded_after_ms + 1000 {
            faults.push(
                "orchestrator.offline_after_ms: must be at least 1000 more than orchestrator.degraded_after_ms".into(),
            );
        }
        if own.closed_settle_ms > 5000 {
            faults.push("orchestrator.closed_settle_ms: must be at most 5000".into());
        }
        let least =
            self.bus.reconnect_max_ms + interval + u64::try_from(AFTER_RECONNECT.as_millis()).unwrap_or(u64::MAX);
        if own.reconnect_grace_ms < least || own.reconnect_grace_ms > 300_000 {
            faults.push(format!(
                "orchestrator.reconnect_grace_ms: must be from {least} (bus.reconnect_max_ms, a heartbeat's interval and a second) to 300000"
            ));
        }
        for (key, value) in [
            ("changes_at_once", own.changes_at_once),
            ("inventories_at_once", own.inventories_at_once),
            ("ssh_channels", own.ssh_channels),
            ("operations_at_once", own.operations_at_once),
            ("operations_per_host", own.operations_per_host),
        ] {
            if !(1..=1024).contains(&value) {
                faults.push(format!("orchestrator.{key}: must be from 1 to 1024"));
            }
        }
        for (key, value, least, most) in [
            ("ssh_connect_ms", own.ssh_connect_ms, 100, 60_000),
            ("ssh_idle_ms", own.ssh_idle_ms, 1000, 86_400_000),
            // A lease must outlive a renewal, and the bucket forgets leases after 30 s.
            ("lease_ms", own.lease_ms, 500, 20_000),
            ("create_deadline_ms", own.create_deadline_ms, 1000, 86_400_000),
            ("operation_deadline_ms", own.operation_deadline_ms, 1000, 86_400_000),
            ("restart_backoff_ms", own.restart_backoff_ms, 10, 3_600_000),
            ("restart_backoff_max_ms", own.restart_backoff_max_ms, own.restart_backoff_ms, 3_600_000),
            ("reconcile_ms", own.reconcile_ms, 100, 3_600_000),
        ] {
            if !(least..=most).contains(&value) {
                faults.push(format!("orchestrator.{key}: must be from {least} to {most}"));
            }
        }
        for (key, value) in [
            ("cpu_overcommit", own.cpu_overcommit),
            ("memory_overcommit", own.memory_overcommit),
            ("disk_overcommit", own.disk_overcommit),
        ] {
            if !(0.1..=100.0).contains(&value) {
                faults.push(format!("orchestrator.{key}: must be from 0.1 to 100"));
            }
        }
        faults
    }
}

impl ServiceSettings for OrchestratorSettings {
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
        if self.orchestrator.key.is_empty() {
            missing.push(
                "orchestrator.key: there is none; give 64 hexadecimal digits (openssl rand -hex 32), best as file:/path, \
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

    fn with(pairs: &[(&str, &str)]) -> Result<OrchestratorSettings, Vec<String>> {
        let environment = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        load(None, environment).map_err(|error| error.faults)
    }

    #[test]
    fn defaults_alone_are_valid_and_name_every_field() {
        let settings = with(&[]).unwrap();
        let printed: toml::Table = print(&settings).unwrap().parse().unwrap();
        let documented: toml::Table = OrchestratorSettings::DEFAULTS.concat().parse().unwrap();
        let keys = |table: &toml::Table| -> std::collections::BTreeSet<String> {
            table
                .iter()
                .flat_map(|(name, keys)| keys.as_table().unwrap().keys().map(move |key| format!("{name}.{key}")))
                .collect()
        };
        assert_eq!(keys(&printed), keys(&documented));
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused_all_at_once() {
        let faults = with(&[
            ("PINACLE__ORCHESTRATOR__DEGRADED_AFTER_MS", "14500"),
            ("PINACLE__ORCHESTRATOR__OFFLINE_AFTER_MS", "14001"),
            ("PINACLE__ORCHESTRATOR__RECONNECT_GRACE_MS", "8999"),
            ("PINACLE__ORCHESTRATOR__CHANGES_AT_ONCE", "0"),
        ])
        .unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
