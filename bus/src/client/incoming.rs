//! Messages as they arrive, without a stream behind them.

use bytes::Bytes;
use futures_util::StreamExt;

use super::{Bus, BusError, MessageContext, context};
use crate::contract::{DecodeError, Message, decode};

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Where it was published to.
    pub subject: String,
    /// The sender's schema version.
    pub schema: u32,
    /// Its bytes.
    pub payload: Bytes,
    /// Its trace and cause.
    pub context: MessageContext,
    pub(super) reply: Option<async_nats::Subject>,
}

impl Incoming {
    /// Decodes and checks it.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode<M: Message>(&self) -> Result<M, DecodeError> {
        decode(self.schema, &self.payload)
    }

    pub(super) fn from_message(message: async_nats::Message) -> Self {
        let (context, schema) = context::incoming(message.headers.as_ref());
        Self { subject: message.subject.to_string(), schema, payload: message.payload, context, reply: message.reply }
    }
}

/// Messages to a subject from now on. One that reads too slowly loses messages, which is logged and counted.
pub struct Subscription(async_nats::Subscriber);

impl Subscription {
    /// The next message; `None` when the connection was closed for good. Cancel-safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.0.next().await.map(Incoming::from_message)
    }
}

impl Bus {
    /// Subscribes to a subject or [filter](crate::contract::subject::filter). Survives reconnects.
    ///
    /// # Errors
    /// When the subject is none.
    pub async fn subscribe(&self, filter: impl Into<String>) -> Result<Subscription, BusError> {
        let subscriber = self.client().subscribe(filter.into()).await.map_err(BusError::from_source("subscribe"))?;
        Ok(Subscription(subscriber))
    }
}
