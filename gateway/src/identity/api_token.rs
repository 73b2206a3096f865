//! Tokens for the API as text: `pin_`, 256 random bits, and a checksum, so that one that was cut short or mistyped is told
//! from a wrong one without asking anybody.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pinacle_bus::settings::Secret;
use rand::RngExt;
use sha2::{Digest, Sha256};

/// What a token for the API begins with, so that people and scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "pin_";
const RANDOM_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 3;
/// Base 64 without padding.
const CHECKSUM_LETTERS: usize = 4;

/// A new token. Nobody has its text but whoever gets it now.
pub fn new() -> Secret {
    let random: [u8; RANDOM_BYTES] = rand::rng().random();
    let body = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let checksum = checksum(&body);
    Secret::new(body + &checksum)
}

/// Whether a text is a whole token, whosever.
pub fn is_whole(text: &str) -> bool {
    let at = text.len().saturating_sub(CHECKSUM_LETTERS);
    text.split_at_checked(at).is_some_and(|(body, given)| {
        body.strip_prefix(TOKEN_PREFIX).is_some_and(|random| !random.is_empty()) && checksum(body) == given
    })
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    URL_SAFE_NO_PAD.encode(digest.iter().copied().take(CHECKSUM_BYTES).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_token_is_another_and_fits_a_header() {
        let (one, two) = (new(), new());
        assert_ne!(one.expose(), two.expose());
        assert!(is_whole(one.expose()) && one.expose().len() == TOKEN_PREFIX.len() + 43 + CHECKSUM_LETTERS);
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
    }

    proptest! {
        #[test]
        fn a_token_that_was_cut_short_or_changed_is_told_apart(at in 0_usize..51, letter in "[A-Za-z0-9_-]") {
            let token = new();
            let text = token.expose();
            prop_assert!(!is_whole(&text[..at]));
            let mut changed = text.to_owned();
            changed.replace_range(at..=at, &letter);
            // The checksum has 24 bits: a slip that it misses is one in 16 million.
            prop_assert!(changed == text || !is_whole(&changed));
        }

        #[test]
        fn any_text_may_be_asked_about(text in ".*") {
            prop_assert!(!is_whole(&text));
        }
    }
}
