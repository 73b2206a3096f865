//! Writes batches, one after the other, and tells the bus what is committed. Several writers may be at work.
//!
//! Postgres away: the batch is kept and prolonged until Postgres is back. A batch whose data Postgres refuses is written
//! in halves, and these in halves, until the guilty message stands alone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::NaiveDate;
use pinacle_bus::{client::Outcome, contract::metrics::Metrics};
use pinacle_store::{MetricsBatch, MetricsWriter, StoreError, StoreErrorKind};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{error, warn};

use super::{
    Pipeline,
    batch::{Batch, PROLONG_EVERY, Taken, settle},
    encode::Encoder,
    figures::{Figures, Reason},
    judge::Refusal,
};
use crate::{gate::chain, throttle::Throttle};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a batch is written anew after a fault that is neither the data's nor an absence of Postgres.
const MOST_TRIES: u32 = 3;
/// How often the days of a batch are made before it counts as refused.
const MOST_ROUNDS: u32 = 20;

/// Why a batch was not written.
enum Unwritten {
    /// Postgres refuses it as it is.
    Refused(StoreError),
    /// The service stops while Postgres is away.
    Stopped,
}

/// A part of the pipeline that writes.
pub struct Writer {
    pipeline: Pipeline,
    figures: Figures,
    filled: Arc<Mutex<mpsc::Receiver<Batch>>>,
    spent: mpsc::Sender<MetricsBatch>,
    store: MetricsWriter,
    encoder: Encoder,
    faults: Throttle,
}

impl Writer {
    pub fn new(
        pipeline: Pipeline,
        figures: Figures,
        filled: Arc<Mutex<mpsc::Receiver<Batch>>>,
        spent: mpsc::Sender<MetricsBatch>,
    ) -> Self {
        let store = MetricsWriter::new(pipeline.database.clone());
        Self { pipeline, figures, filled, spent, store, encoder: Encoder::default(), faults: Throttle::default() }
    }

