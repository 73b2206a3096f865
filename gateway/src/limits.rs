//! How often things may be asked: the API by who asks, signing in by account and by address, enrolment by address.
//!
//! Each copy of the gateway counts for itself, in memory that has a bound; a restart begins anew.

mod backoff;
pub(crate) mod pace;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    api::App,
    problem::{Code, Problem},
    request,
    settings::Gateway,
};
use backoff::{Backoff, Rule};
use pace::Pace;

/// Wrong passwords of one account before it has to wait. The wait is short, so that nobody can lock somebody else out.
const ACCOUNT: Rule = Rule { free: 5, longest: Duration::from_secs(60) };
/// Wrong passwords from one address before it has to wait: an office has one address, too.
const ADDRESS: Rule = Rule { free: 20, longest: Duration::from_secs(15 * 60) };
/// An identity may be ahead of its pace by as many seconds' worth of requests.
const BURST_SECONDS: u32 = 10;
/// Enrolments from one address: so many at once, and one a second later on.
const ENROLMENT_BURST: u32 = 60;

/// What tells accounts, addresses and identities apart: a digest, so that keys have one length.
type Key = [u8; 16];

/// The counts of all limits.
pub struct RateLimits {
    accounts: Backoff,
    addresses: Backoff,
    api: Option<Pace>,
    enrolment: Pace,
}

impl RateLimits {
    /// From the settings.
    pub fn new(settings: &Gateway) -> Self {
        let rate = settings.api_requests_per_second;
        Self {
            accounts: Backoff::new(ACCOUNT),
            addresses: Backoff::new(ADDRESS),
            api: (rate > 0).then(|| Pace::new(Duration::from_secs(1) / rate, rate.saturating_mul(BURST_SECONDS))),
            enrolment: Pace::new(Duration::from_secs(1), ENROLMENT_BURST),
        }
    }

    /// Call before a password or a second factor is looked at. It counts as a wrong one until
    /// [`login_succeeded`](Self::login_succeeded), so that many attempts at once gain nothing.
    ///
    /// # Errors
    /// [`Code::RateLimited`], with the seconds to wait, when the account or the address has to.
    pub fn check_login(&self, email: &str, address: IpAddr) -> Result<(), Problem> {
        let now = Instant::now();
        self.addresses.attempt(&key_of(address), now).map_err(|wait| refused("login_address", wait))?;
        self.accounts.attempt(&account(email), now).map_err(|wait| refused("login_account", wait))
    }

    /// The attempt was right: the account's count begins anew, the address's is as before.
    pub fn login_succeeded(&self, email: &str, address: IpAddr) {
        self.accounts.forget(&account(email));
        self.addresses.take_back(&key_of(address));
    }

    /// Call before an enrolment token is looked at.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when too many have come from this address.
    pub fn check_enrolment(&self, address: IpAddr) -> Result<(), Problem> {
        self.enrolment.take(&key_of(address), Instant::now()).map_err(|wait| refused("enrolment", wait))
    }

    /// A request of this identity.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when it has asked too often.
    pub fn check_api(&self, identity: &str) -> Result<(), Problem> {
        let Some(pace) = &self.api else { return Ok(()) };
        pace.take(&digest(identity.as_bytes()), Instant::now()).map_err(|wait| refused("api", wait))
    }
}

/// The layer behind the identity.
pub async fn limit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let identity = request::current().and_then(|info| info.identity.get().cloned()).unwrap_or_default();
    match app.limits.check_api(&identity) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn refused(limit: &'static str, wait: Duration) -> Problem {
    metrics::counter!("pinacle_gateway_rate_limited_total", "limit" => limit).increment(1);
    let request_id = request::current().map(|info| info.id.clone()).unwrap_or_default();
    let address = request::address();
    warn!(request_id, limit, %address, wait_ms = wait.as_secs_f64() * 1e3, "too often; refusing");
    Problem::new(Code::RateLimited, Code::RateLimited.explanation()).after(wait)
}

fn account(email: &str) -> Key {
    digest(email.trim().to_lowercase().as_bytes())
}

/// One customer of IPv6 has a whole /64 to choose from.
fn key_of(address: IpAddr) -> Key {
    match address.to_canonical() {
        IpAddr::V4(address) => digest(&address.octets()),
        IpAddr::V6(address) => digest(address.octets().first_chunk::<8>().map_or(&[], |network| network.as_slice())),
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Key {
    let whole: [u8; 32] = Sha256::digest(bytes).into();
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(whole) {
        *to = from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> RateLimits {
        RateLimits {
            accounts: Backoff::new(ACCOUNT),
            addresses: Backoff::new(ADDRESS),
            api: Some(Pace::new(Duration::from_millis(500), 3)),
            enrolment: Pace::new(Duration::from_secs(1), 2),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_waits_longer_with_each_wrong_password_from_wherever_it_comes() {
        let limits = limits();
        for number in 0..5 {
            limits.check_login("ada@example.org", address(&format!("192.0.2.{number}"))).unwrap();
        }
        limits.check_login(" ADA@example.org", address("192.0.2.9")).unwrap_err();
        limits.check_login("bob@example.org", address("192.0.2.9")).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        limits.check_login("ada@example.org", address("192.0.2.10")).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        limits.check_login("ada@example.org", address("192.0.2.11")).unwrap_err();
        limits.login_succeeded("ada@example.org", address("192.0.2.10"));
        limits.check_login("ada@example.org", address("192.0.2.11")).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_waits_whatever_accounts_it_tries_and_right_ones_do_not_count() {
        let limits = limits();
        let from = address("2001:db8::1");
        for number in 0..200 {
            let email = format!("right-{number}@example.org");
            limits.check_login(&email, from).unwrap();
            limits.login_succeeded(&email, from);
        }
        for number in 0..20 {
            limits.check_login(&format!("wrong-{number}@example.org"), from).unwrap();
        }
        // Of the same network.
        limits.check_login("new@example.org", address("2001:db8::2")).unwrap_err();
        limits.check_login("new@example.org", address("2001:db8:0:1::2")).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_identity_and_an_enrolling_address_have_a_pace_each() {
        let limits = limits();
        for _ in 0..3 {
            limits.check_api("user_1").unwrap();
        }
        limits.check_api("user_1").unwrap_err();
        limits.check_api("user_2").unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        limits.check_api("user_1").unwrap();
        limits.check_api("user_1").unwrap_err();
        for _ in 0..2 {
            limits.check_enrolment(address("192.0.2.1")).unwrap();
        }
        limits.check_enrolment(address("192.0.2.1")).unwrap_err();
        limits.check_enrolment(address("::ffff:192.0.2.2")).unwrap();
    }
}
