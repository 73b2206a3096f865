//! A value that is never shown.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A secret setting. `file:/some/path` reads it from that file, without the line end; an empty one means none.
/// Printed, logged and serialized it reads `[redacted]`.
#[derive(Clone, Default)]
pub struct Secret {
    value: SecretString,
    file: Option<PathBuf>,
}

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: SecretString::from(value.into()), file: None }
    }

    fn read(file: PathBuf) -> io::Result<Self> {
        let text = fs::read_to_string(&file)?;
        Ok(Self { value: text.trim_end_matches(['\r', '\n']).into(), file: Some(file) })
    }

    /// What its file says now; the same when it came from no file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn reread(&self) -> io::Result<Self> {
        self.file.clone().map_or_else(|| Ok(self.clone()), Self::read)
    }

    /// What is wrong with the file that it came from: one that others than its owner may read keeps no key.
    pub fn exposure(&self) -> Option<String> {
        let file = self.file.as_ref()?;
        let mode = match fs::metadata(file) {
            Ok(metadata) => metadata.permissions().mode() & 0o777,
            Err(error) => return Some(format!("cannot look at {}: {error}", file.display())),
        };
        (mode & 0o077 != 0).then(|| format!("{} may be read by others (mode {mode:04o}): chmod 600 it", file.display()))
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }

    fn shown(&self) -> &'static str {
        if self.is_empty() { "" } else { "[redacted]" }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = String::deserialize(deserializer)?;
        match given.strip_prefix("file:") {
            None => Ok(Self::new(given)),
            Some(path) => Self::read(path.into())
                .map_err(|error| de::Error::custom(format!("cannot read the secret from {path}: {error}"))),
        }
    }
}
