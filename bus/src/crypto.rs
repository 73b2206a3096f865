//! Encryption: 32-byte keys that encrypt what is kept and wrap other keys, with XChaCha20-Poly1305; and sealing to a public
//! key, for what travels.
//!
//! What is encrypted is bound to its context (what it is for, whose it is, which row): opened anywhere else it is refused,
//! as it is with another key or a changed byte.

mod sealed;

use std::fmt;

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, Key as CipherKey, KeyInit, Payload},
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use sealed::{OpeningKey, seal_to};

/// First byte of everything that is sealed, for formats to come.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// Why something sealed was not opened: it is truncated or altered, belongs to another context, or to another key. Which
/// of them is not told to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is sealed cannot be opened: it is not whole, not of this place, or not of this key")]
pub struct NotOpened;

/// A key for XChaCha20-Poly1305. Wiped from memory when it is dropped, and never printed.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    /// A new one out of the system's randomness.
    pub fn random() -> Self {
        Self(Zeroizing::new(CipherKey::<XChaCha20Poly1305>::generate().into()))
    }

    /// From its 32 bytes; `None` when they are more or fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// From 64 hexadecimal digits, as `openssl rand -hex 32` prints them; `None` when it is anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 2 * KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (byte, start) in key.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(text.get(start..start + 2)?, 16).ok()?;
        }
        Some(Self(key))
    }

    /// As 64 hexadecimal digits, for the file that keeps it.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&*self.0))
    }

    /// The key itself, to be wrapped by another one.
    pub fn as_bytes(&self) -> &[u8] {
        &*self.0
    }

    /// A name for the key that tells nothing of it: which key something was sealed with.
    pub fn id(&self) -> String {
        let digest = Sha256::new().chain_update(b"pinacle key id\0").chain_update(*self.0).finalize();
        hex(digest.get(..8).unwrap_or_default())
    }

    /// Encrypts `plain` for the place that `context` names.
    ///
    /// # Errors
    /// When it is larger than the cipher takes, which is 256 GiB.
    pub fn seal(&self, context: &[&str], plain: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let nonce = XNonce::generate();
        let payload = Payload { msg: plain, aad: &bound(context) };
        let encrypted = self.cipher().encrypt(&nonce, payload).map_err(|_| NotOpened)?;
        Ok([&[FORMAT], &nonce[..], &encrypted].concat())
    }

    /// What was sealed with this key for this context.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open(&self, context: &[&str], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let rest = sealed.strip_prefix(&[FORMAT]).ok_or(NotOpened)?;
        let (nonce, encrypted) = rest.split_at_checked(NONCE_BYTES).ok_or(NotOpened)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| NotOpened)?;
        let payload = Payload { msg: encrypted, aad: &bound(context) };
        self.cipher().decrypt(&nonce, payload).map(Zeroizing::new).map_err(|_| NotOpened)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.0).into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// The context as bytes. Each part has its length in front, so that no two contexts are the same bytes.
fn bound(context: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in context {
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_key_place_or_byte_is_refused() {
        let key = Key::random();
        let sealed = key.seal(&["secret", "row-1"], b"value").unwrap();
        assert_eq!(**key.open(&["secret", "row-1"], &sealed).unwrap(), *b"value");
        assert_eq!(Key::random().open(&["secret", "row-1"], &sealed).unwrap_err(), NotOpened);
        for context in [&["secret", "row-2"][..], &["secret"], &["secretrow-1"], &["secretr", "ow-1"], &[]] {
            assert_eq!(key.open(context, &sealed).unwrap_err(), NotOpened, "{context:?}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key.open(&["secret", "row-1"], &sealed[..length]).unwrap_err(), NotOpened, "{length}");
        }
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert_eq!(key.open(&["secret", "row-1"], &altered).unwrap_err(), NotOpened, "{place}");
        }
    }

    #[test]
    fn the_same_value_is_never_sealed_the_same() {
        let key = Key::random();
        assert_ne!(key.seal(&[], b"value").unwrap(), key.seal(&[], b"value").unwrap());
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits_and_never_printed() {
        let text = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        let key = Key::from_hex(text).unwrap();
        assert_eq!(*key.to_hex(), text.to_lowercase());
        assert_eq!(key.id().len(), 16);
        let shown = format!("{key:?}");
        assert!(!shown.contains("0011"), "{shown}");
        for wrong in ["", "00", &text[1..], &format!("{text}00"), &text.replace('0', "g"), &text.replace("00", "+0")] {
            assert!(Key::from_hex(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(plain: Vec<u8>, context: Vec<String>) {
            let key = Key::random();
            let context: Vec<&str> = context.iter().map(String::as_str).collect();
            let sealed = key.seal(&context, &plain).unwrap();
            prop_assert_eq!(&**key.open(&context, &sealed).unwrap(), &plain);
        }
    }
}
