//! The client around NATS: connections that never give up and are never silent about it, publications that are
//! acknowledged, requests that are always answered, consumers with one place that decides what becomes of a message.

mod ask;
mod bucket;
mod claims;
mod connection;
mod consume;
mod context;
mod error;
mod incoming;
mod publish;
mod read;
mod resend;
mod respond;
mod topology;

use std::{sync::Arc, time::Duration};

use async_nats::jetstream;
use tokio::sync::watch;

use crate::{
    contract::topology::{ConsumerSpec, StreamName},
    settings::BusSettings,
    trust::Credentials,
};

pub use ask::Replies;
pub use bucket::{Bucket, Change, Entry, Watch};
pub use connection::Connection;
pub use consume::{Delivered, Outcome, Puller, consume};
pub use context::{MessageContext, TraceParent, current_context, in_context};
pub use error::{AskError, BusError, BusErrorKind};
pub use incoming::{Incoming, Subscription};
pub use publish::Published;
pub use read::{Reader, Start, Stored};
pub use resend::ResendingPublisher;
pub use respond::{Ask, respond};

/// A connection to the bus. Cheap to clone; all clones share it.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    connection: watch::Receiver<Connection>,
    user: Option<connection::User>,
    settings: BusSettings,
}

impl Bus {
    /// Starts to connect as `name` and returns at once; attempts go on for ever. What needs the bus waits for
    /// [`Bus::connected`] or gets [`BusErrorKind::NotConnected`].
    ///
    /// # Errors
    /// When the settings cannot lead to a connection: an address that is none, a certificate that cannot be read.
    pub async fn connect(settings: &BusSettings, name: &str) -> Result<Self, BusError> {
        let connection::Opened { client, state, user } = connection::open(settings, name).await?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(Duration::from_millis(settings.publish_timeout_ms))
            .ack_timeout(Duration::from_millis(settings.publish_timeout_ms))
            .build(client.clone());
        Ok(Self { inner: Arc::new(Inner { client, jetstream, connection: state, user, settings: settings.clone() }) })
    }

    /// Takes newer credentials of the same user: they count from the next attempt to connect, which comes by itself
    /// when the server ends the connection because the older ones have expired.
    ///
    /// # Errors
    /// When they are of another user, or the connection was made without any.
    pub fn renew_credentials(&self, credentials: Credentials) -> Result<(), BusError> {
        match &self.inner.user {
            Some(user) => user.renew(credentials),
            None => Err(BusError::new(BusErrorKind::Malformed, "renew the credentials", "the connection is nobody's")),
        }
    }

    /// Follows the connection's state.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.inner.connection.clone()
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.inner.connection.borrow().connected
    }

    /// Waits until there is a connection, at most for `deadline`.
    ///
    /// # Errors
    /// [`BusErrorKind::NotConnected`] when the deadline passes.
    pub async fn connected(&self, deadline: Duration) -> Result<(), BusError> {
        let mut connection = self.connection();
        match tokio::time::timeout(deadline, connection.wait_for(|state| state.connected)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(BusError::not_connected()),
        }
    }

    /// The first and last sequence that a stream holds now; first = last + 1 when it is empty.
    ///
    /// # Errors
    /// When the stream does not exist or the server does not answer.
    pub async fn stream_bounds(&self, stream: StreamName) -> Result<(u64, u64), BusError> {
        self.bounds(stream.as_str()).await
    }

    /// The sequence up to which the members of a durable consumer have dealt with everything.
    ///
    /// # Errors
    /// When the consumer does not exist or the server does not answer.
    pub async fn dealt_with(&self, spec: &ConsumerSpec) -> Result<u64, BusError> {
        let stream = self
            .jetstream()
            .get_stream_no_info(spec.stream.as_str())
            .await
            .map_err(BusError::from_source("look up stream"))?;
        let info = stream.consumer_info(spec.name).await.map_err(BusError::from_source("look up consumer"))?;
        Ok(info.ack_floor.stream_sequence)
    }

    /// The newest sequence that a stream holds; 0 when it is empty.
    async fn newest_of(&self, stream: &str) -> Result<u64, BusError> {
        let (first, last) = self.bounds(stream).await?;
        Ok(if first > last { 0 } else { last })
    }

    async fn bounds(&self, stream: &str) -> Result<(u64, u64), BusError> {
        let stream = self.jetstream().get_stream(stream).await.map_err(BusError::from_source("look up stream"))?;
        let state = &stream.cached_info().state;
        Ok((state.first_sequence.max(1), state.last_sequence))
    }

    /// Sends what is buffered, at most for `deadline`. The last thing before a process ends.
    ///
    /// # Errors
    /// When it could not be sent in time.
    pub async fn flush(&self, deadline: Duration) -> Result<(), BusError> {
        match tokio::time::timeout(deadline, self.inner.client.flush()).await {
            Ok(result) => result.map_err(BusError::from_source("flush")),
            Err(_) => Err(BusError::timeout("flush")),
        }
    }

    fn connects(&self) -> u64 {
        self.inner.connection.borrow().connects
    }

    /// Waits for a connection made after connection number `connects`. What flowed over an older one has to be asked for
    /// anew; async-nats finds that out by missing heartbeats, ten seconds later. Cancel-safe.
    async fn reconnected_since(&self, connects: u64) {
        let mut connection = self.connection();
        if connection.wait_for(|state| state.connected && state.connects > connects).await.is_err() {
            // The connection was closed for good: there will be none.
            std::future::pending::<()>().await;
        }
    }

    fn client(&self) -> &async_nats::Client {
        &self.inner.client
    }

    fn jetstream(&self) -> &jetstream::Context {
        &self.inner.jetstream
    }

    fn settings(&self) -> &BusSettings {
        &self.inner.settings
    }
}
