//! What people show to be known by, and whose it is.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use axum::http::{HeaderMap, Method, header};
use chrono::Utc;
use parking_lot::Mutex;
use pinacle_store::{ApiTokenRow, Database, Person, StoreError, StoreErrorKind};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tracing::warn;

use super::{Actor, Grant, Identity, Role, Via, api_token};
use crate::{
    accounts::{
        origin,
        session::{self, Sessions},
    },
    problem::{Code, Problem},
};

/// What browsers offer as a WebSocket's subprotocol besides their token, since they cannot set headers.
pub const SUBPROTOCOL: &str = "pinacle.v1";
const BEARER_SUBPROTOCOL: &str = "bearer.";
/// What a ticket for one WebSocket begins with.
pub const TICKET_PREFIX: &str = "ticket_";
/// While Postgres is away, who was known within this time stays known.
const REMEMBERED: Duration = Duration::from_secs(3600);
const MOST_REMEMBERED: usize = 10_000;

type Hash = [u8; 32];

/// What is held against what people show. Only digests are kept.
pub struct Keys {
    installation: Hash,
    database: Database,
    sessions: Sessions,
    /// The origin of our own pages.
    public: String,
    known: Mutex<HashMap<Hash, (Instant, Known)>>,
}

/// Who somebody is, by what they showed.
#[derive(Debug, Clone)]
struct Known {
    identity: Identity,
    /// Of a session: the digest of what a change has to show besides the cookie.
    csrf_hash: Option<Vec<u8>>,
}

