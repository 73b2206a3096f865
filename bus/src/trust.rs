//! Who is who on the bus: keys, the claims (JWTs) that one key signs for another, and the credentials of a user.
//!
//! The operator signs accounts, an account signs its users. The account of Pinacle has a second signing key, `hosts`,
//! whose users have what [`grant::host`](crate::contract::grant::host) says and no more, whatever their claims say: who
//! has that key can make hosts and nothing else. A key pair is made where it is used; only its public half travels.

mod certificate;
mod claims;
mod credentials;
mod keys;

use nkeys::{KeyPair, KeyPairType};

use crate::contract::{HostId, Timestamp, grant::Grant};
pub use certificate::{Certificate, CertificateAuthority};
pub use credentials::Credentials;
pub use keys::{AccountKeys, Authority, Keys};

/// The signing key type, for whoever makes or keeps one.
pub use nkeys;

/// Why something about keys, claims or credentials was refused. It never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key is none, or not of the kind that is needed.
    #[error("{what} is not {wanted}")]
    Key {
        /// Which.
        what: &'static str,
        /// Such as `a user's public key`.
        wanted: &'static str,
    },
    /// A text that should hold claims or credentials does not.
    #[error("{0}")]
    Malformed(&'static str),
    /// A signature does not fit what it is said to sign.
    #[error("the signature is not of this key and this content")]
    Signature,
    /// A key could not sign: only its public half is there.
    #[error("the key cannot sign")]
    CannotSign,
    /// A certificate could not be made or read.
    #[error("the certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    /// Claims could not be written.
    #[error("the claims cannot be written")]
    Encode(#[source] serde_json::Error),
}

/// The claims of a host's user: it may do what its account's key `hosts` grants, in the host's name, until `expires_at`.
///
/// # Errors
/// When a key is not of its kind: `hosts_signing_key` an account's seed, `account_public_key` an account's public key,
/// `user_public_key` a user's.
pub fn host_jwt(
    hosts_signing_key: &KeyPair,
    account_public_key: &str,
    host: HostId,
    user_public_key: &str,
    expires_at: Timestamp,
) -> Result<String, TrustError> {
    scoped_user_jwt(hosts_signing_key, account_public_key, &host.to_string(), user_public_key, Some(expires_at))
}

/// The claims of a user of the application's account that has the grant of the scoped `signing_key`.
fn scoped_user_jwt(
    signing_key: &KeyPair,
    account_public_key: &str,
    name: &str,
    user_public_key: &str,
    expires_at: Option<Timestamp>,
) -> Result<String, TrustError> {
    require(account_public_key, &KeyPairType::Account, "the account's key", "an account's public key")?;
    require(user_public_key, &KeyPairType::User, "the user's key", "a user's public key")?;
    let user = claims::User::scoped(account_public_key);
    claims::sign(signing_key, name, user_public_key, expires_at, &user)
}

/// The claims of a user of the account whose key this is, with a grant of its own and without an end.
///
/// # Errors
/// When a key is not of its kind.
pub fn user_jwt(account_key: &KeyPair, name: &str, user_public_key: &str, grant: &Grant) -> Result<String, TrustError> {
    require(user_public_key, &KeyPairType::User, "the user's key", "a user's public key")?;
    claims::sign(account_key, name, user_public_key, None, &claims::User::with(grant))
}

/// The claims of the application's account: streams, the server's notices, the key `hosts` with its grant, and which
/// users are revoked. A revoked user's claims count for nothing when they were made at or before that time, to the
/// second; the list is the whole list, so whoever is missing in it is a user again.
///
/// # Errors
/// When the operator's key cannot sign, or a revoked key is no user's.
pub fn account_jwt(
    operator_key: &KeyPair,
    account: &AccountKeys,
    revoked: &[(String, Timestamp)],
) -> Result<String, TrustError> {
    for (user, _) in revoked {
        require(user, &KeyPairType::User, "a revoked key", "a user's public key")?;
    }
    let application = claims::Account::application(account, revoked);
    claims::sign(operator_key, "PINACLE", &account.account, None, &application)
}

/// Checks that whoever holds the key pair of a user's public key signed `message`.
///
/// # Errors
/// [`TrustError::Key`] when it is no user's public key, [`TrustError::Signature`] when the signature does not fit.
pub fn verify(user_public_key: &str, message: &[u8], signature: &[u8]) -> Result<(), TrustError> {
    require(user_public_key, &KeyPairType::User, "the user's key", "a user's public key")?
        .verify(message, signature)
        .map_err(|_| TrustError::Signature)
}

/// The name of the user that claims are about.
///
/// # Errors
/// When the claims cannot be read or their issuer has not signed them. Whether the issuer is one of ours is not asked:
/// this is for claims that the server has admitted.
pub fn user_in(jwt: &str) -> Result<String, TrustError> {
    Ok(claims::read::<serde::de::IgnoredAny>(jwt)?.name)
}

fn require(
    public_key: &str,
    kind: &KeyPairType,
    what: &'static str,
    wanted: &'static str,
) -> Result<KeyPair, TrustError> {
    match KeyPair::from_public_key(public_key) {
        Ok(key) if key.key_pair_type() == *kind => Ok(key),
        _ => Err(TrustError::Key { what, wanted }),
    }
}

fn from_seed(seed: &str, kind: &KeyPairType, what: &'static str, wanted: &'static str) -> Result<KeyPair, TrustError> {
    match KeyPair::from_seed(seed) {
        Ok(key) if key.key_pair_type() == *kind => Ok(key),
        _ => Err(TrustError::Key { what, wanted }),
    }
}

#[cfg(test)]
mod tests;
