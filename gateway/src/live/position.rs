//! Places in the stream of events as clients know them.
//!
//! The numbers between two events that somebody may see would tell how much happens that they may not: for everybody but
//! admins a place is sealed. An admin's is the stream's own number, 0 before the first event.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pinacle_bus::crypto::Key;
use sha2::{Digest, Sha256};

use crate::{
    identity::Identity,
    problem::{Code, Problem},
};

const CONTEXT: [&str; 1] = ["event position"];

/// Writes and reads them. All copies of a gateway with the same token understand each other's.
pub struct Positions(Option<Key>);

impl Positions {
    /// With a key out of the installation's token, which all copies have.
    pub fn new(token: &str) -> Self {
        let digest = Sha256::new().chain_update(b"pinacle event positions\0").chain_update(token).finalize();
        Self(Key::from_bytes(&digest))
    }

    /// The place behind the event of this sequence.
    pub fn write(&self, identity: &Identity, sequence: u64) -> String {
        if identity.is_admin() {
            return sequence.to_string();
        }
        let sealed = self.0.as_ref().and_then(|key| key.seal(&CONTEXT, &sequence.to_be_bytes()).ok());
        sealed.map(|sealed| URL_SAFE_NO_PAD.encode(sealed)).unwrap_or_default()
    }

    /// The sequence of a place that came as the field of this name.
    ///
    /// # Errors
    /// When it is none that this identity was given.
    pub fn read(&self, identity: &Identity, field: &'static str, text: &str) -> Result<u64, Problem> {
        let found = if identity.is_admin() { text.parse().ok() } else { self.open(text) };
        found.ok_or_else(|| {
            Problem::field(Code::InvalidCursor, field, "is no place among the events: give back a position as it came")
        })
    }

    fn open(&self, text: &str) -> Option<u64> {
        let opened = self.0.as_ref()?.open(&CONTEXT, &URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        Some(u64::from_be_bytes(opened.as_slice().try_into().ok()?))
    }
}