    /// Runs until there are no more batches.
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            // One writer at a time waits at the channel, the others for their turn at it.
            let Some(mut batch) = self.filled.lock().await.recv().await else { return Ok(()) };
            match self.write(&batch).await {
                Ok(()) => {
                    // The next batch may come while the bus is told about this one.
                    batch.turn = None;
                    settle(std::mem::take(&mut batch.messages), &self.figures).await;
                }
                Err(Unwritten::Stopped) => batch.give_back().await,
                Err(Unwritten::Refused(refused)) => {
                    warn!(
                        messages = batch.messages.len(),
                        reason = chain(&refused),
                        "Postgres refuses a batch of samples; looking for the guilty ones"
                    );
                    self.write_in_parts(std::mem::take(&mut batch.messages), refused).await;
                }
            }
            batch.turn = None;
            batch.rows.clear();
            // When nobody takes it, it goes.
            let _ = self.spent.try_send(batch.rows);
        }
    }

    /// Writes a batch, however long Postgres is away; its messages are prolonged meanwhile.
    async fn write(&mut self, batch: &Batch) -> Result<(), Unwritten> {
        let mut prolong = interval(PROLONG_EVERY);
        prolong.set_missed_tick_behavior(MissedTickBehavior::Delay);
        prolong.reset();
        let mut writing = std::pin::pin!(self.attempts(batch));
        loop {
            tokio::select! {
                // cancel-safe: polled again, not dropped.
                written = &mut writing => return written,
                // cancel-safe: a timer that keeps its ticks.
                _ = prolong.tick() => batch.prolong().await,
            }
        }
    }

    async fn attempts(&mut self, batch: &Batch) -> Result<(), Unwritten> {
        let (shutdown, gate) = (self.pipeline.shutdown.clone(), self.pipeline.gate.clone());
        let mut pause = SHORTEST_PAUSE;
        let mut tries = 0;
        loop {
            tokio::select! {
                biased;
                // cancel-safe: it only waits for a level.
                () = gate.opened() => {}
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Err(Unwritten::Stopped),
            }
            let start = Instant::now();
            let fault = match self.store.write_batch(&batch.rows).await {
                Ok(written) => {
                    self.figures.written(written, start.elapsed());
                    self.faults.reset();
                    return Ok(());
                }
                Err(fault) => fault,
            };
            self.figures.retried();
            tries += 1;
            let fault = match fault.kind() {
                StoreErrorKind::NoPartition => match self.make_partitions(batch).await {
                    Ok(true) if tries <= MOST_TRIES => continue,
                    // Another copy is making them, or a lock was not to be had.
                    Ok(_) => fault,
                    Err(fault) => fault,
                },
                StoreErrorKind::Data => return Err(Unwritten::Refused(fault)),
                _ => fault,
            };
            if !gate.note(&fault) {
                let patience = if fault.kind() == &StoreErrorKind::NoPartition { MOST_ROUNDS } else { MOST_TRIES };
                if tries >= patience {
                    return Err(Unwritten::Refused(fault));
                }
                if let Some(held_back) = self.faults.tell() {
                    error!(reason = chain(&fault), held_back, "cannot write samples; trying again");
                }
            }
            tokio::select! {
                // cancel-safe: a timer.
                () = sleep(pause) => {}
                // cancel-safe: only observed. One more attempt follows if Postgres is there.
                () = shutdown.cancelled(), if gate.is_closed() => return Err(Unwritten::Stopped),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Makes the days that the batch is of; whether all of them are there.
    async fn make_partitions(&self, batch: &Batch) -> Result<bool, StoreError> {
        let days: BTreeSet<NaiveDate> = batch.messages.iter().filter_map(day).collect();
        let mut left = 0;
        for day in days {
            left += self.pipeline.database.partitions_ensure(day, day).await?.left;
        }
        Ok(left == 0)
    }

    /// Writes messages in ever smaller parts. Those that Postgres refuses alone become dead letters.
    async fn write_in_parts(&mut self, messages: Vec<Taken>, refused: StoreError) {
        let mut parts = self.narrow(messages, &refused).await;
        while let Some(messages) = parts.pop() {
            let mut batch = Batch::default();
            for taken in messages {
                // It was decoded before, or it would not be here.
                if let Ok(sample) = taken.delivered.decode::<Metrics>() {
                    let (sequence, published_at) = (taken.delivered.sequence, taken.delivered.published_at);
                    // A row that cannot be encoded has made its message's refusal already.
                    let _ = self.encoder.encode(&sample, sequence, published_at, &taken.left_out, &mut batch.rows);
                }
                batch.note(taken);
            }
            match self.write(&batch).await {
                Ok(()) => settle(batch.messages, &self.figures).await,
                Err(Unwritten::Stopped) => batch.give_back().await,
                Err(Unwritten::Refused(refused)) => parts.extend(self.narrow(batch.messages, &refused).await),
            }
        }
    }

    /// Splits what was refused in two. A single message that was refused is the guilty one.
    async fn narrow(&self, mut messages: Vec<Taken>, refused: &StoreError) -> Vec<Vec<Taken>> {
        if messages.len() > 1 {
            let rest = messages.split_off(messages.len() / 2);
            return vec![messages, rest];
        }
        if let Some(mut taken) = messages.pop() {
            let text = format!("Postgres refuses it: {}", chain(refused));
            if refused.kind() == &StoreErrorKind::Data {
                taken.refusal = Some(Refusal { reason: Reason::Refused, text });
                taken.settle(&self.figures).await;
            } else {
                // Not clearly its fault: it has the consumer's number of tries.
                taken.delivered.settle(Outcome::Retry { reason: text }).await;
            }
        }
        Vec::new()
    }
}

/// The day of a message's sample.
fn day(taken: &Taken) -> Option<NaiveDate> {
    taken.delivered.decode::<Metrics>().ok().map(|sample| sample.sampled_at.as_utc().date_naive())
}
