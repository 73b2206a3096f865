//! Random tokens of 256 bit. Whoever holds one is who it was given to; we keep its digest alone.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngExt;
use sha2::{Digest, Sha256};

/// What a token of ours may at most be long: longer ones are not even hashed.
const LONGEST: usize = 128;

/// Letters of a token.
pub const LENGTH: usize = 43;

/// A new token, in letters that may stand anywhere.
pub fn generate() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of a token; `None` for what is too long to be one.
pub fn digest(token: &str) -> Option<Vec<u8>> {
    (token.len() <= LONGEST).then(|| Sha256::digest(token.as_bytes()).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_unlike_and_harmless_in_addresses_and_headers() {
        let (one, other) = (generate(), generate());
        assert_ne!(one, other);
        assert_eq!(one.len(), LENGTH);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{one}");
        assert_eq!(digest(&one).unwrap().len(), 32);
        assert!(digest(&"x".repeat(129)).is_none());
    }
}
