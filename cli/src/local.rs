//! The local installation: the folder of `pinacle up`, what it left there for other commands, and settings.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pinacle_bus::{
    contract::grant::Role,
    settings::{BUS_DEFAULTS, BusSettings, DATABASE_DEFAULTS, DatabaseSettings, Secret, Settings, load},
};
use serde::{Deserialize, Serialize};

use crate::{args::Global, failure::Failure};

/// The name of the folder where nothing else is said.
const FOLDER: &str = ".pinacle";

/// What a running `pinacle up` says about itself, in `run/up.json`. It holds no secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// The process.
    pub pid: i32,
    /// Such as `http://127.0.0.1:8080`.
    pub gateway: String,
    /// The authority that its certificate is held against; none = it has none, or one that every system knows.
    #[serde(default)]
    pub gateway_ca: Option<PathBuf>,
    /// Such as `nats://127.0.0.1:4222`.
    pub nats: String,
    /// The folder with credentials for it, if there is one.
    pub nats_credentials: Option<PathBuf>,
    /// The certificate of the authority that it is known by; none = as the settings say.
    pub nats_ca: Option<PathBuf>,
}

/// The folder of all data.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// `given`, or the nearest folder that exists here or above, or the one that would be made here.
    pub fn find(given: Option<&Path>) -> Result<Self, Failure> {
        let here = std::env::current_dir().map_err(|error| Failure::failed(format!("no current folder: {error}")))?;
        if let Some(given) = given.filter(|given| !given.as_os_str().is_empty()) {
            return Ok(Self(here.join(given)));
        }
        let found = here.ancestors().map(|folder| folder.join(FOLDER)).find(|folder| folder.is_dir());
        Ok(Self(found.unwrap_or_else(|| here.join(FOLDER))))
    }

    /// A path in it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.0.join(inside)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The file of a secret.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.0.join("secrets").join(name)
    }

    /// The host that this machine is, if an agent of this folder has run here.
    pub fn host(&self) -> Option<String> {
        let id = fs::read_to_string(self.path("agent/host_id")).ok()?;
        Some(id.trim().to_owned())
    }

    /// What the last `pinacle up` here said about itself.
    pub fn notice(&self) -> Option<Notice> {
        serde_json::from_slice(&fs::read(self.path("run/up.json")).ok()?).ok()
    }
}

/// Reads settings as the services do; faults are the person's.
pub(crate) fn settings<S: Settings>(global: &Global) -> Result<S, Failure> {
    load(
        global.config.as_deref(),
        std::env::vars_os().filter_map(|(name, value)| {
            // What is no UTF-8 is none of ours.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    )
    .map_err(|error| Failure::input(format!("settings: {error}")))
}

/// `[bus]` and `[database]`, for commands that go there themselves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Direct {
    bus: BusSettings,
    database: DatabaseSettings,
}

impl Settings for Direct {
    const DEFAULTS: &'static [&'static str] = &[BUS_DEFAULTS, DATABASE_DEFAULTS];

    fn faults(&self) -> Vec<String> {
        [self.bus.faults(), self.database.faults()].concat()
    }
}

/// Where the bus is: the options, else the settings, else the local `pinacle up`.
/// Whoever asks has `role` there.
pub(crate) fn bus(
    global: &Global,
    url: Option<&str>,
    credentials_file: Option<&Path>,
    role: Role,
) -> Result<BusSettings, Failure> {
    let mut bus = settings::<Direct>(global)?.bus;
    let untouched = bus.credentials.is_empty();
    let folder = Folder::find(global.data_dir.as_deref())?;
    if let Some(url) = url {
        url.clone_into(&mut bus.url);
    }
    if let Some(file) = credentials_file {
        bus.credentials = read_secret(file)?;
        bus.user().map_err(|error| Failure::input(format!("{}: {error}", file.display())))?;
    } else if let (true, None, Some(notice)) = (untouched, url, folder.notice()) {
        bus.url = notice.nats;
        if let Some(folder) = notice.nats_credentials {
            bus.credentials = read_secret(&folder.join(credentials(role)))?;
        }
        if let Some(file) = notice.nats_ca {
            bus.ca_file = file.display().to_string();
        }
    }
    Ok(bus)
}

/// Where the database is: the option, else the settings, else the local `pinacle up`.
pub(crate) fn database(global: &Global, url: Option<&str>) -> Result<Secret, Failure> {
    if let Some(url) = url {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Failure::input("--database: must begin with postgres://"));
        }
        return Ok(Secret::new(url));
    }
    let settings = settings::<Direct>(global)?.database;
    let default = toml_default(DATABASE_DEFAULTS);
    let file = Folder::find(global.data_dir.as_deref())?.secret("database_url");
    if default.as_deref() == Some(settings.url.expose()) && file.exists() {
        read_secret(&file)
    } else {
        Ok(settings.url)
    }
}

/// The secret with a role's credentials for the bus.
pub(crate) fn credentials(role: Role) -> String {
    format!("{}.creds", role.name())
}

/// The secret with the certificate of the authority that the bus is known by.
pub(crate) const BUS_CA: &str = "nats_ca.pem";

fn toml_default(text: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix("url = \"")?.trim_end_matches('"').to_owned()))
}

/// Reads a file with a secret in it.
pub(crate) fn read_secret(path: &Path) -> Result<Secret, Failure> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(Secret::new(text.trim())),
        Ok(_) => Err(Failure::failed(format!("{} is empty", path.display()))),
        Err(error) => Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
    }
}
