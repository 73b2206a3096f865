//! Durable consumption. What becomes of a message is decided in one place, [`Delivered::settle`]: acknowledged after its
//! effect, tried again later, or laid aside as a dead letter with the reason, so that the rest flow on.

use std::{panic::AssertUnwindSafe, time::Duration};

use async_nats::jetstream::{
    AckKind, Message as JetStreamMessage, consumer,
    consumer::pull::{self, MessagesErrorKind},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{Bus, BusError, MessageContext, context, in_context};
use crate::contract::{
    DeadLetterId, DecodeError, Message, Subject, Timestamp, dead::DeadLetter, decode, topology::ConsumerSpec,
};

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its effect is durable.
    Done,
    /// It failed and may succeed later. After the consumer's number of tries it becomes a dead letter.
    Retry {
        /// Why, for the dead letter.
        reason: String,
    },
    /// Something that it needs is away, which is not its fault: try again after this, however often.
    Later(Duration),
    /// It can never succeed: a dead letter at once.
    Reject {
        /// Why, for the dead letter.
        reason: String,
    },
}

/// A message that a durable consumer was given.
pub struct Delivered {
    /// Where it was published to.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the stream took it in.
    pub published_at: Timestamp,
    /// How many messages the consumer has not been given yet.
    pub pending: u64,
    /// How often it was delivered, this time included.
    pub tries: u64,
    /// The sender's schema version.
    pub schema: u32,
    /// Its bytes.
    pub payload: Bytes,
    /// Its trace and cause.
    pub context: MessageContext,
    /// In a bucket's change feed: whether this says that the key is gone.
    pub deleted: bool,
    message: JetStreamMessage,
    bus: Bus,
    spec: ConsumerSpec,
}

