//! Ids: `<kind>_<KSUID>`, a type for each kind, so that a pod's id cannot stand where a host's belongs.
//!
//! An id is 27 letters kept inline: it is copied, compared and hashed without an allocation, which is what ingest does
//! with tens of thousands of them a second.

use std::{fmt, str::FromStr, time::SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use svix_ksuid::{KsuidLike, KsuidMs};

use super::Timestamp;

const KSUID_LENGTH: usize = 27;
/// The largest KSUID: 20 bytes of 0xff in base 62. Anything above it decodes to no KSUID.
const KSUID_LARGEST: &[u8; KSUID_LENGTH] = b"aWgEPTl1tmebfsQzFP4bxwgy80V";

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {prefix}_ and 27 letters or digits, got {got:?}")]
pub struct InvalidId {
    prefix: &'static str,
    got: String,
}

fn parse_ksuid(prefix: &'static str, text: &str) -> Result<[u8; KSUID_LENGTH], InvalidId> {
    let invalid = || InvalidId { prefix, got: text.chars().take(64).collect() };
    let ksuid: &[u8; KSUID_LENGTH] = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .and_then(|rest| rest.as_bytes().try_into().ok())
        .ok_or_else(invalid)?;
    // Base 62 in KSUID's alphabet (0-9, A-Z, a-z) sorts as bytes do, so the largest value bounds the rest.
    if ksuid.iter().all(u8::is_ascii_alphanumeric) && ksuid <= KSUID_LARGEST { Ok(*ksuid) } else { Err(invalid()) }
}

/// The first moment that a KSUID can name, in milliseconds since 1970.
const KSUID_EPOCH_MS: i64 = 1_400_000_000_000;

fn new_ksuid() -> [u8; KSUID_LENGTH] {
    spelled(KsuidMs::new(None::<SystemTime>, None))
}

fn derived_ksuid(at: Timestamp, digest: [u8; 15]) -> [u8; KSUID_LENGTH] {
    // 2^32 seconds past its epoch a KSUID has no room left; the last one then stands for all later ones.
    let millis = at.as_millis().clamp(KSUID_EPOCH_MS, KSUID_EPOCH_MS + i64::from(u32::MAX) * 1000);
    spelled(KsuidMs::from_millis(Some(millis), Some(&digest)))
}

fn spelled(ksuid: KsuidMs) -> [u8; KSUID_LENGTH] {
    let text = ksuid.to_string();
    let mut ksuid = [b'0'; KSUID_LENGTH];
    // The crate pads to 27 letters; zip rather than copy, so that no length can panic.
    for (to, from) in ksuid.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    ksuid
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; KSUID_LENGTH]);

        impl $name {
            /// What stands before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id; ids made later sort later, to 4 ms.
            #[expect(clippy::new_without_default, reason = "each call yields another id, which a default should not")]
            pub fn new() -> Self {
                Self(new_ksuid())
            }

            /// The id of a thing of `at` that `digest` tells from all others: whoever makes it again, in whatever
            /// process, makes the same. Take the digest from a hash function that never changes.
            pub fn derived(at: Timestamp, digest: [u8; 15]) -> Self {
                Self(derived_ksuid(at, digest))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(str::from_utf8(&self.0).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_ksuid(Self::PREFIX, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("an id ", $prefix, "_…"))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    )*};
}

ids! {
    /// A machine that runs pods.
    HostId = "host";
    /// One person's isolated container.
    PodId = "pod";
    /// One request being carried out.
    OperationId = "op";
    /// What somebody wants done.
    RequestId = "req";
    /// Something that happened.
    EventId = "evt";
    /// A message that could not be handled.
    DeadLetterId = "dead";
    /// A terminal session.
    SessionId = "tty";
    /// A person with an account.
    UserId = "user";
    /// People who share what they own.
    TeamId = "team";
    /// A token for the API.
    TokenId = "token";
    /// A person's signing in, in a browser.
    LoginId = "login";
    /// An entry of the audit log.
    AuditId = "audit";
    /// An invitation to a team.
    InvitationId = "invite";
    /// A named secret value.
    SecretId = "secret";
    /// A token that a host joins with.
    EnrolmentId = "enrol";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_id_survives_text_and_json() {
        let id = HostId::new();
        assert_eq!(id.to_string().len(), "host_".len() + 27);
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<HostId>(&json).unwrap(), id);
    }

    #[test]
    fn a_derived_id_is_the_same_each_time_and_sorts_by_its_time() {
        let at: Timestamp = "2026-11-21T09:15:40.123Z".parse().unwrap();
        let id = HostId::derived(at, [7; 15]);
        assert_eq!(id, HostId::derived(at, [7; 15]));
        assert_ne!(id, HostId::derived(at, [8; 15]));
        assert!(id < HostId::derived(at.plus(std::time::Duration::from_secs(1)), [0; 15]));
        for millis in [0, 253_402_300_799_999] {
            let extreme = HostId::derived(Timestamp::from_millis(millis).unwrap(), [255; 15]);
            assert_eq!(extreme.to_string().parse(), Ok(extreme));
        }
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let pod = PodId::new().to_string();
        assert!(pod.parse::<HostId>().is_err());
    }

    #[test]
    fn what_no_ksuid_can_spell_is_refused() {
        let largest = format!("host_{}", std::str::from_utf8(KSUID_LARGEST).unwrap());
        assert!(largest.parse::<HostId>().is_ok());
        for text in [
            "",
            "host_",
            "host_tooshort",
            "host_aWgEPTl1tmebfsQzFP4bxwgy80W",
            "host_000000000000000000000000.00",
            "host_00000000000000000000000000é",
        ] {
            assert!(text.parse::<HostId>().is_err(), "{text}");
        }
    }
}
