//! Messages that could not be handled.

use serde::{Deserialize, Serialize};

use super::{
    DeadLetterId, Timestamp,
    message::{Invalid, Message, check},
};

/// A message that a consumer gave up on, with why. Nothing else is held up by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// This dead letter.
    pub dead_letter_id: DeadLetterId,
    /// When the consumer gave up.
    pub at: Timestamp,
    /// The stream that the message came from.
    pub stream: String,
    /// The consumer that gave up.
    pub consumer: String,
    /// The message's sequence in its stream; with stream and consumer it identifies the dead letter.
    pub stream_sequence: u64,
    /// The subject that it was published to.
    pub subject: String,
    /// Its schema version, from its header.
    pub schema: u32,
    /// Why, in words that people understand.
    pub reason: String,
    /// How often it was delivered.
    pub tries: u64,
    /// The message in base64; at most [`Self::MOST_PAYLOAD_BYTES`] of it.
    pub payload_base64: String,
    /// The message's whole length.
    pub payload_bytes: u64,
}

impl DeadLetter {
    /// What is kept of a message. A dead letter itself must fit NATS's 1 MiB.
    pub const MOST_PAYLOAD_BYTES: usize = 600 * 1024;

    /// What JetStream deduplicates on.
    pub fn message_id(&self) -> String {
        format!("dead.{}.{}.{}", self.stream, self.consumer, self.stream_sequence)
    }
}

impl Message for DeadLetter {
    const NAME: &'static str = "dead_letter";
    const MAX_BYTES: usize = 1000 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::text("stream", &self.stream, 64)?;
        check::text("consumer", &self.consumer, 64)?;
        check::count("stream_sequence", self.stream_sequence)?;
        check::text("subject", &self.subject, 512)?;
        check::text("reason", &self.reason, 4096)?;
        check::count("tries", self.tries)?;
        check::text("payload_base64", &self.payload_base64, Self::MAX_BYTES)?;
        check::count("payload_bytes", self.payload_bytes)
    }
}