/// Pause before try number `tries` + 1: from 1 s to a minute.
fn backoff(tries: u64) -> Duration {
    Duration::from_secs(1 << tries.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

impl Delivered {
    fn new(bus: &Bus, spec: &ConsumerSpec, message: JetStreamMessage) -> Option<Self> {
        let (context, schema) = context::incoming(message.headers.as_ref());
        let info = message.info().ok()?;
        let deleted = context::deletes(message.headers.as_ref());
        Some(Self {
            subject: message.subject.to_string(),
            sequence: info.stream_sequence,
            published_at: info.published.into(),
            pending: info.pending,
            tries: u64::try_from(info.delivered).unwrap_or(1),
            schema,
            payload: message.payload.clone(),
            context,
            deleted,
            bus: bus.clone(),
            spec: *spec,
            message,
        })
    }

    /// Decodes and checks it.
    ///
    /// # Errors
    /// See [`DecodeError`]; such a message can never succeed.
    pub fn decode<M: Message>(&self) -> Result<M, DecodeError> {
        decode(self.schema, &self.payload)
    }

    /// In a bucket's change feed: the key.
    pub fn key(&self) -> &str {
        self.subject.splitn(3, '.').nth(2).unwrap_or_default()
    }

    /// Tells the server that work on it goes on, so that nobody else is given it.
    pub async fn prolong(&self) {
        if let Err(error) = self.message.ack_with(AckKind::Progress).await {
            debug!(%error, "cannot prolong a message; it may be delivered again");
        }
    }

    /// Says what became of it. Never fails: what cannot be told to the server is delivered again, which every effect
    /// must bear anyway.
    pub async fn settle(&self, outcome: Outcome) {
        let (kind, told) = match outcome {
            Outcome::Done => ("done", AckKind::Ack),
            Outcome::Later(after) => ("later", AckKind::Nak(Some(after))),
            Outcome::Retry { reason } if self.tries < self.spec.max_tries => {
                let after = backoff(self.tries);
                warn!(
                    consumer = self.spec.name,
                    sequence = self.sequence,
                    tries = self.tries,
                    ?after,
                    reason,
                    "a message failed; it is tried again"
                );
                ("retried", AckKind::Nak(Some(after)))
            }
            Outcome::Retry { reason } | Outcome::Reject { reason } => match self.lay_aside(reason).await {
                Ok(()) => ("dead", AckKind::Term),
                Err(error) => {
                    error!(consumer = self.spec.name, sequence = self.sequence, %error, "cannot publish a dead letter; its message is tried again");
                    ("retried", AckKind::Nak(Some(backoff(self.tries))))
                }
            },
        };
        metrics::counter!("pinacle_bus_messages_total", "consumer" => self.spec.name, "outcome" => kind).increment(1);
        if let Err(error) = self.message.ack_with(told).await {
            debug!(%error, "cannot settle a message; it will be delivered again");
        }
    }

    /// Publishes it as a dead letter, for `reason`, without settling it: for a message of which only a part is bad.
    ///
    /// # Errors
    /// When the stream did not take the dead letter in.
    pub async fn lay_aside(&self, reason: String) -> Result<(), BusError> {
        warn!(
            consumer = self.spec.name,
            subject = self.subject,
            sequence = self.sequence,
            reason,
            "laid a message aside as a dead letter"
        );
        let kept = self.payload.get(..DeadLetter::MOST_PAYLOAD_BYTES).unwrap_or(&self.payload);
        let letter = DeadLetter {
            dead_letter_id: DeadLetterId::new(),
            at: Timestamp::now(),
            stream: self.spec.stream.as_str().into(),
            consumer: self.spec.name.into(),
            stream_sequence: self.sequence,
            subject: self.subject.chars().take(512).collect(),
            schema: self.schema,
            reason: reason.replace('\0', "\u{fffd}").chars().take(1000).collect(),
            tries: self.tries,
            payload_base64: BASE64_STANDARD.encode(kept),
            payload_bytes: self.payload.len() as u64,
        };
        let subject = Subject::Dead { stream: letter.stream.clone(), consumer: letter.consumer.clone() };
        in_context(self.context, self.bus.publish(&subject, &letter.message_id(), &letter)).await?;
        Ok(())
    }
}

/// The member of a durable consumer that this process is. Reconnects and makes the consumer anew as often as it takes.
pub struct Puller {
    bus: Bus,
    spec: ConsumerSpec,
    prefetch: usize,
    flow: Option<Flow>,
    failures: u64,
}

struct Flow {
    messages: pull::Stream,
    /// Which connection it began on.
    connects: u64,
    /// Whether the server's last sign of life is overdue.
    overdue: bool,
}

impl Puller {
    /// Joins the consumer. At most `prefetch` messages wait in this process.
    pub fn new(bus: &Bus, spec: &ConsumerSpec, prefetch: usize) -> Self {
        Self { bus: bus.clone(), spec: *spec, prefetch, flow: None, failures: 0 }
    }

    /// Takes what is there into `batch`, until it holds `most` messages or `wait` has passed. Cancel-safe: what was taken
    /// is in `batch`.
    pub async fn fill(&mut self, batch: &mut Vec<Delivered>, most: usize, wait: Duration) {
        let deadline = Instant::now() + wait;
        while batch.len() < most {
            match timeout_at(deadline, self.next()).await {
                Ok(delivered) => batch.push(delivered),
                Err(_) => break,
            }
        }
    }

    /// Lets go of messages that wait in this process, so that other members are given them. The next call joins again.
    pub fn release(&mut self) {
        self.flow = None;
    }

    /// The next message. Cancel-safe.
    pub async fn next(&mut self) -> Delivered {
        loop {
            let Some(flow) = self.flow.as_mut() else {
                self.join().await;
                continue;
            };
            let message = tokio::select! {
                // What has arrived is taken before the flow is given up.
                biased;
                // cancel-safe: a message not yet taken stays in the flow.
                message = flow.messages.next() => message,
                // cancel-safe: only observed.
                () = self.bus.reconnected_since(flow.connects) => None,
            };
            match message {
                Some(Ok(message)) => {
                    self.failures = 0;
                    flow.overdue = false;
                    // Only a message without an acknowledgement's address has no place in a stream; none can be settled.
                    if let Some(delivered) = Delivered::new(&self.bus, &self.spec, message) {
                        return delivered;
                    }
                }
                // On a busy machine one comes late now and then. Giving the flow up then would leave what waits in it to
                // be delivered again half a minute later.
                Some(Err(error)) if error.kind() == MessagesErrorKind::MissingHeartbeat && !flow.overdue => {
                    flow.overdue = true;
                }
                Some(Err(error)) => {
                    debug!(consumer = self.spec.name, %error, "the flow of messages broke off; joining again");
                    self.flow = None;
                }
                None => self.flow = None,
            }
        }
    }

    async fn join(&mut self) {
        if self.failures > 0 {
            tokio::time::sleep(backoff(self.failures).min(Duration::from_secs(5))).await;
        }
        self.failures += 1;
        match self.try_join().await {
            Ok(flow) => self.flow = Some(flow),
            Err(error) => warn!(consumer = self.spec.name, %error, "cannot join the consumer; trying again"),
        }
    }

    async fn try_join(&self) -> Result<Flow, BusError> {
        let connects = self.bus.connects();
        let consumer = self.bus.apply_consumer(&self.spec).await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(self.prefetch)
            .heartbeat(Duration::from_secs(5))
            .expires(Duration::from_secs(20))
            .messages()
            .await
            .map_err(BusError::from_source("join consumer"))?;
        Ok(Flow { messages, connects, overdue: false })
    }
}

/// Consumes until `shutdown`: at most `most_at_once` messages at a time, each in its own task, in its own context. A
/// handler that panics has failed its message, and only that. Messages under way are finished before this returns.
pub async fn consume<F, Fut>(
    bus: &Bus,
    spec: &ConsumerSpec,
    most_at_once: usize,
    shutdown: CancellationToken,
    handler: F,
) where
    F: Fn(std::sync::Arc<Delivered>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let handler = std::sync::Arc::new(handler);
    let mut puller = Puller::new(bus, spec, most_at_once);
    let mut running = JoinSet::new();
    loop {
        // The permit comes before the message: what is not taken stays with the server.
        while running.len() >= most_at_once {
            running.join_next().await;
        }
        let delivered = tokio::select! {
            // cancel-safe: see Puller::next.
            delivered = puller.next() => std::sync::Arc::new(delivered),
            // cancel-safe: joining an ended task loses nothing.
            Some(_) = running.join_next(), if !running.is_empty() => continue,
            // cancel-safe: only observed.
            () = shutdown.cancelled() => break,
        };
        let handler = handler.clone();
        running.spawn(in_context(delivered.context, async move {
            let outcome = match AssertUnwindSafe((*handler)(delivered.clone())).catch_unwind().await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Retry { reason: "the handler failed; see the service's log".into() },
            };
            delivered.settle(outcome).await;
        }));
    }
    while running.join_next().await.is_some() {}
}

impl Bus {
    pub(super) async fn apply_consumer(&self, spec: &ConsumerSpec) -> Result<consumer::PullConsumer, BusError> {
        let config = pull::Config {
            durable_name: Some(spec.name.into()),
            description: Some(spec.description.into()),
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait: spec.ack_wait,
            max_ack_pending: spec.max_ack_pending,
            // Tries are counted by Delivered::settle, which lays a message aside with its reason; the server would
            // only stop delivering it.
            max_deliver: -1,
            ..Default::default()
        };
        self.jetstream()
            .create_consumer_on_stream(config, spec.stream.as_str())
            .await
            .map_err(BusError::from_source("make consumer"))
    }
}
