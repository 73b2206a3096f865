//! A user's claims and its key's seed: what it takes to connect.

use std::fmt;

use nkeys::{KeyPair, KeyPairType};
use serde::de::IgnoredAny;

use super::{TrustError, claims, from_seed};
use crate::contract::Timestamp;

/// A user's credentials, read from and written as the text of a NATS `.creds` file. Shown, they are the user's name.
#[derive(Clone)]
pub struct Credentials {
    jwt: String,
    key: KeyPair,
    name: String,
    expires_at: Option<Timestamp>,
}

impl Credentials {
    /// Puts claims and key together.
    ///
    /// # Errors
    /// When the claims are not a user's, not rightly signed, or of another key.
    pub fn new(jwt: impl Into<String>, key: KeyPair) -> Result<Self, TrustError> {
        let jwt = jwt.into();
        let claims = claims::read::<IgnoredAny>(&jwt)?;
        if !claims::issues_users(&claims.iss) {
            return Err(TrustError::Malformed("the claims are not signed by an account"));
        }
        if claims.sub != key.public_key() {
            return Err(TrustError::Malformed("the claims are of another key"));
        }
        if claims.name.is_empty() || claims.name.contains(['.', '*', '>', ' ']) {
            return Err(TrustError::Malformed("the claims name no user"));
        }
        let expires_at = claims.exp.and_then(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)));
        Ok(Self { jwt, key, name: claims.name, expires_at })
    }

    /// Reads the text of a `.creds` file.
    ///
    /// # Errors
    /// As [`Credentials::new`], and when the text is none.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let mut blocks = text.split_whitespace().filter(|word| word.len() >= 50 && !word.starts_with(['-', '*']));
        let (Some(jwt), Some(seed)) = (blocks.next(), blocks.next()) else {
            return Err(TrustError::Malformed("the text holds no credentials: claims and a seed, as in a .creds file"));
        };
        Self::new(jwt, from_seed(seed, &KeyPairType::User, "the seed", "a user's seed")?)
    }

    /// The text of a `.creds` file. It is a secret.
    ///
    /// # Errors
    /// When only the key's public half is there.
    pub fn to_text(&self) -> Result<String, TrustError> {
        let seed = self.key.seed().map_err(|_| TrustError::CannotSign)?;
        Ok(format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n",
            self.jwt
        ))
    }

    /// The user's name: the host's id for a host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The claims.
    pub fn jwt(&self) -> &str {
        &self.jwt
    }

    /// The key.
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// When the claims end; `None` = never.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.name)
    }
}
