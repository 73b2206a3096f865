//! What `pinacle login` keeps: a file for each gateway, below the user's own configuration folder, for their eyes alone.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use pinacle_bus::contract::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{api::segment, failure::Failure};

/// A login at one gateway.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The gateway's address.
    pub gateway: String,
    /// Whose token it is.
    pub email: String,
    /// The token.
    pub token: String,
    /// Until when it is good, as far as that is known.
    pub expires_at: Option<Timestamp>,
    /// The authority that the gateway's certificate is held against, as PEM.
    pub authority: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

impl Stored {
    /// That at this gateway.
    pub fn of(gateway: &str) -> Option<Self> {
        read(&file(gateway).ok()?)
    }

    /// The newest of all.
    pub fn newest() -> Option<Self> {
        let files = fs::read_dir(folder().ok()?).ok()?;
        files.flatten().filter_map(|file| read(&file.path())).max_by_key(|login| login.since)
    }

    /// Writes it, whole or not at all.
    pub fn keep(&self) -> Result<PathBuf, Failure> {
        let file = file(&self.gateway)?;
        self.write(&file).with_context(|| format!("cannot keep the token in {}", file.display()))?;
        Ok(file)
    }

    fn write(&self, file: &Path) -> anyhow::Result<()> {
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let beside = file.with_extension(format!("new-{}", std::process::id()));
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        new.write_all(&serde_json::to_vec_pretty(self)?)?;
        new.sync_all()?;
        Ok(fs::rename(&beside, file)?)
    }

    /// Deletes it.
    pub fn forget(&self) -> Result<(), Failure> {
        let file = file(&self.gateway)?;
        Ok(fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?)
    }
}

fn read(file: &Path) -> Option<Stored> {
    serde_json::from_slice(&fs::read(file).ok().filter(|_| file.extension() == Some("json".as_ref()))?).ok()
}

fn file(gateway: &str) -> Result<PathBuf, Failure> {
    Ok(folder()?.join(format!("{}.json", segment(gateway))))
}

/// `$XDG_CONFIG_HOME`, or `.config` below the home.
fn folder() -> Result<PathBuf, Failure> {
    let variable = |wanted: &str| -> Option<OsString> {
        std::env::vars_os()
            .find(|(name, value)| name == wanted && Path::new(value).is_absolute())
            .map(|(_, value)| value)
    };
    let config = match variable("XDG_CONFIG_HOME") {
        Some(config) => PathBuf::from(config),
        None => PathBuf::from(variable("HOME").ok_or_else(|| {
            Failure::failed("there is no place for logins: set HOME or XDG_CONFIG_HOME, or use PINACLE_TOKEN")
        })?)
        .join(".config"),
    };
    Ok(config.join("pinacle/logins"))
}
