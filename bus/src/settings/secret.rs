//! A value that is never shown.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A secret setting. `file:/some/path` reads it from that file, without the line end; an empty one means none.
/// Printed, logged and serialized it reads `[redacted]`.
#[derive(Clone, Default)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
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
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Self::new(text.trim_end_matches(['\r', '\n']))),
                Err(error) => Err(de::Error::custom(format!("cannot read the secret from {path}: {error}"))),
            },
        }
    }
}