/// What somebody showed.
#[derive(Debug, PartialEq, Eq)]
enum Shown<'a> {
    Token(&'a str),
    Ticket(&'a str),
    Session(&'a str),
}

impl Keys {
    /// The installation's own token, and where people's are. `public` is the origin of our own pages.
    pub fn new(installation_token: &str, database: Database, sessions: Sessions, public: &str) -> Self {
        let installation = hash(installation_token);
        Self { installation, database, sessions, public: public.to_owned(), known: Mutex::default() }
    }

    /// Who asks; `None` for nobody.
    ///
    /// # Errors
    /// When that cannot be told now, or a session's cookie comes without what shows that a page of ours sent it.
    pub async fn identify(&self, method: &Method, headers: &HeaderMap) -> Result<Option<Identity>, Problem> {
        let Some(shown) = shown(headers, self.sessions.cookie()) else { return Ok(None) };
        let digest = match &shown {
            Shown::Token(text) | Shown::Ticket(text) | Shown::Session(text) => hash(text),
        };
        if matches!(shown, Shown::Token(_)) && bool::from(digest.ct_eq(&self.installation)) {
            return Ok(Some(Identity::installation()));
        }
        if matches!(shown, Shown::Token(token) if !api_token::is_whole(token)) {
            return Ok(None);
        }
        let known = match self.look_up(&shown, &digest).await {
            Ok(known) => {
                self.remember(digest, known.as_ref());
                known
            }
            Err(error) if *error.kind() == StoreErrorKind::Unavailable => match self.remembered(&digest) {
                Some(known) => Some(known),
                None => return Err(Problem::internal(Code::DatabaseUnavailable, "tell who asks", &error)),
            },
            Err(error) => return Err(error.into()),
        };
        let Some(known) = known else { return Ok(None) };
        if matches!(shown, Shown::Session(_)) && !origin::is_safe(method) {
            let is_ours = origin::is_own(headers, &self.public)
                && known.csrf_hash.is_some_and(|csrf_hash| session::has_csrf_token(headers, &csrf_hash));
            if !is_ours {
                metrics::counter!("pinacle_gateway_cross_site_total").increment(1);
                return Err(Problem::new(Code::CrossSite, Code::CrossSite.explanation()));
            }
        }
        Ok(Some(known.identity))
    }

    /// Who it is by now that somebody was: for what stays open. `None` when what they showed counts no more.
    ///
    /// # Errors
    /// When that cannot be told now.
    pub async fn again(&self, identity: &Identity) -> Result<Option<Identity>, StoreError> {
        let now = Utc::now();
        let Actor::User { via, .. } = identity.actor() else { return Ok(Some(identity.clone())) };
        Ok(match via {
            Via::Session(login_id) => self
                .database
                .person_of_login_id(&login_id.to_string(), now)
                .await?
                .and_then(|(_, person)| of_session(&person, via)),
            Via::Token(token_id) => {
                let found = self.database.person_of_token_id(&token_id.to_string(), now).await?;
                found.and_then(|(token, person)| of_token(&token, &person))
            }
        })
    }

    async fn look_up(&self, shown: &Shown<'_>, digest: &Hash) -> Result<Option<Known>, StoreError> {
        let now = Utc::now();
        let found = match shown {
            Shown::Token(_) => {
                let Some((token, person)) = self.database.person_of_token(digest, now).await? else { return Ok(None) };
                if let Err(error) = self.database.token_used(&token, now).await {
                    warn!("cannot note that a token was used: {error}");
                }
                let identity = of_token(&token, &person);
                return Ok(identity.map(|identity| Known { identity, csrf_hash: None }));
            }
            Shown::Ticket(_) => self.database.person_of_ticket(digest, now).await?,
            Shown::Session(_) => self.database.person_of_login(digest, now).await?,
        };
        let Some((login, person)) = found else { return Ok(None) };
        if let Some(end) = self.sessions.touch(&login, now)
            && let Err(error) = self.database.login_touch(&login.login_id, now, end).await
        {
            warn!("cannot note that a session was used: {error}");
        }
        let identity = login.login_id.parse().ok().and_then(|login_id| of_session(&person, Via::Session(login_id)));
        Ok(identity.map(|identity| Known { identity, csrf_hash: Some(login.csrf_hash) }))
    }

    fn remember(&self, digest: Hash, found: Option<&Known>) {
        let mut known = self.known.lock();
        let Some(found) = found else {
            known.remove(&digest);
            return;
        };
        if known.len() >= MOST_REMEMBERED {
            known.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if known.len() < MOST_REMEMBERED || known.contains_key(&digest) {
            known.insert(digest, (Instant::now(), found.clone()));
        }
    }

    fn remembered(&self, digest: &Hash) -> Option<Known> {
        let known = self.known.lock();
        known.get(digest).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, found)| found.clone())
    }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

fn of_session(person: &Person, via: Via) -> Option<Identity> {
    identity(person, via, Grant::ALL.into(), None)
}

fn of_token(token: &ApiTokenRow, person: &Person) -> Option<Identity> {
    let grants = token.grants.iter().filter_map(|name| Grant::find(name)).collect();
    let only_team = token.team_id.as_deref().map(str::parse).transpose().ok()?;
    identity(person, Via::Token(token.token_id.parse().ok()?), grants, only_team)
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

/// What a request carries: a token in the header `Authorization`, or for a WebSocket a token or a ticket among the
/// subprotocols; else the cookie of a session. Never anything in the address, which ends up in logs and histories.
fn shown<'a>(headers: &'a HeaderMap, session_cookie: &str) -> Option<Shown<'a>> {
    if let Some(given) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = given.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| Shown::Token(token.trim()));
    }
    let is_websocket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if is_websocket {
        let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let given = offered.find_map(|protocol| protocol.trim().strip_prefix(BEARER_SUBPROTOCOL))?;
        return Some(if given.starts_with(TICKET_PREFIX) { Shown::Ticket(given) } else { Shown::Token(given) });
    }
    session::cookie(headers, session_cookie).map(Shown::Session)
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

    fn found(headers: &HeaderMap) -> Option<Shown<'_>> {
        shown(headers, "pinacle_session")
    }

    #[test]
    fn a_token_comes_in_the_header_or_as_a_websockets_subprotocol_only() {
        let token = Some(Shown::Token("abc"));
        assert_eq!(found(&headers(&[(header::AUTHORIZATION, "Bearer abc")])), token);
        assert_eq!(found(&headers(&[(header::AUTHORIZATION, "bearer abc")])), token);
        assert_eq!(found(&headers(&[(header::AUTHORIZATION, "Basic abc")])), None);
        assert_eq!(found(&headers(&[(header::AUTHORIZATION, "abc")])), None);
        let offered = (header::SEC_WEBSOCKET_PROTOCOL, "pinacle.v1, bearer.abc");
        assert_eq!(found(&headers(&[(header::UPGRADE, "websocket"), offered.clone()])), token);
        assert_eq!(found(&headers(&[offered])), None);
        assert_eq!(found(&HeaderMap::new()), None);
    }

    #[test]
    fn a_cookie_opens_no_websocket_and_counts_only_without_a_token() {
        let cookie = (header::COOKIE, "a=b; pinacle_session=xyz");
        assert_eq!(found(&headers(std::slice::from_ref(&cookie))), Some(Shown::Session("xyz")));
        assert_eq!(found(&headers(&[(header::UPGRADE, "websocket"), cookie.clone()])), None);
        assert_eq!(found(&headers(&[(header::AUTHORIZATION, "Bearer abc"), cookie])), Some(Shown::Token("abc")));
    }
}
