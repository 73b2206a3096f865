//! What all messages have in common: encoding, decoding, and the check that a decoded one can be true.

use serde::{Serialize, de::DeserializeOwned};

use super::SCHEMA_VERSION;

/// One kind of message on the bus.
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name in snake case, as in golden files and logs.
    const NAME: &'static str;
    /// The largest encoding that a reader accepts, in bytes.
    const MAX_BYTES: usize;

    /// Whether the values can be true. Messages come from hosts that may be hostile: what passes here can be stored.
    ///
    /// # Errors
    /// The first field that cannot be true, and why.
    fn check(&self) -> Result<(), Invalid>;
}

/// A value that cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct Invalid {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// Why bytes from the bus are no message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the message may be.
    #[error("the message has {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Written by a newer release than this one.
    #[error("the message has schema {found}, this release reads up to {SCHEMA_VERSION}")]
    NewerSchema {
        /// The sender's version.
        found: u32,
    },
    /// Not JSON, or not of this shape.
    #[error("the message is not a valid {name}")]
    Malformed {
        /// Which message it should be.
        name: &'static str,
        /// What serde found.
        #[source]
        source: serde_json::Error,
    },
    /// Of the right shape, but it cannot be true.
    #[error("the message has a value that cannot be true")]
    Invalid(#[source] Invalid),
}

/// Decodes and checks `bytes`, which a sender of schema version `schema` wrote.
///
/// # Errors
/// See [`DecodeError`]; never panics, whatever the bytes.
pub fn decode<M: Message>(schema: u32, bytes: &[u8]) -> Result<M, DecodeError> {
    if schema > SCHEMA_VERSION {
        return Err(DecodeError::NewerSchema { found: schema });
    }
    if bytes.len() > M::MAX_BYTES {
        return Err(DecodeError::TooLarge { bytes: bytes.len(), limit: M::MAX_BYTES });
    }
    let message: M =
        serde_json::from_slice(bytes).map_err(|source| DecodeError::Malformed { name: M::NAME, source })?;
    message.check().map_err(DecodeError::Invalid)?;
    Ok(message)
}

/// Encodes a message as JSON.
///
/// # Errors
/// When a value has no JSON form, such as a float that is not finite inside a map's key; not for our own types.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(message)
}

/// The checks that messages share.
pub(super) mod check {
    use super::Invalid;
    use crate::contract::host::HostFacts;

    /// Above this no byte count is true, and below it every one fits a signed 64-bit column.
    const LARGEST_COUNT: u64 = 1 << 60;
    /// 4096 cores, fully used.
    const LARGEST_PERCENT: f64 = 409_600.0;

    pub fn count(field: &'static str, value: u64) -> Result<(), Invalid> {
        if value <= LARGEST_COUNT {
            Ok(())
        } else {
            Err(Invalid { field, why: format!("is {value}, more than any machine has") })
        }
    }

    pub fn percent(field: &'static str, value: f64) -> Result<(), Invalid> {
        within(field, value, 0.0, LARGEST_PERCENT)
    }

    pub fn within(field: &'static str, value: f64, least: f64, most: f64) -> Result<(), Invalid> {
        if value >= least && value <= most {
            Ok(())
        } else {
            Err(Invalid { field, why: format!("is {value}, outside {least} to {most}") })
        }
    }

    pub fn length(field: &'static str, length: usize, most: usize) -> Result<(), Invalid> {
        if length <= most {
            Ok(())
        } else {
            Err(Invalid { field, why: format!("has {length} entries or bytes, more than {most}") })
        }
    }

    /// A text that people read: bounded, and without NUL, which Postgres cannot store.
    pub fn text(field: &'static str, value: &str, most: usize) -> Result<(), Invalid> {
        length(field, value.len(), most)?;
        if value.contains('\0') { Err(Invalid { field, why: "holds a NUL character".into() }) } else { Ok(()) }
    }

