//! Reading a stream in order, without a consumer that outlives the reader: replays, and clients that resume.

use async_nats::jetstream::{
    Message as JetStreamMessage,
    consumer::{DeliverPolicy, ReplayPolicy, pull},
    stream::DirectGetErrorKind,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tracing::debug;

use super::{Bus, BusError, MessageContext, context};
use crate::contract::{DecodeError, HostId, Message, Subject, Timestamp, decode, topology::StreamName};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message.
    Beginning,
    /// With this sequence, or the next one that is still there.
    Sequence(u64),
    /// With the first message taken in at this time or later.
    Time(Timestamp),
    /// With the newest message of each subject.
    LastOfEach,
    /// With what comes from now on.
    New,
}

/// A message as its stream holds it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where it was published to.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the stream took it in.
    pub published_at: Timestamp,
    /// How many matching messages the stream holds after this one.
    pub pending: u64,
    /// The sender's schema version.
    pub schema: u32,
    /// Its bytes.
    pub payload: Bytes,
    /// Its trace and cause.
    pub context: MessageContext,
    /// In a bucket's change feed: whether this says that the key is gone.
    pub deleted: bool,
}

impl Stored {
    /// Decodes and checks it.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode<M: Message>(&self) -> Result<M, DecodeError> {
        decode(self.schema, &self.payload)
    }

    fn from_message(message: &JetStreamMessage) -> Option<Self> {
        let (context, schema) = context::incoming(message.headers.as_ref());
        let info = message.info().ok()?;
        Some(Self {
            subject: message.subject.to_string(),
            sequence: info.stream_sequence,
            published_at: info.published.into(),
            pending: info.pending,
            schema,
            payload: message.payload.clone(),
            context,
            deleted: context::deletes(message.headers.as_ref()),
        })
    }
}

impl Bus {
    /// The newest message that a stream holds on a subject; `None` when it holds none.
    ///
    /// # Errors
    /// When the stream does not exist or the server does not answer.
    pub async fn last(&self, stream: StreamName, subject: &Subject) -> Result<Option<Stored>, BusError> {
        let found = self
            .jetstream()
            .get_stream_no_info(stream.as_str())
            .await
            .map_err(BusError::from_source("look up stream"))?
            .direct_get_last_for_subject(subject.to_string())
            .await;
        match found {
            Ok(message) => {
                let (context, schema) = context::incoming(Some(&message.headers));
                Ok(Some(Stored {
                    subject: message.subject.to_string(),
                    sequence: message.sequence,
                    published_at: message.time.into(),
                    pending: 0,
                    schema,
                    payload: message.payload,
                    context,
                    deleted: context::deletes(Some(&message.headers)),
                }))
            }
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(BusError::from_source("read stream")(error)),
        }
    }
}

impl Bus {
    /// Removes the newest inventory or heartbeat of a host that goes from its stream.
    ///
    /// # Errors
    /// When the stream does not exist or the server does not answer.
    pub async fn forget(&self, stream: StreamName, host: HostId) -> Result<(), BusError> {
        let subject =
            if stream == StreamName::Heartbeats { Subject::Heartbeat(host) } else { Subject::Inventory(host) };
        let held = self
            .jetstream()
            .get_stream_no_info(stream.as_str())
            .await
            .map_err(BusError::from_source("look up stream"))?;
        held.purge().filter(subject.to_string()).await.map(drop).map_err(BusError::from_source("forget a host"))
    }
}

/// Reads a stream in order, without gaps and without doubles, across reconnects.
pub struct Reader {
    bus: Bus,
    stream: String,
    filter: Option<String>,
    start: Start,
    flow: Option<Flow>,
}

struct Flow {
    messages: pull::Ordered,
    /// Which connection it began on.
    connects: u64,
}

impl Bus {
    /// Reads a stream from `start`, all of it or what matches `filter`. Nothing is sent before the first
    /// [`Reader::next`].
    pub fn read(&self, stream: StreamName, start: Start, filter: Option<String>) -> Reader {
        Reader::new(self, stream.as_str(), start, filter)
    }
}

impl Reader {
    pub(super) fn new(bus: &Bus, stream: &str, start: Start, filter: Option<String>) -> Self {
        Self { bus: bus.clone(), stream: stream.to_owned(), filter, start, flow: None }
    }

    /// The next message, waiting for it as long as it takes. Cancel-safe.
    ///
    /// # Errors
    /// When the flow broke off: call again, and it goes on behind the last message.
    pub async fn next(&mut self) -> Result<Stored, BusError> {
        loop {
            let Some(flow) = self.flow.as_mut() else {
                self.flow = Some(self.open().await?);
                continue;
            };
            let message = tokio::select! {
                // What has arrived is read before the flow is given up.
                biased;
                // cancel-safe: a message not yet taken stays in the flow.
                message = flow.messages.next() => message,
                // cancel-safe: only observed.
                () = self.bus.reconnected_since(flow.connects) => None,
            };
            match message {
                Some(Ok(message)) => {
                    let Some(stored) = Stored::from_message(&message) else { continue };
                    self.start = Start::Sequence(stored.sequence + 1);
                    return Ok(stored);
                }
                Some(Err(error)) => {
                    self.flow = None;
                    debug!(%error, stream = self.stream, "the reader's flow broke off");
                    return Err(BusError::from_source("read stream")(error));
                }
                None => self.flow = None,
            }
        }
    }

    async fn open(&mut self) -> Result<Flow, BusError> {
        let connects = self.bus.connects();
        if self.start == Start::New {
            // Fixed at the first attempt, so that a reconnect before the first message loses none.
            self.start = Start::Sequence(self.bus.bounds(&self.stream).await?.1 + 1);
        }
        let deliver_policy = match self.start {
            Start::Beginning => DeliverPolicy::All,
            Start::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence: start_sequence.max(1) },
            Start::Time(time) => DeliverPolicy::ByStartTime { start_time: time.as_utc() },
            Start::LastOfEach => DeliverPolicy::LastPerSubject,
            Start::New => DeliverPolicy::New,
        };
        let filter_subject = match (&self.filter, self.start) {
            (Some(filter), _) => filter.clone(),
            // The server wants a filter with this policy.
            (None, Start::LastOfEach) => ">".into(),
            (None, _) => String::new(),
        };
        let config = pull::OrderedConfig {
            deliver_policy,
            filter_subject,
            replay_policy: ReplayPolicy::Instant,
            ..Default::default()
        };
        let stream = self
            .bus
            .jetstream()
            .get_stream_no_info(&self.stream)
            .await
            .map_err(BusError::from_source("look up stream"))?;
        let consumer = stream.create_consumer(config).await.map_err(BusError::from_source("read stream"))?;
        let messages = consumer.messages().await.map_err(BusError::from_source("read stream"))?;
        Ok(Flow { messages, connects })
    }
}
