//! What people show to be known by, and whose it is.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use chrono::Utc;
use parking_lot::Mutex;
use pinacle_store::{Database, Person, StoreErrorKind};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::{Grant, Identity, Role, Via};
use crate::problem::{Code, Problem};

/// What browsers offer as a WebSocket's subprotocol besides their token, since they cannot set headers.
pub const SUBPROTOCOL: &str = "pinacle.v1";
const BEARER_SUBPROTOCOL: &str = "bearer.";
const SESSION_COOKIE: &str = "pinacle_session";
/// What a token for the API begins with, so that people and scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "pin_";
/// While Postgres is away, who was known within this time stays known.
const REMEMBERED: Duration = Duration::from_secs(3600);
const MOST_REMEMBERED: usize = 10_000;

type Hash = [u8; 32];

/// What is held against what people show. Only digests are kept.
pub struct Keys {
    installation: Hash,
    database: Database,
    known: Mutex<HashMap<Hash, (Instant, Identity)>>,
}

/// What somebody showed.
#[derive(Debug, PartialEq, Eq)]
enum Shown<'a> {
    Token(&'a str),
    Session(&'a str),
}

impl Keys {
    /// The installation's own token, and where people's are.
    pub fn new(installation_token: &str, database: Database) -> Self {
        Self { installation: hash(installation_token), database, known: Mutex::default() }
    }

    /// Who asks; `None` for nobody.
    ///
    /// # Errors
    /// When that cannot be told now.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Option<Identity>, Problem> {
        let Some(shown) = shown(headers) else { return Ok(None) };
        let digest = match &shown {
            Shown::Token(token) => hash(token),
            Shown::Session(cookie) => hash(cookie),
        };
        if matches!(shown, Shown::Token(_)) && bool::from(digest.ct_eq(&self.installation)) {
            return Ok(Some(Identity::installation()));
        }
        if matches!(shown, Shown::Token(token) if !token.starts_with(TOKEN_PREFIX)) {
            return Ok(None);
        }
        match self.look_up(&shown, &digest).await {
            Ok(identity) => {
                self.remember(digest, identity.as_ref());
                Ok(identity)
            }
            Err(error) if *error.kind() == StoreErrorKind::Unavailable => match self.remembered(&digest) {
                Some(identity) => Ok(Some(identity)),
                None => Err(Problem::internal(Code::DatabaseUnavailable, "tell who asks", &error)),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn look_up(&self, shown: &Shown<'_>, digest: &Hash) -> Result<Option<Identity>, pinacle_store::StoreError> {
        let now = Utc::now();
        Ok(match shown {
            Shown::Token(_) => self.database.person_of_token(digest, now).await?.and_then(|(token, person)| {
                let grants = token.grants.iter().filter_map(|name| Grant::find(name)).collect();
                let only_team = token.team_id.map(|team| team.parse()).transpose().ok()?;
                identity(&person, Via::Token(token.token_id.parse().ok()?), grants, only_team)
            }),
            Shown::Session(_) => self.database.person_of_login(digest, now).await?.and_then(|(login, person)| {
                identity(&person, Via::Session(login.login_id.parse().ok()?), Grant::ALL.into(), None)
            }),
        })
    }

    fn remember(&self, digest: Hash, identity: Option<&Identity>) {
        let mut known = self.known.lock();
        let Some(identity) = identity else {
            known.remove(&digest);
            return;
        };
        if known.len() >= MOST_REMEMBERED {
            known.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if known.len() < MOST_REMEMBERED || known.contains_key(&digest) {
            known.insert(digest, (Instant::now(), identity.clone()));
        }
    }

    fn remembered(&self, digest: &Hash) -> Option<Identity> {
        let known = self.known.lock();
        known.get(digest).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, identity)| identity.clone())
    }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

fn identity(
    person: &Person,
    via: Via,
    grants: BTreeSet<Grant>,
    only_team: Option<pinacle_bus::contract::TeamId>,
) -> Option<Identity> {
    let roles = person
        .memberships
        .iter()
        .filter_map(|place| Some((place.team_id.parse().ok()?, Role::find(&place.role)?)))
        .collect();
    let user_id = person.account.user_id.parse().ok()?;
    Some(Identity::person(user_id, via, person.account.is_admin, grants, roles, only_team))
}

/// What a request carries: a token in the header `Authorization`, or for a WebSocket among the subprotocols; else the
/// cookie of a session. Never anything in the address, which ends up in logs and histories.
fn shown(headers: &HeaderMap) -> Option<Shown<'_>> {
    if let Some(given) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = given.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| Shown::Token(token.trim()));
    }
    let is_websocket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if is_websocket {
        let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        return offered.find_map(|protocol| protocol.trim().strip_prefix(BEARER_SUBPROTOCOL)).map(Shown::Token);
    }
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut cookies = cookies.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    cookies.find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == SESSION_COOKIE).then_some(Shown::Session(value))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_token_comes_in_the_header_or_as_a_websockets_subprotocol_only() {
        let token = Some(Shown::Token("abc"));
        assert_eq!(shown(&headers(&[(header::AUTHORIZATION, "Bearer abc")])), token);
        assert_eq!(shown(&headers(&[(header::AUTHORIZATION, "bearer abc")])), token);
        assert_eq!(shown(&headers(&[(header::AUTHORIZATION, "Basic abc")])), None);
        assert_eq!(shown(&headers(&[(header::AUTHORIZATION, "abc")])), None);
        let offered = (header::SEC_WEBSOCKET_PROTOCOL, "pinacle.v1, bearer.abc");
        assert_eq!(shown(&headers(&[(header::UPGRADE, "websocket"), offered.clone()])), token);
        assert_eq!(shown(&headers(&[offered])), None);
        assert_eq!(shown(&HeaderMap::new()), None);
    }

    #[test]
    fn a_cookie_opens_no_websocket_and_counts_only_without_a_token() {
        let cookie = (header::COOKIE, "a=b; pinacle_session=xyz");
        assert_eq!(shown(&headers(&[cookie.clone()])), Some(Shown::Session("xyz")));
        assert_eq!(shown(&headers(&[(header::UPGRADE, "websocket"), cookie.clone()])), None);
        assert_eq!(shown(&headers(&[(header::AUTHORIZATION, "Bearer abc"), cookie])), Some(Shown::Token("abc")));
    }
}
