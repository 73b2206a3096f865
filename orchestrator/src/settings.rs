//! What the orchestrator can be told. `default.toml` documents every key.

use std::time::Duration;

use pinacle_bus::{
    service::ServiceSettings,
    settings::{AdminSettings, BUS_DEFAULTS, BusSettings, LOG_DEFAULTS, LogSettings, Settings},
};
use serde::{Deserialize, Serialize};

use crate::liveness::{HEARTBEAT_INTERVAL, Patience};

/// `[orchestrator]` and `[admin]` with their documentation.
pub const ORCHESTRATOR_DEFAULTS: &str = include_str!("../default.toml");

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
        for (key, value) in [("changes_at_once", own.changes_at_once), ("inventories_at_once", own.inventories_at_once)]
        {
            if !(1..=1024).contains(&value) {
                faults.push(format!("orchestrator.{key}: must be from 1 to 1024"));
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
