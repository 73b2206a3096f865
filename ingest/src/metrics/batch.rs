//! Messages on their way to the tables, with their rows.

use std::time::Duration;

use pinacle_bus::{
    client::{Delivered, Outcome},
    contract::{PodId, Timestamp},
};
use pinacle_store::MetricsBatch;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};
use tracing::warn;

use super::{figures::Figures, judge::Refusal};

/// The server delivers a message again 30 s after it last heard of it.
pub const PROLONG_EVERY: Duration = Duration::from_secs(10);
/// Longest time for telling the server about a batch. What it does not hear is delivered again, and changes nothing.
const SETTLE: Duration = Duration::from_secs(10);

/// Bounds memory when messages are large for the rows that they hold.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A message that was taken in.
pub struct Taken {
    /// The message.
    pub delivered: Delivered,
    /// Its pods that run elsewhere: their rows are not written.
    pub left_out: Vec<PodId>,
    /// Why it becomes a dead letter all the same, once its good rows are written.
    pub refusal: Option<Refusal>,
}

impl Taken {
    /// A message that is good as it is.
    pub fn whole(delivered: Delivered) -> Self {
        Self { delivered, left_out: Vec::new(), refusal: None }
    }

    /// Tells the server that its good rows are committed.
    pub async fn settle(self, figures: &Figures) {
        match self.refusal {
            None => self.delivered.settle(Outcome::Done).await,
            Some(refusal) => {
                figures.dead(refusal.reason);
                self.delivered.settle(Outcome::Reject { reason: refusal.text }).await;
            }
        }
    }
}

/// Messages and their rows, to be written at once.
#[derive(Default)]
pub struct Batch {
    /// The rows.
    pub rows: MetricsBatch,
    /// The messages that they come from.
    pub messages: Vec<Taken>,
    /// What they take.
    bytes: usize,
    /// When the first one was taken in.
    pub since: Option<Instant>,
    /// The right to be written, once it has it.
    pub turn: Option<OwnedSemaphorePermit>,
}

impl Batch {
    /// An empty batch that reuses the buffers of one that was written.
    pub fn reusing(rows: MetricsBatch) -> Self {
        Self { rows, ..Self::default() }
    }

    /// Whether it holds no message.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether it takes no more: `most_rows` are in it, or as many bytes as fit.
    pub fn is_full(&self, most_rows: usize) -> bool {
        self.rows.rows() >= most_rows || self.bytes >= MOST_BYTES
    }

    /// Adds a message whose rows are in the batch.
    pub fn note(&mut self, taken: Taken) {
        self.bytes += taken.delivered.payload.len();
        self.since.get_or_insert_with(Instant::now);
        self.messages.push(taken);
    }

    /// Tells the server that work on all of them goes on.
    pub async fn prolong(&self) {
        let told = async {
            for taken in &self.messages {
                taken.delivered.prolong().await;
            }
        };
        if timeout(SETTLE, told).await.is_err() {
            warn!("cannot tell the bus that samples are still being written; they may be delivered again");
        }
    }

    /// Gives all messages back, for whoever is next.
    pub async fn give_back(&mut self) {
        let told = async {
            for taken in self.messages.drain(..) {
                taken.delivered.settle(Outcome::Later(Duration::ZERO)).await;
            }
        };
        if timeout(SETTLE, told).await.is_err() {
            warn!("cannot give samples back to the bus; it delivers them again in a while");
        }
        self.messages.clear();
    }
}

/// Settles messages whose good rows are committed. Dead letters take a round trip each, so many go at once.
pub async fn settle(messages: impl IntoIterator<Item = Taken>, figures: &Figures) {
    use futures_util::StreamExt;

    let now = Timestamp::now();
    let told = futures_util::stream::iter(messages).for_each_concurrent(32, |taken| {
        figures.committed(now, taken.delivered.published_at);
        taken.settle(figures)
    });
    if timeout(SETTLE, told).await.is_err() {
        warn!("cannot tell the bus what was written; it delivers that again, which changes nothing");
    }
}
