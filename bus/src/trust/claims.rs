//! Claims as NATS reads them, version 2: JSON, signed with the issuer's ed25519 key.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha512_256};

use super::{AccountKeys, TrustError};
use crate::contract::{
    Timestamp,
    grant::{self, Grant},
};

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
const VERSION: u32 = 2;
const UNLIMITED: i64 = -1;
/// A host needs two subscriptions; one that asks for many more is none of ours.
const SUBSCRIPTIONS_OF_A_HOST: i64 = 32;

/// The frame of all claims.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims<T> {
    #[serde(default)]
    pub jti: String,
    pub iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    pub iss: String,
    pub name: String,
    pub sub: String,
    pub nats: T,
}

/// Signs claims about `subject` now.
pub(super) fn sign<T: Serialize>(
    issuer: &KeyPair,
    name: &str,
    subject: &str,
    expires_at: Option<Timestamp>,
    nats: &T,
) -> Result<String, TrustError> {
    sign_at(Timestamp::now(), issuer, name, subject, expires_at, nats)
}

/// Signs claims as of another moment.
pub(super) fn sign_at<T: Serialize>(
    issued_at: Timestamp,
    issuer: &KeyPair,
    name: &str,
    subject: &str,
    expires_at: Option<Timestamp>,
    nats: &T,
) -> Result<String, TrustError> {
    let mut claims = Claims {
        jti: String::new(),
        iat: seconds(issued_at),
        exp: expires_at.map(seconds),
        iss: issuer.public_key(),
        name: name.to_owned(),
        sub: subject.to_owned(),
        nats,
    };
    // As the reference does it: the id is the digest of the rest, in an alphabet without padding.
    let rest = serde_json::to_vec(&claims).map_err(TrustError::Encode)?;
    claims.jti = Sha512_256::digest(rest).iter().map(|byte| format!("{byte:02X}")).collect();
    let body = serde_json::to_vec(&claims).map_err(TrustError::Encode)?;
    let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(body));
    let signature = issuer.sign(signed.as_bytes()).map_err(|_| TrustError::CannotSign)?;
    Ok(format!("{signed}.{}", BASE64.encode(signature)))
}

/// Reads claims and checks that their issuer signed them; whether the issuer is one to trust is the caller's.
pub(super) fn read<T: DeserializeOwned>(jwt: &str) -> Result<Claims<T>, TrustError> {
    const MALFORMED: TrustError = TrustError::Malformed("the claims cannot be read");
    let (signed, signature) = jwt.rsplit_once('.').ok_or(MALFORMED)?;
    let (header, body) = signed.split_once('.').ok_or(MALFORMED)?;
    let header: Header = part(header).ok_or(MALFORMED)?;
    if header.alg != "ed25519-nkey" {
        return Err(TrustError::Malformed("the claims are signed in a way that is not ours"));
    }
    let claims: Claims<T> = part(body).ok_or(MALFORMED)?;
    let signature = BASE64.decode(signature).map_err(|_| MALFORMED)?;
    let issuer = KeyPair::from_public_key(&claims.iss).map_err(|_| MALFORMED)?;
    issuer.verify(signed.as_bytes(), &signature).map_err(|_| TrustError::Signature)?;
    Ok(claims)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64.decode(text).ok()?).ok()
}

pub(super) fn seconds(time: Timestamp) -> i64 {
    time.as_millis().div_euclid(1000)
}

#[derive(Serialize)]
struct Permission {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

impl Permission {
    fn only(allow: &[String], never: &[String]) -> Self {
        // To the server no list at all means no limit at all.
        let deny = if allow.is_empty() { vec![">".into()] } else { never.to_vec() };
        Self { allow: allow.to_vec(), deny }
    }
}

#[derive(Serialize)]
struct Answers {
    max: i64,
    /// Nanoseconds.
    ttl: u64,
}

#[derive(Serialize)]
struct Limits {
    #[serde(rename = "pub")]
    publish: Permission,
    #[serde(rename = "sub")]
    subscribe: Permission,
    #[serde(skip_serializing_if = "Option::is_none")]
    resp: Option<Answers>,
    subs: i64,
    data: i64,
    payload: i64,
}

impl Limits {
    fn of(grant: &Grant, subscriptions: i64) -> Self {
        Self {
            publish: Permission::only(&grant.publish, &grant.never_publish),
            subscribe: Permission::only(&grant.subscribe, &[]),
            resp: grant
                .answer_for
                .map(|time| Answers { max: UNLIMITED, ttl: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) }),
            subs: subscriptions,
            data: UNLIMITED,
            payload: UNLIMITED,
        }
    }
}

