//! Our own services as parts: found beside this program, told by environment where everything is.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;

use super::{
    ground::Told,
    home::Home,
    image,
    log::Dialect,
    part::{Part, is_program},
    probe::Probe,
    ssh, trust,
};
use crate::failure::Failure;

/// Longer than a service's own deadline for its drain.
const STOP: &[(Signal, Duration)] = &[(Signal::SIGTERM, Duration::from_secs(15))];
const START_DEADLINE: Duration = Duration::from_secs(60);

/// The token by which this machine's agent joins.
pub(super) const AGENT_TOKEN: &str = "agent_token";

/// What the services are told.
pub(super) struct Plan {
    /// Where NATS is.
    pub nats_url: String,
    /// The folder with everybody's credentials for the bus; none where the settings say it.
    pub credentials: Option<PathBuf>,
    /// The certificate of the authority that the bus is known by; none where the settings say it.
    pub ca_file: Option<PathBuf>,
    /// The setting of the database's address.
    pub database: String,
    /// Where the gateway listens.
    pub listen: String,
    /// How this machine reaches the gateway.
    pub gateway: String,
    /// The authority of its certificate, where it speaks TLS.
    pub gateway_ca: Option<PathBuf>,
    /// Where other machines reach the bus, if they do.
    pub nats_outside: Option<String>,
    /// Room for the bus's streams, where the disk is small.
    pub storage_bytes: Option<u64>,
    /// What pods stand on here; none where there can be none.
    pub ground: Option<Told>,
    /// The person's settings file.
    pub config: Option<PathBuf>,
    /// `--dev`, where nobody gave credentials for the bus.
    pub dev: bool,
}

/// The services in the order of their start.
pub(super) const NAMES: [&str; 4] = ["orchestrator", "ingest", "gateway", "agent"];

/// The secret under which the gateway keeps what is encrypted in the database.
pub(super) const MASTER_KEY: &str = "master_key";

/// The secret under which the orchestrator keeps its own keys.
pub(super) const ORCHESTRATOR_KEY: &str = "orchestrator_key";

/// Where a service's program is: beside this one.
pub(super) fn program(name: &str) -> Result<PathBuf, Failure> {
    let here = std::env::current_exe().map_err(|error| Failure::failed(format!("cannot find myself: {error}")))?;
    let folder = here.parent().map(PathBuf::from).unwrap_or_default();
    let program = folder.join(format!("pinacle-{name}"));
    if is_program(&program) {
        return Ok(program);
    }
    Err(Failure::failed(format!(
        "the program pinacle-{name} is not in {}: build it with cargo build --workspace --bins, or start with make up",
        folder.display()
    )))
}

impl Plan {
    /// One service.
    pub fn part(&self, home: &Home, name: &'static str, admin_port: u16) -> Result<Part, Failure> {
        let mut environment: Vec<(String, OsString)> = Vec::new();
        let mut set = |key: &str, value: &str| environment.push((format!("PINACLE__{key}"), value.into()));
        set("BUS__URL", &self.nats_url);
        set("ADMIN__LISTEN", &format!("127.0.0.1:{admin_port}"));
        // The agent gets its own from the gateway, where the bus is ours.
        if let Some(folder) = self.credentials.as_ref().filter(|_| name != "agent" || self.ca_file.is_none()) {
            set("BUS__CREDENTIALS", &format!("file:{}", folder.join(format!("{name}.creds")).display()));
        }
        if let Some(file) = &self.ca_file {
            set("BUS__CA_FILE", &file.to_string_lossy());
        }
        if let Some(bytes) = self.storage_bytes {
            set("BUS__STORAGE_BYTES", &bytes.to_string());
        }
        match name {
            "ingest" => set("DATABASE__URL", &self.database),
            "gateway" => {
                set("DATABASE__URL", &self.database);
                set("GATEWAY__LISTEN", &self.listen);
                set("GATEWAY__ADMIN_TOKEN", &home.secret_setting("admin_token"));
                set("GATEWAY__MASTER_KEY", &home.secret_setting(MASTER_KEY));
                if let Some(folder) = program(name)?.parent() {
                    set("GATEWAY__AGENT_DIR", &folder.to_string_lossy());
                }
                if self.ca_file.is_some() {
                    set("GATEWAY__AUTHORITY", &home.secret_setting(trust::AUTHORITY));
                }
                if let Some(url) = &self.nats_outside {
                    set("GATEWAY__AGENT_BUS_URL", url);
                }
                if let Some(ca) = &self.gateway_ca {
                    set("GATEWAY__TLS_CERTIFICATE_FILE", &home.folder.secret(trust::CERTIFICATE).to_string_lossy());
                    set("GATEWAY__TLS_KEY_FILE", &home.folder.secret(trust::KEY).to_string_lossy());
                    set("GATEWAY__TLS_CA_FILE", &ca.to_string_lossy());
                }
            }
            "agent" => {
                if self.ca_file.is_some() {
                    set("AGENT__GATEWAY_URL", &self.gateway);
                    set("AGENT__ENROLMENT_TOKEN", &home.secret_setting(AGENT_TOKEN));
                }
                if let Some(ca) = &self.gateway_ca {
                    set("AGENT__GATEWAY_CA_FILE", &ca.to_string_lossy());
                }
                set("AGENT__STATE_DIR", &home.folder.path("agent").to_string_lossy());
                if let Some(ground) = &self.ground {
                    set("AGENT__DOCKER_SOCKET", &ground.docker.to_string_lossy());
                    set("AGENT__SSH_ADDRESS", "127.0.0.1");
                    set("AGENT__SSH_PORT", &ground.ssh_port.to_string());
                    set("AGENT__SSH_USER", ssh::USER);
                    set("AGENT__SSH_KEYS_DIR", &ground.keys.to_string_lossy());
                }
            }
            "orchestrator" => {
                set("ORCHESTRATOR__KEY", &home.secret_setting(ORCHESTRATOR_KEY));
                if self.ground.is_some() {
                    set("ORCHESTRATOR__BASE_IMAGE_ARCHIVE", &image::archive(home).to_string_lossy());
                }
            }
            _ => {}
        }
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(config) = &self.config {
            arguments.extend(["--config".into(), config.into()]);
        }
        if self.dev {
            arguments.push("--dev".into());
        }
        Ok(Part {
            name,
            program: program(name)?,
            arguments,
            environment,
            account: None,
            _door: None,
            death_signal: "KILL",
            stop: STOP,
            probe: Probe::Service(admin_port),
            dialect: Dialect::Service,
            start_deadline: START_DEADLINE,
        })
    }
}
