//! Takes messages in, judges them and encodes their rows into the batch at hand.
//!
//! A batch is handed over when it is full or has waited long enough, and a writer is free; until then it grows. While Postgres is away nothing more is taken in, and what is at hand is prolonged.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::FutureExt;
use pinacle_bus::{
    client::{Delivered, Outcome, Puller},
    contract::{PodId, Timestamp, metrics::Metrics, topology},
};
use pinacle_store::MetricsBatch;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    Pipeline,
    batch::{Batch, PROLONG_EVERY, Taken},
    doubt::{Doubt, Stranger, doubt_pods, wait},
    encode::Encoder,
    figures::{Figures, Reason},
    judge::{Limits, Refusal, Verdict, judge, undecodable},
};
use crate::gate::chain;

/// Messages whose fate takes a question to the bus. More than these hold up the rest.
const MOST_DOUBTS: usize = 64;
/// Samples of unknown hosts that this process lets wait; further ones are refused at once. A message that waits counts
/// among those that the server has given out, of which there is a limit that the samples of known hosts share.
const MOST_STRANGERS: usize = 15_000;
/// Longest time for them at the end.
const LAST_DOUBTS: Duration = Duration::from_secs(5);

/// The part of the pipeline that takes messages in.
pub struct Intake {
    pipeline: Pipeline,
    figures: Figures,
    limits: Limits,
    writing: Arc<Semaphore>,
    batches: mpsc::Sender<Batch>,
    spare: mpsc::Receiver<MetricsBatch>,
    puller: Puller,
    encoder: Encoder,
    batch: Batch,
    doubts: JoinSet<Doubt>,
    /// When those come back that wait for their host's admission, in about that order.
    strangers: VecDeque<Instant>,
}

impl Intake {
    pub fn new(
        pipeline: Pipeline,
        figures: Figures,
        limits: Limits,
        writing: Arc<Semaphore>,
        batches: mpsc::Sender<Batch>,
        spare: mpsc::Receiver<MetricsBatch>,
    ) -> Self {
        let puller = Puller::new(&pipeline.bus, &topology::INGEST_METRICS, pipeline.settings.prefetch);
        Self {
            pipeline,
            figures,
            limits,
            writing,
            batches,
            spare,
            puller,
            encoder: Encoder::default(),
            batch: Batch::default(),
            doubts: JoinSet::new(),
            strangers: VecDeque::new(),
        }
    }