/// A user's own part.
#[derive(Serialize)]
pub(super) struct User<'a> {
    #[serde(flatten)]
    limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer_account: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'static str,
    version: u32,
}

impl<'a> User<'a> {
    /// What it may do stands in its account's claims.
    pub fn scoped(account: &'a str) -> Self {
        Self { limits: None, issuer_account: Some(account), kind: "user", version: VERSION }
    }

    /// What it may do stands here.
    pub fn with(grant: &Grant) -> Self {
        Self { limits: Some(Limits::of(grant, UNLIMITED)), issuer_account: None, kind: "user", version: VERSION }
    }
}

/// An operator's own part.
#[derive(Serialize)]
pub(super) struct Operator<'a> {
    system_account: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    version: u32,
}

impl<'a> Operator<'a> {
    pub fn new(system_account: &'a str) -> Self {
        Self { system_account, kind: "operator", version: VERSION }
    }
}

#[derive(Serialize)]
struct Import {
    name: String,
    subject: String,
    account: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Export {
    name: &'static str,
    subject: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    account_token_position: u32,
}

#[derive(Serialize)]
struct AccountLimits {
    subs: i64,
    data: i64,
    payload: i64,
    imports: i64,
    exports: i64,
    wildcards: bool,
    disallow_bearer: bool,
    conn: i64,
    leaf: i64,
    mem_storage: i64,
    disk_storage: i64,
    streams: i64,
    consumer: i64,
}

#[derive(Serialize)]
struct Scope {
    kind: &'static str,
    key: String,
    role: &'static str,
    template: Limits,
    description: &'static str,
}

/// An account's own part.
#[derive(Serialize)]
pub(super) struct Account {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imports: Vec<Import>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exports: Vec<Export>,
    limits: AccountLimits,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signing_keys: Vec<Scope>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    revocations: BTreeMap<String, i64>,
    #[serde(rename = "type")]
    kind: &'static str,
    version: u32,
}

/// The server's notices about connections to an account.
const NOTICES: [(&str, &str); 2] = [("connects", "CONNECT"), ("disconnects", "DISCONNECT")];

impl Account {
    fn new(streams: bool) -> Self {
        let stored = if streams { UNLIMITED } else { 0 };
        Self {
            imports: Vec::new(),
            exports: Vec::new(),
            limits: AccountLimits {
                subs: UNLIMITED,
                data: UNLIMITED,
                payload: UNLIMITED,
                imports: UNLIMITED,
                exports: UNLIMITED,
                wildcards: true,
                disallow_bearer: true,
                conn: UNLIMITED,
                leaf: 0,
                mem_storage: stored,
                disk_storage: stored,
                streams: stored,
                consumer: stored,
            },
            signing_keys: Vec::new(),
            revocations: BTreeMap::new(),
            kind: "account",
            version: VERSION,
        }
    }

    /// The system account: lends each account the notices about its own connections.
    pub fn system() -> Self {
        let subjects = ["$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT"];
        let exports = NOTICES.iter().zip(subjects).map(|((name, _), subject)| Export {
            name,
            subject,
            kind: "stream",
            account_token_position: 3,
        });
        Self { exports: exports.collect(), ..Self::new(false) }
    }

    /// See [`super::account_jwt`].
    pub fn application(keys: &AccountKeys, revoked: &[(String, Timestamp)]) -> Self {
        let imports = NOTICES.iter().map(|(name, what)| Import {
            name: (*name).to_owned(),
            subject: format!("$SYS.ACCOUNT.{}.{what}", keys.account),
            account: keys.system.clone(),
            kind: "stream",
        });
        let hosts = Scope {
            kind: "user_scope",
            key: keys.hosts.clone(),
            role: "hosts",
            template: Limits::of(&grant::host(), SUBSCRIPTIONS_OF_A_HOST),
            description: "each host its own subjects",
        };
        Self {
            imports: imports.collect(),
            signing_keys: vec![hosts],
            revocations: revoked.iter().map(|(user, time)| (user.clone(), seconds(*time))).collect(),
            ..Self::new(true)
        }
    }
}

/// What an operator signs.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Part<'a> {
    Operator(Operator<'a>),
    Account(Account),
}

/// Whether a key may issue users.
pub(super) fn issues_users(public_key: &str) -> bool {
    KeyPair::from_public_key(public_key).is_ok_and(|key| key.key_pair_type() == KeyPairType::Account)
}
