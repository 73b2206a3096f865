//! `[up]`: what `pinacle up` starts and where. The services' own sections are theirs to read.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use pinacle_bus::settings::{BUS_DEFAULTS, BusSettings, DATABASE_DEFAULTS, DatabaseSettings, Secret, Settings};
use serde::{Deserialize, Serialize};

use crate::{
    args::{Global, UpArgs},
    failure::Failure,
};

/// What `pinacle up` reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpSettings {
    pub up: UpSection,
    pub bus: BusSettings,
    pub database: DatabaseSettings,
}

/// `[up]`; see `default.toml` for each key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpSection {
    pub data_dir: PathBuf,
    pub listen: String,
    pub nats: String,
    pub nats_credentials: PathBuf,
    pub database: Secret,
    pub nats_port: u16,
    pub nats_names: String,
    pub nats_monitor_port: u16,
    pub postgres_port: u16,
    pub admin_port: u16,
    pub agent: bool,
    pub pods: bool,
    pub docker_socket: PathBuf,
    pub nats_server: PathBuf,
    pub postgres_bin: PathBuf,
    pub min_free_mib: u64,
}

impl Settings for UpSettings {
    const DEFAULTS: &'static [&'static str] = &[include_str!("default.toml"), BUS_DEFAULTS, DATABASE_DEFAULTS];

    fn faults(&self) -> Vec<String> {
        let mut faults = [self.bus.faults(), self.database.faults()].concat();
        if self.up.listen.parse::<SocketAddr>().is_err() {
            faults
                .push(format!("up.listen: {:?} is not an address and a port, such as 127.0.0.1:8080", self.up.listen));
        }
        if self.up.nats_port == 0 {
            faults.push("up.nats_port: must be from 1 to 65535".into());
        }
        if self.up.admin_port > 65_532 {
            faults.push("up.admin_port: must be at most 65532, since four ports are used".into());
        }
        let database = self.up.database.expose();
        if !database.is_empty() && !["postgres://", "postgresql://"].iter().any(|scheme| database.starts_with(scheme)) {
            faults.push("up.database: must begin with postgres://".into());
        }
        if !self.up.nats.is_empty() && !["nats://", "tls://"].iter().any(|scheme| self.up.nats.starts_with(scheme)) {
            faults.push("up.nats: must begin with nats:// or tls://".into());
        }
        faults
    }
}

impl UpSettings {
    /// Defaults, file, environment, options; later ones win.
    pub fn read(args: &UpArgs, global: &Global) -> Result<Self, Failure> {
        let mut settings: Self = crate::local::settings(global)?;
        let up = &mut settings.up;
        if let Some(url) = &args.nats {
            up.nats.clone_from(url);
        }
        if let Some(url) = &args.database {
            up.database = Secret::new(url);
        }
        if let Some(listen) = &args.listen {
            up.listen.clone_from(listen);
        }
        up.nats_port = args.nats_port.unwrap_or(up.nats_port);
        up.postgres_port = args.postgres_port.unwrap_or(up.postgres_port);
        up.agent &= !args.no_agent;
        // Pods are on hosts.
        up.pods &= up.agent && !args.no_pods;
        let faults = settings.faults();
        if faults.is_empty() { Ok(settings) } else { Err(Failure::input(faults.join("\n"))) }
    }

    /// Names and addresses under which hosts reach the NATS server that is started: those that are set, else the one
    /// address at which others reach the gateway, since whoever joins there has to come to the bus.
    pub fn nats_names(&self) -> Vec<String> {
        let names = self.up.nats_names.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names: Vec<String> = names.map(str::to_owned).collect();
        if names.is_empty() { self.outer().iter().map(ToString::to_string).collect() } else { names }
    }

    /// The one address at which others reach the gateway, if there is one.
    pub fn outer(&self) -> Option<IpAddr> {
        self.listen().ok().map(|listen| listen.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
    }

    /// Where the gateway listens.
    pub fn listen(&self) -> Result<SocketAddr, Failure> {
        self.up.listen.parse().map_err(|_| Failure::input(format!("up.listen: {:?} is no address", self.up.listen)))
    }
}

#[cfg(test)]
mod tests {
    use pinacle_bus::settings::{load, print};

    use super::*;

    #[test]
    fn defaults_alone_are_valid_and_every_setting_is_documented() {
        let settings: UpSettings = load(None, []).unwrap();
        let printed: toml::Table = print(&settings).unwrap().parse().unwrap();
        let text = include_str!("default.toml");
        let documented: toml::Table = text.parse().unwrap();
        let names = |table: &toml::Table| table["up"].as_table().unwrap().keys().cloned().collect::<Vec<_>>();
        let (mut printed, mut documented) = (names(&printed), names(&documented));
        printed.sort();
        documented.sort();
        assert_eq!(printed, documented);
        let lines: Vec<&str> = text.lines().collect();
        let bare = lines
            .windows(2)
            .filter(|pair| pair[1].contains(" = ") && !pair[1].starts_with('#') && !pair[0].starts_with('#'));
        assert_eq!(bare.count(), 0, "a setting without its documentation");
    }

    #[test]
    fn hosts_reach_the_bus_where_they_reach_the_gateway_unless_names_say_otherwise() {
        let names = |listen: &str, names: &str| {
            let environment = [("LISTEN", listen), ("NATS_NAMES", names)];
            let environment = environment.map(|(name, value)| (format!("PINACLE__UP__{name}"), value.to_owned()));
            load::<UpSettings>(None, environment).unwrap().nats_names()
        };
        assert_eq!(names("192.0.2.7:9090", ""), ["192.0.2.7"]);
        assert_eq!(names("192.0.2.7:9090", "bus.example.org, 192.0.2.8"), ["bus.example.org", "192.0.2.8"]);
        for nobody_knows in ["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080"] {
            assert_eq!(names(nobody_knows, ""), [""; 0]);
        }
    }

    #[test]
    fn values_that_cannot_be_are_refused_together() {
        let environment =
            [("LISTEN", "here"), ("NATS", "http://x"), ("DATABASE", "mysql://x"), ("ADMIN_PORT", "65535")];
        let environment = environment.map(|(name, value)| (format!("PINACLE__UP__{name}"), value.to_owned()));
        let error = load::<UpSettings>(None, environment).unwrap_err();
        assert_eq!(error.faults.len(), 4, "{error}");
    }
}
