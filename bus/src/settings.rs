//! Settings: embedded, documented defaults, then a file, then `PINACLE__SECTION__KEY` from the environment.
//!
//! One file serves all services: each reads its own sections and leaves the others' alone. A key that nobody knows is
//! refused, and all faults are reported at once, so that a person mends them in one go.

mod secret;
mod sections;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};
use serde::{Serialize, de::DeserializeOwned};

pub use secret::Secret;
pub use sections::{
    AdminSettings, BUS_DEFAULTS, BusSettings, DATABASE_DEFAULTS, DatabaseSettings, LOG_DEFAULTS, LogFormat, LogSettings,
};

/// Every section that a settings file may have.
pub const SECTIONS: [&str; 9] = ["bus", "log", "admin", "database", "agent", "ingest", "orchestrator", "gateway", "up"];

/// Prefix of the environment's variables.
pub const ENVIRONMENT_PREFIX: &str = "PINACLE__";

/// The settings of one program: a struct with one field a section, each `#[serde(deny_unknown_fields)]`.
pub trait Settings: Serialize + DeserializeOwned {
    /// TOML texts that together hold every key with its default and its documentation.
    const DEFAULTS: &'static [&'static str];

    /// What the types cannot say, for example that one value must not exceed another. One line a fault.
    fn faults(&self) -> Vec<String>;
}

/// Why settings were refused: one line a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.join("\n"))]
pub struct SettingsError {
    /// What is wrong, where, and what would be right.
    pub faults: Vec<String>,
}

/// Reads the settings of a program. `environment` is the process's; a test passes its own.
///
/// # Errors
/// Every fault at once: an unreadable file, unknown sections and keys, values of the wrong type, and what
/// [`Settings::faults`] finds.
pub fn load<S: Settings>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<S, SettingsError> {
    let defaults = defaults::<S>().map_err(|error| SettingsError { faults: vec![format!("defaults: {error}")] })?;
    let known = flatten(&defaults);
    let sections: BTreeSet<&str> = known.keys().filter_map(|key| key.split('.').next()).collect();

    let mut faults = Vec::new();
    let mut accepted: Vec<(String, Value)> = Vec::new();
    for (origin, key, value) in overrides(file, environment, &mut faults) {
        let section = key.split('.').next().unwrap_or_default();
        if !SECTIONS.contains(&section) {
            faults.push(format!("{origin}: there is no section {section:?}; the sections are {}", SECTIONS.join(", ")));
        } else if !sections.contains(section) {
            // Another service's.
        } else if !known.contains_key(&key) {
            let siblings: Vec<&str> =
                known.keys().filter_map(|known| known.strip_prefix(section)?.strip_prefix('.')).collect();
            faults.push(format!("{origin}: there is no setting {key:?}; [{section}] has {}", siblings.join(", ")));
        } else if let Err(error) = with::<S>(&defaults, [(key.clone(), value.clone())]) {
            faults.push(format!("{origin}: {key}: {error}"));
        } else {
            accepted.push((key, value));
        }
    }
    match with::<S>(&defaults, accepted) {
        Ok(settings) => {
            faults.extend(settings.faults());
            if faults.is_empty() { Ok(settings) } else { Err(SettingsError { faults }) }
        }
        Err(error) => {
            faults.push(error.to_string());
            Err(SettingsError { faults })
        }
    }
}

/// The settings as TOML with every secret redacted, for people to look at.
///
/// # Errors
/// When a value has no TOML form; not for settings that [`load`] accepted.
pub fn print<S: Settings>(settings: &S) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(settings)
}

type Table = Map<String, Value>;

fn defaults<S: Settings>() -> Result<Table, ConfigError> {
    let mut builder = Config::builder();
    for text in S::DEFAULTS {
        builder = builder.add_source(File::from_str(text, FileFormat::Toml));
    }
    builder.build()?.collect()
}

fn with<S: Settings>(defaults: &Table, changes: impl IntoIterator<Item = (String, Value)>) -> Result<S, ConfigError> {
    let mut builder = Config::builder();
    for (key, value) in flatten(defaults) {
        builder = builder.set_default(key, value)?;
    }
    for (key, value) in changes {
        builder = builder.set_override(key, value)?;
    }
    builder.build()?.try_deserialize()
}

/// What the file and the environment set: where it stands, the dotted key, the value.
fn overrides(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    faults: &mut Vec<String>,
) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    if let Some(path) = file {
        match File::from(path).format(FileFormat::Toml).collect() {
            Ok(table) => {
                let origin = path.display().to_string();
                found.extend(flatten(&table).into_iter().map(|(key, value)| (origin.clone(), key, value)));
            }
            Err(error) => faults.push(format!("{}: {error}", path.display())),
        }
    }
    for (name, text) in environment {
        if let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) {
            let key = rest.to_ascii_lowercase().replace("__", ".");
            found.push((name, key, Value::from(text)));
        }
    }
    found
}

/// Leaves of a table by dotted key. A table without entries counts as a leaf, so that an empty unknown section shows.
fn flatten(table: &Table) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    let mut open: Vec<(String, &Table)> = vec![(String::new(), table)];
    while let Some((prefix, table)) = open.pop() {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match &value.kind {
                ValueKind::Table(inner) if !inner.is_empty() => open.push((path, inner)),
                _ => {
                    leaves.insert(path, value.clone());
                }
            }
        }
    }
    leaves
}

#[cfg(test)]
mod tests;
