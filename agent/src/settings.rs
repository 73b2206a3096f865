//! The agent's settings; `default.toml` documents each.

use std::{path::PathBuf, time::Duration};

use pinacle_bus::{
    service::ServiceSettings,
    settings::{AdminSettings, BUS_DEFAULTS, BusSettings, LOG_DEFAULTS, LogSettings, Secret, Settings},
};
use serde::{Deserialize, Serialize};

/// Everything that the agent reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentProgram {
    /// `[agent]`
    pub agent: AgentSettings,
    /// `[bus]`
    pub bus: BusSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[admin]`
    pub admin: AdminSettings,
}

/// `[agent]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented in default.toml, which people read")]
pub struct AgentSettings {
    pub interval_ms: u64,
    pub state_dir: PathBuf,
    pub gateway_url: String,
    pub gateway_ca_file: PathBuf,
    pub enrolment_token: Secret,
    pub spool_max_bytes: u64,
    pub docker_socket: PathBuf,
    pub disk_interval_seconds: u64,
    pub proc_dir: PathBuf,
    pub sys_dir: PathBuf,
    pub cgroup_dir: PathBuf,
    pub etc_dir: PathBuf,
    pub lima_env: PathBuf,
    pub hostname: String,
    pub ssh_address: String,
    pub ssh_port: u16,
    pub ssh_user: String,
    pub ssh_keys_dir: PathBuf,
}

impl AgentSettings {
    /// How often to sample, as set.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

impl Settings for AgentProgram {
    const DEFAULTS: &'static [&'static str] = &[include_str!("../default.toml"), BUS_DEFAULTS, LOG_DEFAULTS];

    fn faults(&self) -> Vec<String> {
        let mut faults = [self.bus.faults(), self.admin.faults()].concat();
        let agent = &self.agent;
        if !(1_000..=60_000).contains(&agent.interval_ms) {
            faults.push("agent.interval_ms: must be from 1000 to 60000".into());
        }
        if agent.spool_max_bytes < 64 * 1024 {
            faults.push("agent.spool_max_bytes: must be at least 65536 (64 KiB)".into());
        }
        if agent.state_dir.as_os_str().is_empty() {
            faults.push("agent.state_dir: must name a directory".into());
        }
        if agent.disk_interval_seconds != 0 && agent.disk_interval_seconds < 10 {
            faults.push("agent.disk_interval_seconds: must be 0 or at least 10".into());
        }
        if agent.hostname.len() > 255 {
            faults.push("agent.hostname: has more than 255 characters".into());
        }
        faults
    }
}

impl ServiceSettings for AgentProgram {
    fn log(&self) -> &LogSettings {
        &self.log
    }

    fn admin(&self) -> &AdminSettings {
        &self.admin
    }

    fn bus(&self) -> &BusSettings {
        &self.bus
    }

    /// Credentials come from the gateway, where it is named.
    fn missing_secrets(&self) -> Vec<String> {
        if self.agent.gateway_url.is_empty() { self.bus.missing_secrets() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use pinacle_bus::settings::load;

    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let settings: AgentProgram = load(None, []).unwrap();
        assert_eq!(settings.agent.interval(), Duration::from_secs(5));
        assert!(settings.admin.listen.is_empty());
    }

    #[test]
    fn values_that_cannot_work_are_refused_all_at_once() {
        let given =
            [("INTERVAL_MS", "500"), ("SPOOL_MAX_BYTES", "1"), ("DISK_INTERVAL_SECONDS", "3"), ("NONSENSE", "x")];
        let given = given.map(|(key, value)| (format!("PINACLE__AGENT__{key}"), value.to_owned()));
        let error = load::<AgentProgram>(None, given).unwrap_err();
        assert_eq!(error.faults.len(), 4, "{error}");
    }
}
