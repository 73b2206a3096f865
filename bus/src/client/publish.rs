//! Publishing: a fact exists once JetStream has acknowledged it.

use async_nats::jetstream::{context::PublishErrorKind, message::PublishMessage};
use bytes::Bytes;

use super::{Bus, BusError, BusErrorKind, context::outgoing_headers};
use crate::contract::{Message, Subject, encode};

/// What JetStream said to a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Whether the stream had a message with this id already, and kept that one.
    pub duplicate: bool,
}

impl Bus {
    /// Publishes a message and waits until the stream has it. The same `message_id` within the stream's window of two
    /// minutes is kept once.
    ///
    /// # Errors
    /// When there is no connection, at once; when the acknowledgement does not come in time (the stream may have the
    /// message all the same: publish again with the same id); when it is too large.
    pub async fn publish<M: Message>(
        &self,
        subject: &Subject,
        message_id: &str,
        message: &M,
    ) -> Result<Published, BusError> {
        self.publish_bytes(&subject.to_string(), message_id, encoded(message)?).await
    }

    /// As [`Bus::publish`], for a message that is encoded already: the dead letter that is sent again, a load tool.
    ///
    /// # Errors
    /// As for [`Bus::publish`].
    pub async fn publish_bytes(&self, subject: &str, message_id: &str, payload: Bytes) -> Result<Published, BusError> {
        if !self.is_connected() {
            return Err(BusError::not_connected());
        }
        let publication = PublishMessage::build().payload(payload).headers(outgoing_headers(Some(message_id)));
        let failed = |error: async_nats::jetstream::context::PublishError| {
            let kind = match error.kind() {
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => BusErrorKind::Timeout,
                PublishErrorKind::MaxPayloadExceeded => BusErrorKind::TooLarge,
                _ => BusErrorKind::Refused,
            };
            BusError::new(kind, format!("publish to {subject}"), error)
        };
        let acknowledged = self.jetstream().send_publish(subject.to_owned(), publication).await.map_err(failed)?;
        let acknowledged = acknowledged.await.map_err(failed)?;
        Ok(Published { sequence: acknowledged.sequence, duplicate: acknowledged.duplicate })
    }

    /// Sends a message and forgets it: for what the next one replaces anyway.
    ///
    /// # Errors
    /// When there is no connection, at once, so that nothing stale goes out after a reconnect; when it is too large.
    pub async fn publish_unacked<M: Message>(&self, subject: &Subject, message: &M) -> Result<(), BusError> {
        if !self.is_connected() {
            return Err(BusError::not_connected());
        }
        self.client()
            .publish_with_headers(subject.to_string(), outgoing_headers(None), encoded(message)?)
            .await
            .map_err(BusError::from_source("publish"))
    }
}

pub(super) fn encoded<M: Message>(message: &M) -> Result<Bytes, BusError> {
    let payload = encode(message)
        .map_err(|error| BusError::new(BusErrorKind::Malformed, format!("encode {}", M::NAME), error))?;
    if payload.len() > M::MAX_BYTES {
        let detail = format!("it has {} bytes, its readers take {}", payload.len(), M::MAX_BYTES);
        return Err(BusError::new(BusErrorKind::TooLarge, format!("publish {}", M::NAME), detail));
    }
    Ok(payload.into())
}
