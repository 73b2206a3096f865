//! The keys of an installation: all of them, and the part that admits and revokes hosts.

use std::time::Duration;

use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};

use super::{Credentials, TrustError, claims, from_seed, require, scoped_user_jwt, user_jwt};
use crate::contract::{
    Timestamp,
    grant::{self, Grant, Role},
};

/// The public keys that the claims of the application's account consist of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountKeys {
    /// The account itself.
    pub account: String,
    /// Its signing key for hosts.
    pub hosts: String,
    /// The account that the server's notices come from.
    pub system: String,
}

/// What it takes to admit hosts and to revoke them: nothing here makes a service's user.
pub struct Authority {
    /// Signs the account's claims.
    pub operator: KeyPair,
    /// Signs hosts' claims.
    pub hosts: KeyPair,
    /// What the account's claims consist of.
    pub account: AccountKeys,
    /// Of a user of the system account that may push the account's claims to the servers.
    pub system_user: Credentials,
}

#[derive(Serialize, Deserialize)]
struct AuthorityText {
    operator_seed: String,
    hosts_seed: String,
    account: String,
    system: String,
    system_credentials: String,
}

impl Authority {
    /// Reads what [`Authority::to_text`] wrote.
    ///
    /// # Errors
    /// When it is no such text, or a key in it not of its kind.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let text: AuthorityText =
            serde_json::from_str(text).map_err(|_| TrustError::Malformed("the text holds no authority's keys"))?;
        require(&text.account, &KeyPairType::Account, "the account's key", "an account's public key")?;
        require(&text.system, &KeyPairType::Account, "the system account's key", "an account's public key")?;
        let hosts = from_seed(&text.hosts_seed, &KeyPairType::Account, "the hosts' key", "an account's seed")?;
        Ok(Self {
            operator: from_seed(&text.operator_seed, &KeyPairType::Operator, "the operator's key", "its seed")?,
            account: AccountKeys { account: text.account, hosts: hosts.public_key(), system: text.system },
            hosts,
            system_user: Credentials::parse(&text.system_credentials)?,
        })
    }

    /// JSON for a file that is its owner's alone: it is a secret.
    ///
    /// # Errors
    /// When a seed is missing.
    pub fn to_text(&self) -> Result<String, TrustError> {
        let text = AuthorityText {
            operator_seed: seed(&self.operator)?,
            hosts_seed: seed(&self.hosts)?,
            account: self.account.account.clone(),
            system: self.account.system.clone(),
            system_credentials: self.system_user.to_text()?,
        };
        serde_json::to_string_pretty(&text).map_err(TrustError::Encode)
    }
}

const A_MOMENT: Duration = Duration::from_secs(2);
/// The name of the user of the system account that pushes claims.
const SYSTEM_USER: &str = "authority";

/// All keys of an installation. Whoever has them can be anybody.
pub struct Keys {
    operator: KeyPair,
    system: KeyPair,
    account: KeyPair,
    hosts: KeyPair,
}

#[derive(Serialize, Deserialize)]
struct KeysText {
    operator_seed: String,
    system_seed: String,
    account_seed: String,
    hosts_seed: String,
}

impl Keys {
    /// Makes new ones.
    pub fn generate() -> Self {
        Self {
            operator: KeyPair::new_operator(),
            system: KeyPair::new_account(),
            account: KeyPair::new_account(),
            hosts: KeyPair::new_account(),
        }
    }