    /// Runs until shutdown.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let shutdown = self.pipeline.shutdown.clone();
        let (known, gate) = (self.pipeline.known.clone(), self.pipeline.gate.clone());
        tokio::select! {
            // cancel-safe: both only wait for a level.
            () = async { known.primed().await; gate.opened().await } => {}
            // cancel-safe: only observed.
            () = shutdown.cancelled() => return Ok(()),
        }
        let mut prolong = interval(PROLONG_EVERY);
        prolong.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulling = false;
        while !shutdown.is_cancelled() {
            let full = self.batch.is_full(self.pipeline.settings.batch_rows);
            let deadline = self.batch.since.map(|since| since + self.pipeline.settings.batch_age());
            let due = full || deadline.is_some_and(|deadline| deadline <= Instant::now());
            let away = gate.is_closed();
            if away && pulling {
                info!("taking in no more samples until Postgres is back");
                self.puller.release();
            }
            pulling = !away;
            tokio::select! {
                biased;
                // cancel-safe: only observed.
                () = shutdown.cancelled() => {}
                // cancel-safe: it only loses its place in a queue of one.
                turn = self.writing.clone().acquire_owned(), if due && !self.batch.is_empty() => {
                    self.batch.turn = Some(turn.context("take the turn to write")?);
                    self.hand_over().await?;
                }
                // cancel-safe: a timer that keeps its ticks.
                _ = prolong.tick() => self.batch.prolong().await,
                // cancel-safe: joining an ended task loses nothing.
                Some(doubt) = self.doubts.join_next(), if !full => self.resolve(doubt.context("join a doubt")?),
                // cancel-safe: see Puller::next.
                delivered = self.puller.next(), if !full && !away && self.doubts.len() < MOST_DOUBTS => {
                    self.take(delivered);
                    self.take_what_is_there();
                }
                // cancel-safe: a timer.
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() && !due => {}
                // cancel-safe: it only waits for a level.
                () = gate.opened(), if away => {}
            }
        }
        self.finish().await
    }

    /// What waits in this process already, without a round through the scheduler for each.
    fn take_what_is_there(&mut self) {
        while !self.batch.is_full(self.pipeline.settings.batch_rows) && self.doubts.len() < MOST_DOUBTS {
            match self.puller.next().now_or_never() {
                Some(delivered) => self.take(delivered),
                None => return,
            }
        }
    }

    fn take(&mut self, delivered: Delivered) {
        self.figures.pending(delivered.pending);
        // Only this message's rows can be half done after a panic, and each row is good on its own.
        let taken = std::panic::catch_unwind(AssertUnwindSafe(|| self.sort(&delivered)));
        let verdict = taken.unwrap_or_else(|_| {
            Verdict::Refuse(Refusal {
                reason: Reason::Malformed,
                text: "reading it failed; see the service's log".into(),
            })
        });
        match verdict {
            Verdict::Keep => self.batch.note(Taken::whole(delivered)),
            Verdict::Refuse(refusal) => {
                let figures = self.figures.clone();
                self.doubts.spawn(async move {
                    Taken { delivered, left_out: Vec::new(), refusal: Some(refusal) }.settle(&figures).await;
                    Doubt::Settled
                });
            }
            Verdict::UnknownHost(host) => {
                let (known, limits, figures) = (self.pipeline.known.clone(), self.limits, self.figures.clone());
                let wait = wait(delivered.tries);
                while self.strangers.front().is_some_and(|back| *back <= Instant::now()) {
                    self.strangers.pop_front();
                }
                let crowded = self.strangers.len() >= MOST_STRANGERS;
                if !crowded {
                    self.strangers.push_back(Instant::now() + wait);
                }
                self.doubts.spawn(async move {
                    let stranger = Stranger { delivered, host, wait, crowded };
                    stranger.settle(&known, &limits, &figures).await
                });
            }
            Verdict::PodsElsewhere(pods) => {
                let known = self.pipeline.known.clone();
                self.doubts.spawn(doubt_pods(delivered, pods, known));
            }
        }
    }

    /// Judges a message; when it is good, its rows are in the batch.
    fn sort(&mut self, delivered: &Delivered) -> Verdict {
        let sample = match delivered.decode::<Metrics>() {
            Ok(sample) => sample,
            Err(error) => return Verdict::Refuse(undecodable(&error)),
        };
        let now = Timestamp::now();
        let verdict = self.pipeline.known.with(|known| judge(&delivered.subject, &sample, known, now, &self.limits));
        if verdict != Verdict::Keep {
            return verdict;
        }
        self.encode(&sample, delivered, &[])
    }

    fn encode(&mut self, sample: &Metrics, delivered: &Delivered, left_out: &[PodId]) -> Verdict {
        let (sequence, published_at) = (delivered.sequence, delivered.published_at);
        match self.encoder.encode(sample, sequence, published_at, left_out, &mut self.batch.rows) {
            Ok(()) => Verdict::Keep,
            Err(error) => Verdict::Refuse(Refusal { reason: Reason::OutOfRange, text: chain(&error) }),
        }
    }

    fn resolve(&mut self, doubt: Doubt) {
        match doubt {
            Doubt::Settled => {}
            Doubt::Again(delivered) => self.take(delivered),
            Doubt::Cleared(mut taken) => {
                let verdict = match taken.delivered.decode::<Metrics>() {
                    Ok(sample) => self.encode(&sample, &taken.delivered, &taken.left_out),
                    Err(error) => Verdict::Refuse(undecodable(&error)),
                };
                if let Verdict::Refuse(refusal) = verdict {
                    taken.refusal = Some(refusal);
                }
                self.batch.note(taken);
            }
        }
    }

    async fn hand_over(&mut self) -> anyhow::Result<()> {
        let rows = self.spare.try_recv().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, Batch::reusing(rows));
        // There is room: it has as many places as there are turns, and one of them is this batch's.
        self.batches.send(batch).await.map_err(|_| anyhow::anyhow!("the writer of samples has ended"))
    }

    /// Gives back what nobody looked at, and hands over the rest.
    async fn finish(mut self) -> anyhow::Result<()> {
        let mut unread = Vec::new();
        while let Some(delivered) = self.puller.next().now_or_never() {
            unread.push(delivered);
        }
        // First let go, or the server gives them to this process again.
        self.puller.release();
        for delivered in unread {
            delivered.settle(Outcome::Later(Duration::ZERO)).await;
        }
        let judged = async {
            while let Some(doubt) = self.doubts.join_next().await {
                match doubt {
                    Ok(Doubt::Again(delivered)) => delivered.settle(Outcome::Later(Duration::ZERO)).await,
                    Ok(doubt) => self.resolve(doubt),
                    Err(error) => warn!(%error, "cannot tell what became of a sample; it is delivered again"),
                }
            }
        };
        if timeout(LAST_DOUBTS, judged).await.is_err() {
            warn!("the bus did not answer about some samples; they are delivered again");
        }
        if !self.batch.is_empty() {
            self.batch.turn = Some(self.writing.clone().acquire_owned().await.context("take the last turn to write")?);
            self.hand_over().await?;
        }
        Ok(())
    }
}
