//! Sealing to a public key: anybody can, and only the holder of the private one can open. RFC 9180 (HPKE) in its base mode
//! with X25519, HKDF-SHA256 and ChaCha20-Poly1305.

use base64::{Engine, engine::general_purpose::STANDARD};
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use zeroize::Zeroizing;

use super::{NotOpened, bound};

type Private = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
type Encapsulated = <X25519HkdfSha256 as hpke::Kem>::EncappedKey;

const INFO: &[u8] = b"pinacle sealed v1";
const ENCAPSULATED_BYTES: usize = 32;

/// The private half of a pair of keys: what was sealed to the public half is opened with it.
#[derive(Clone)]
pub struct OpeningKey(Private);

impl OpeningKey {
    /// A new one out of the system's randomness.
    pub fn random() -> Self {
        Self(X25519HkdfSha256::gen_keypair().0)
    }

    /// From its bytes.
    ///
    /// # Errors
    /// When they are no key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotOpened> {
        Private::from_bytes(bytes).map(Self).map_err(|_| NotOpened)
    }

    /// Its bytes, to be kept encrypted.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_bytes().to_vec())
    }

    /// The public half, in base64.
    pub fn public(&self) -> String {
        STANDARD.encode(X25519HkdfSha256::sk_to_pk(&self.0).to_bytes())
    }

    /// What was sealed to the public half for this context.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open(&self, context: &[&str], sealed: &str) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let sealed = STANDARD.decode(sealed).map_err(|_| NotOpened)?;
        let (encapsulated, encrypted) = sealed.split_at_checked(ENCAPSULATED_BYTES).ok_or(NotOpened)?;
        let encapsulated = Encapsulated::from_bytes(encapsulated).map_err(|_| NotOpened)?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            INFO,
            encrypted,
            &bound(context),
        )
        .map(Zeroizing::new)
        .map_err(|_| NotOpened)
    }
}

/// Encrypts `plain` to whoever has the private half of `public`, for the place that `context` names. In base64.
///
/// # Errors
/// When `public` is no public key in base64.
pub fn seal_to(public: &str, context: &[&str], plain: &[u8]) -> Result<String, NotOpened> {
    let public = STANDARD.decode(public).map_err(|_| NotOpened)?;
    let public = Public::from_bytes(&public).map_err(|_| NotOpened)?;
    let (encapsulated, encrypted) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        INFO,
        plain,
        &bound(context),
    )
    .map_err(|_| NotOpened)?;
    Ok(STANDARD.encode([&encapsulated.to_bytes()[..], &encrypted].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_private_half_opens_and_only_in_its_place() {
        let key = OpeningKey::random();
        let sealed = seal_to(&key.public(), &["pod", "one"], b"value").unwrap();
        assert!(!sealed.contains("value"));
        let kept = OpeningKey::from_bytes(&key.to_bytes()).unwrap();
        assert_eq!(**kept.open(&["pod", "one"], &sealed).unwrap(), *b"value");
        assert_eq!(key.open(&["pod", "two"], &sealed).unwrap_err(), NotOpened);
        assert_eq!(OpeningKey::random().open(&["pod", "one"], &sealed).unwrap_err(), NotOpened);
        assert_ne!(seal_to(&key.public(), &["pod", "one"], b"value").unwrap(), sealed);
    }

    #[test]
    fn what_is_truncated_altered_or_no_key_is_refused() {
        let key = OpeningKey::random();
        let sealed = STANDARD.decode(seal_to(&key.public(), &[], b"value").unwrap()).unwrap();
        for length in 0..sealed.len() {
            assert!(key.open(&[], &STANDARD.encode(&sealed[..length])).is_err(), "{length}");
            let mut altered = sealed.clone();
            altered[length] ^= 1;
            assert!(key.open(&[], &STANDARD.encode(altered)).is_err(), "{length}");
        }
        assert!(key.open(&[], "no base64 !").is_err());
        for public in ["", "AAAA", "no base64 !"] {
            assert!(seal_to(public, &[], b"value").is_err(), "{public}");
        }
        assert!(OpeningKey::from_bytes(b"short").is_err());
    }
}