    /// Reads what [`Keys::to_text`] wrote.
    ///
    /// # Errors
    /// When it is no such text, or a key in it not of its kind.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let text: KeysText =
            serde_json::from_str(text).map_err(|_| TrustError::Malformed("the text holds no installation's keys"))?;
        let account = |seed: &str, what| from_seed(seed, &KeyPairType::Account, what, "an account's seed");
        Ok(Self {
            operator: from_seed(&text.operator_seed, &KeyPairType::Operator, "the operator's key", "its seed")?,
            system: account(&text.system_seed, "the system account's key")?,
            account: account(&text.account_seed, "the account's key")?,
            hosts: account(&text.hosts_seed, "the hosts' key")?,
        })
    }

    /// JSON for a file that is its owner's alone: it is a secret.
    ///
    /// # Errors
    /// When a seed is missing.
    pub fn to_text(&self) -> Result<String, TrustError> {
        let text = KeysText {
            operator_seed: seed(&self.operator)?,
            system_seed: seed(&self.system)?,
            account_seed: seed(&self.account)?,
            hosts_seed: seed(&self.hosts)?,
        };
        serde_json::to_string_pretty(&text).map_err(TrustError::Encode)
    }

    /// The part that admits and revokes hosts.
    ///
    /// # Errors
    /// When a key cannot sign.
    pub fn authority(&self) -> Result<Authority, TrustError> {
        let user = KeyPair::new_user();
        let jwt = user_jwt(&self.system, SYSTEM_USER, &user.public_key(), &grant::claims(SYSTEM_USER))?;
        Ok(Authority {
            operator: self.operator.clone(),
            hosts: self.hosts.clone(),
            account: self.account_keys(),
            system_user: Credentials::new(jwt, user)?,
        })
    }

    /// Credentials of a user of the application's account, with a key of its own.
    ///
    /// # Errors
    /// When the account's key cannot sign.
    pub fn user(&self, name: &str, grant: &Grant) -> Result<Credentials, TrustError> {
        let user = KeyPair::new_user();
        let jwt = user_jwt(&self.account, name, &user.public_key(), grant)?;
        Credentials::new(jwt, user)
    }

    /// Credentials of a service, or of whoever else has a role.
    ///
    /// # Errors
    /// When the account's key cannot sign.
    pub fn role(&self, role: Role) -> Result<Credentials, TrustError> {
        self.user(role.name(), &role.grant())
    }

    /// Credentials of a host without an end, for a machine that the keys are on anyway.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn host(&self, name: &str) -> Result<Credentials, TrustError> {
        let user = KeyPair::new_user();
        let jwt = scoped_user_jwt(&self.hosts, &self.account.public_key(), name, &user.public_key(), None)?;
        Credentials::new(jwt, user)
    }

    /// The part of a NATS server's configuration that says who is who: the operator and the first claims of the accounts.
    /// Once a server has newer claims of an account it keeps to those.
    ///
    /// # Errors
    /// When a key cannot sign.
    pub fn server_configuration(&self) -> Result<String, TrustError> {
        let (operator, system, account) =
            (self.operator.public_key(), self.system.public_key(), self.account.public_key());
        let sign = |name, subject: &str, nats: &claims::Part<'_>| {
            // A moment old, so that whatever is pushed later is newer: claims count seconds.
            claims::sign_at(Timestamp::now().minus(A_MOMENT), &self.operator, name, subject, None, nats)
        };
        let operator = sign("PINACLE", &operator, &claims::Part::Operator(claims::Operator::new(&system)))?;
        let system_jwt = sign("SYS", &system, &claims::Part::Account(claims::Account::system()))?;
        let application = claims::Account::application(&self.account_keys(), &[]);
        let account_jwt = sign("PINACLE", &account, &claims::Part::Account(application))?;
        Ok(format!(
            "# Made by Pinacle: who is who on the bus. It holds no secret.\n\
             operator: \"{operator}\"\nsystem_account: {system}\n\
             resolver_preload {{\n  {system}: \"{system_jwt}\"\n  {account}: \"{account_jwt}\"\n}}\n"
        ))
    }

    fn account_keys(&self) -> AccountKeys {
        AccountKeys {
            account: self.account.public_key(),
            hosts: self.hosts.public_key(),
            system: self.system.public_key(),
        }
    }
}

fn seed(key: &KeyPair) -> Result<String, TrustError> {
    key.seed().map_err(|_| TrustError::CannotSign)
}
