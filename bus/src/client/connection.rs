//! Connecting, and telling what becomes of the connection: each event is logged and counted.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use super::error::{BusError, BusErrorKind};
use crate::{contract::grant, settings::BusSettings, trust::Credentials};

/// The state of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// Whether there is one.
    pub connected: bool,
    /// Since when it is as it is.
    pub since: Instant,
    /// How often it was made.
    pub connects: u64,
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Messages that a subscription may hold before the client drops newer ones and says `SlowConsumer`.
const SUBSCRIPTION_CAPACITY: usize = 16 * 1024;

/// Pause before attempt number `attempt`: doubles up to `longest`, and half of it is left to chance, so that a fleet
/// does not come back all at once.
fn pause(attempt: usize, longest: Duration) -> Duration {
    let doubled = SHORTEST_PAUSE.saturating_mul(1 << attempt.min(10)).min(longest);
    doubled.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Who the connection belongs to: what the next attempt to connect is made with.
#[derive(Clone)]
pub(super) struct User(Arc<Mutex<Credentials>>);

impl User {
    /// Proves to the server who this is: the claims, and its nonce signed with their key.
    fn authenticate(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let credentials = self.0.lock().clone();
        let mut auth = Auth::new();
        auth.signature = Some(credentials.key().sign(nonce).map_err(AuthError::new)?);
        auth.jwt = Some(credentials.jwt().to_owned());
        Ok(auth)
    }

    /// See [`Bus::renew_credentials`](super::Bus::renew_credentials).
    pub fn renew(&self, credentials: Credentials) -> Result<(), BusError> {
        let mut held = self.0.lock();
        if held.name() != credentials.name() {
            return Err(BusError::new(
                BusErrorKind::Malformed,
                "renew the credentials",
                format!("they are of {}, the connection is of {}", credentials.name(), held.name()),
            ));
        }
        *held = credentials;
        Ok(())
    }
}

/// A connection that is being made.
pub(super) struct Opened {
    pub client: Client,
    pub state: watch::Receiver<Connection>,
    pub user: Option<User>,
}

#[expect(clippy::disallowed_methods, reason = "the one place that connects")]
pub(super) async fn open(settings: &BusSettings, name: &str) -> Result<Opened, BusError> {
    let (sender, receiver) = watch::channel(Connection { connected: false, since: Instant::now(), connects: 0 });
    let longest = Duration::from_millis(settings.reconnect_max_ms);
    let credentials = settings.user().map_err(BusError::from_source("read the credentials"))?;
    let inbox = credentials.as_ref().map(|credentials| grant::inbox(credentials.name()));
    let user = credentials.map(|credentials| User(Arc::new(Mutex::new(credentials))));
    let mut options = match user.clone() {
        None => ConnectOptions::new(),
        Some(user) => ConnectOptions::with_auth_callback(move |nonce| std::future::ready(user.authenticate(&nonce))),
    };
    options = options
        .name(name)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .connection_timeout(Duration::from_secs(5))
        .request_timeout(Some(Duration::from_millis(settings.publish_timeout_ms)))
        .ping_interval(Duration::from_secs(10))
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .reconnect_delay_callback(move |attempt| pause(attempt, longest))
        .event_callback(move |event| {
            note(&sender, &event);
            std::future::ready(())
        });
    if let Some(inbox) = inbox {
        // Replies to one user are not for another; the server's permissions hold on to that.
        options = options.custom_inbox_prefix(inbox);
    }
    if !settings.ca_file.is_empty() {
        options = options.add_root_certificates(PathBuf::from(&settings.ca_file)).require_tls(true);
    }
    let servers: Vec<&str> = settings.url.split(',').map(str::trim).collect();
    let client =
        async_nats::connect_with_options(servers, options).await.map_err(BusError::from_source("connect to NATS"))?;
    Ok(Opened { client, state: receiver, user })
}

fn note(state: &watch::Sender<Connection>, event: &Event) {
    let kind = match event {
        Event::Connected => {
            state.send_modify(|state| {
                *state = Connection { connected: true, since: Instant::now(), connects: state.connects + 1 };
            });
            info!("connected to the bus");
            "connected"
        }
        Event::Disconnected => {
            state.send_modify(|state| *state = Connection { connected: false, since: Instant::now(), ..*state });
            warn!("lost the connection to the bus; reconnecting until it is back");
            "disconnected"
        }
        Event::Closed => {
            state.send_modify(|state| *state = Connection { connected: false, since: Instant::now(), ..*state });
            info!("closed the connection to the bus");
            "closed"
        }
        Event::SlowConsumer(subscription) => {
            warn!(subscription, "a subscription is too slow; messages to it were dropped");
            "slow_consumer"
        }
        Event::ServerError(source) => {
            error!(%source, "the bus reports an error");
            "server_error"
        }
        Event::ClientError(source) => {
            warn!(%source, "cannot reach the bus");
            "client_error"
        }
        Event::LameDuckMode => {
            info!("the server is about to stop");
            "lame_duck"
        }
        Event::Draining => "draining",
    };
    metrics::counter!("pinacle_bus_connection_events_total", "event" => kind).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_differ() {
        let longest = Duration::from_secs(3);
        for attempt in 0..100 {
            let pause = pause(attempt, longest);
            assert!(pause >= SHORTEST_PAUSE / 2 && pause <= longest, "{attempt}: {pause:?}");
        }
        let pauses: std::collections::BTreeSet<_> = (0..20).map(|_| pause(50, longest)).collect();
        assert!(pauses.len() > 10);
    }
}
