//! Publishing to a stream that acknowledges before its messages are on disk.
//!
//! METRICS does, for speed: when the server dies, the last few milliseconds of what it acknowledged die with it. So the
//! publisher keeps what it sent last, and after each reconnect sends it again under the same ids: the stream drops what
//! it still has. With that, what was acknowledged is there, unless publisher and server die in the same moment.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Bus, BusError, Published, publish::encoded};
use crate::contract::{Message, Subject};

/// The server writes within milliseconds; this is ample.
const KEPT_FOR: Duration = Duration::from_secs(2);
/// Bounds memory when much is published.
const MOST_KEPT_BYTES: usize = 64 * 1024 * 1024;

struct Kept {
    acknowledged: Instant,
    subject: String,
    message_id: String,
    payload: Bytes,
}

/// Publishes in order and sends again what a restarted server may have lost.
pub struct ResendingPublisher {
    bus: Bus,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Which connection the kept ones were acknowledged on.
    connects: u64,
}

impl ResendingPublisher {
    /// Has sent nothing yet.
    pub fn new(bus: &Bus) -> Self {
        let connects = bus.connection().borrow().connects;
        Self { bus: bus.clone(), kept: VecDeque::new(), kept_bytes: 0, connects }
    }

    /// As [`Bus::publish`].
    ///
    /// # Errors
    /// As for [`Bus::publish`]; also when what must be sent again cannot be, in which case the message was not sent.
    pub async fn publish<M: Message>(
        &mut self,
        subject: &Subject,
        message_id: &str,
        message: &M,
    ) -> Result<Published, BusError> {
        self.publish_bytes(subject.to_string(), message_id.to_owned(), encoded(message)?).await
    }

    /// As [`Bus::publish_bytes`].
    ///
    /// # Errors
    /// As for [`ResendingPublisher::publish`].
    pub async fn publish_bytes(
        &mut self,
        subject: String,
        message_id: String,
        payload: Bytes,
    ) -> Result<Published, BusError> {
        self.catch_up().await?;
        let published = self.bus.publish_bytes(&subject, &message_id, payload.clone()).await?;
        self.kept_bytes += payload.len();
        self.kept.push_back(Kept { acknowledged: Instant::now(), subject, message_id, payload });
        while self.kept.len() > 1 && (self.kept_bytes > MOST_KEPT_BYTES || self.oldest_is_safe()) {
            self.kept_bytes -= self.kept.pop_front().map_or(0, |kept| kept.payload.len());
        }
        Ok(published)
    }

    /// Sends again what a restarted server may have lost, if there was a reconnect since. Called by each publication;
    /// worth a call of its own when none follows soon.
    ///
    /// # Errors
    /// As for [`Bus::publish`]; the next call begins anew.
    pub async fn catch_up(&mut self) -> Result<(), BusError> {
        let connects = self.bus.connection().borrow().connects;
        if connects != self.connects {
            for kept in &self.kept {
                self.bus.publish_bytes(&kept.subject, &kept.message_id, kept.payload.clone()).await?;
            }
            self.connects = connects;
        }
        Ok(())
    }

    fn oldest_is_safe(&self) -> bool {
        self.kept.front().is_some_and(|kept| kept.acknowledged.elapsed() > KEPT_FOR)
    }
}