    /// A host's facts.
    pub fn facts(facts: &HostFacts) -> Result<(), Invalid> {
        count("facts.memory_total_bytes", facts.memory_total_bytes)?;
        count("facts.disk_total_bytes", facts.disk_total_bytes)?;
        within("facts.cpu_count", f64::from(facts.cpu_count), 0.0, 4096.0)?;
        for (field, value) in [
            ("facts.ssh.address", facts.ssh.as_ref().and_then(|ssh| ssh.address.as_ref())),
            ("facts.ssh.user", facts.ssh.as_ref().and_then(|ssh| ssh.user.as_ref())),
            ("facts.agent_version", Some(&facts.agent_version)),
            ("facts.boot_id", Some(&facts.boot_id)),
            ("facts.os", Some(&facts.os)),
            ("facts.kernel", Some(&facts.kernel)),
            ("facts.architecture", Some(&facts.architecture)),
            ("facts.cpu_model", Some(&facts.cpu_model)),
            ("facts.docker_version", facts.docker_version.as_ref()),
            ("facts.lima_name", facts.lima_name.as_ref()),
        ] {
            text(field, value.map_or("", String::as_str), 255)?;
        }
        length("facts.runtimes", facts.runtimes.len(), 64)?;
        facts.runtimes.iter().try_for_each(|runtime| text("facts.runtimes", runtime, 255))?;
        length("facts.addresses", facts.addresses.len(), 256)?;
        facts.addresses.iter().try_for_each(|address| text("facts.addresses", address, 64))?;
        let keys = facts.ssh.as_ref().map_or(&[][..], |ssh| &ssh.host_keys);
        length("facts.ssh.host_keys", keys.len(), 16)?;
        keys.iter().try_for_each(|key| text("facts.ssh.host_keys", key, 2048))
    }

    /// One token of a subject.
    pub fn token(field: &'static str, value: &str) -> Result<(), Invalid> {
        if crate::contract::subject::is_token(value) {
            Ok(())
        } else {
            Err(Invalid { field, why: "is not a word of a-z, 0-9, _ and -".into() })
        }
    }

    /// A JSON value: bounded in size and without NUL anywhere.
    pub fn json(field: &'static str, value: &serde_json::Value, most: usize) -> Result<(), Invalid> {
        let text = value.to_string();
        length(field, text.len(), most)?;
        if text.contains("\\u0000") { Err(Invalid { field, why: "holds a NUL character".into() }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// A message as it is after a field was added to it, by the rule that such a field has a default.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Grown {
        since_version_1: u32,
        #[serde(default)]
        added_later: u32,
    }

    impl Message for Grown {
        const NAME: &'static str = "grown";
        const MAX_BYTES: usize = 100;

        fn check(&self) -> Result<(), Invalid> {
            check::within("since_version_1", f64::from(self.since_version_1), 0.0, 10.0)
        }
    }

    #[test]
    fn what_an_older_sender_wrote_is_read_with_the_default_of_what_it_did_not_know() {
        let old = decode::<Grown>(1, br#"{"since_version_1":1}"#).unwrap();
        assert_eq!(old, Grown { since_version_1: 1, added_later: 0 });
        let newer = SCHEMA_VERSION + 1;
        let refused = decode::<Grown>(newer, br#"{"since_version_1":1}"#);
        assert!(matches!(refused, Err(DecodeError::NewerSchema { found }) if found == newer));
    }

    #[test]
    fn each_way_of_being_no_message_is_told_apart() {
        let read = |text: &str| decode::<Grown>(1, text.as_bytes());
        assert!(matches!(read(r#"{"added_later":1}"#), Err(DecodeError::Malformed { name: "grown", .. })));
        assert!(matches!(read(r#"{"since_version_1":11}"#), Err(DecodeError::Invalid(_))));
        assert!(matches!(read(&" ".repeat(101)), Err(DecodeError::TooLarge { bytes: 101, limit: 100 })));
    }
}
