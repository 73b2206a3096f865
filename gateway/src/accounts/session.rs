//! A person's session: two cookies, of which the table has the digests. One is for the browser alone; the other is read
//! by our pages and given back in a header, which pages of elsewhere cannot.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};
use chrono::{DateTime, TimeDelta, Utc};
use pinacle_bus::contract::{LoginId, UserId};
use pinacle_store::LoginRow;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::token;
use crate::settings::Gateway;

/// The header that a page gives the second cookie back in.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// How much is kept of what a browser calls itself.
const LONGEST_AGENT: usize = 300;

/// What the cookies are called, and how long a session lasts.
#[derive(Debug, Clone)]
pub struct Sessions {
    is_secure: bool,
    idle: TimeDelta,
    most: TimeDelta,
}

/// A session that begins.
pub struct Fresh {
    /// For the table.
    pub row: LoginRow,
    /// For the browser.
    pub cookies: [HeaderValue; 2],
    /// For the page.
    pub csrf_token: String,
}

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The other side's address.
    pub address: String,
    /// What the browser calls itself.
    pub agent: String,
}

impl Visit {
    /// Of a request from this address.
    pub fn new(address: IpAddr, headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self { address: address.to_string(), agent: agent.chars().take(LONGEST_AGENT).collect() }
    }
}

impl Sessions {
    /// From the settings.
    pub fn new(settings: &Gateway) -> Self {
        let duration = |ms: u64| TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 2));
        Self {
            is_secure: settings.public_url().starts_with("https://"),
            idle: duration(settings.session_idle_ms),
            most: duration(settings.session_max_ms),
        }
    }

    /// Whether people reach the gateway over TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The cookie that a session is known by. Over TLS browsers take one of that name from this very host alone.
    pub fn cookie(&self) -> &'static str {
        if self.is_secure { "__Host-pinacle_session" } else { "pinacle_session" }
    }

    /// The cookie that pages read.
    pub fn csrf_cookie(&self) -> &'static str {
        if self.is_secure { "__Host-pinacle_csrf" } else { "pinacle_csrf" }
    }

    /// A new session, unlike any before: what a browser had until now is never taken over.
    pub fn begin(&self, user_id: UserId, visit: Visit, now: DateTime<Utc>) -> Fresh {
        let (secret, csrf_token) = (token::generate(), token::generate());
        let row = LoginRow {
            login_id: LoginId::new().to_string(),
            user_id: user_id.to_string(),
            token_hash: Sha256::digest(&secret).to_vec(),
            csrf_hash: Sha256::digest(&csrf_token).to_vec(),
            created_at: now,
            seen_at: now,
            expires_at: self.end(now, now),
            remote_address: visit.address,
            user_agent: visit.agent,
        };
        let age = self.most.num_seconds();
        let cookies =
            [self.set(self.cookie(), &secret, age, "; HttpOnly"), self.set(self.csrf_cookie(), &csrf_token, age, "")];
        Fresh { row, cookies, csrf_token }
    }

    /// What takes the cookies away again.
    pub fn farewell(&self) -> [HeaderValue; 2] {
        [self.set(self.cookie(), "", 0, "; HttpOnly"), self.set(self.csrf_cookie(), "", 0, "")]
    }

    /// When a session is to be noted as used at `now`: its new end. Not for each request: a twentieth of the idle time
    /// is near enough.
    pub fn touch(&self, row: &LoginRow, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (now - row.seen_at > self.idle / 20).then(|| self.end(row.created_at, now))
    }

    fn end(&self, created_at: DateTime<Utc>, seen_at: DateTime<Utc>) -> DateTime<Utc> {
        (created_at + self.most).min(seen_at + self.idle)
    }

    /// A cookie for this host alone. What goes into it is ours: a name and letters of a token.
    fn set(&self, name: &str, value: &str, age: i64, more: &str) -> HeaderValue {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; Max-Age={age}; SameSite=Lax{secure}{more}");
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Whether the header holds the second cookie of this session.
pub fn has_csrf_token(headers: &HeaderMap, csrf_hash: &[u8]) -> bool {
    let given = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).and_then(token::digest);
    given.is_some_and(|digest| bool::from(digest.ct_eq(csrf_hash)))
}

/// A cookie's value, of those that a request carries.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|cookie| {
        let (found, value) = cookie.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}
