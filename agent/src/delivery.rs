//! Samples on their way: to the bus with an acknowledgement, and to the spool when that fails.
//!
//! Invariant: one sample is on its way at a time, and each ends in the stream or in the spool before the next is taken,
//! so that an agent that is killed loses at most that one.

use std::{sync::Arc, time::Duration};

use metrics::counter;
use parking_lot::Mutex;
use pinacle_bus::{
    client::{Bus, BusError, ResendingPublisher},
    contract::{Subject, metrics::Metrics},
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{docker::View, identity::Identity, sample::Sampler, spool::Spool};

/// An acknowledgement takes a millisecond; one that takes so long will not come.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The first sample comes soon, so that a new host shows figures at once.
const FIRST_AFTER: Duration = Duration::from_secs(1);
/// Closer together, percentages are mostly noise: the kernel counts CPU time in steps of 10 ms.
const CLOSEST: Duration = Duration::from_millis(250);
/// Old samples go at most at this pace, so that they hold up nothing.
const DRAIN_PAUSE: Duration = Duration::from_millis(20);
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Asks for a sample now.
pub type SampleNow = oneshot::Sender<Metrics>;

/// Brings samples to where they belong.
#[derive(Clone)]
pub struct Delivery {
    /// Whose samples these are; held, so that the state directory stays taken for as long as the spool is used.
    pub identity: Arc<Identity>,
    /// Where to.
    pub bus: Bus,
    /// Where they wait.
    pub spool: Arc<Mutex<Spool>>,
    /// Told when there is something in the spool.
    pub spooled: Arc<Notify>,
}

/// What the sampling task is told.
pub struct Wishes {
    /// The interval.
    pub interval: watch::Receiver<Duration>,
    /// Samples wanted now.
    pub now: mpsc::Receiver<SampleNow>,
}

impl Delivery {
    /// Samples each interval, and when asked, until `shutdown`. The sample under way is brought home first.
    ///
    /// # Errors
    /// When the task is broken.
    pub async fn sample(
        self,
        sampler: Sampler,
        view: watch::Receiver<View>,
        mut wishes: Wishes,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut sampler = Some(sampler);
        let mut publisher = ResendingPublisher::new(&self.bus);
        let mut connection = self.bus.connection();
        let mut last = Instant::now();
        let mut next = last + FIRST_AFTER.min(*wishes.interval.borrow());
        loop {
            let asked = tokio::select! {
                // cancel-safe: a timer.
                () = sleep_until(next) => None,
                // cancel-safe: a request not yet taken stays in the channel.
                Some(asked) = wishes.now.recv() => Some(asked),
                // cancel-safe: a watch keeps its value.
                Ok(()) = wishes.interval.changed() => {
                    let interval = *wishes.interval.borrow_and_update();
                    next = (last + interval).max(Instant::now());
                    continue;
                }
                // cancel-safe: a watch keeps its value.
                Ok(()) = connection.changed() => {
                    if connection.borrow_and_update().connected {
                        // A server that died had acknowledged the last sample perhaps before it was on disk. What fails
                        // here is done again by the next publication.
                        let _ = timeout(LONGEST_WAIT, publisher.catch_up()).await;
                    }
                    continue;
                }
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
            };
            let interval = *wishes.interval.borrow();
            if asked.is_some() {
                sleep_until(last + CLOSEST).await;
            }
            let Some(mut taking) = sampler.take() else { anyhow::bail!("the sampler is gone") };
            let pods = view.borrow().pods.clone();
            // A kernel that is short of memory may take its time over a file: the heartbeat must not wait for it.
            let (taken, sample) = spawn_blocking(move || {
                let sample = taking.take(&pods);
                (taking, sample)
            })
            .await?;
            last = taken.last_taken();
            sampler = Some(taken);
            if let Some(asked) = asked {
                // Whoever asked may have gone; the sample counts all the same.
                let _ = asked.send(sample.clone());
            }
            self.deliver(&mut publisher, sample, interval).await;
            // On the clock, without piling up after a stall.
            while next <= last {
                next += interval;
            }
        }
    }

    async fn deliver(&self, publisher: &mut ResendingPublisher, sample: Metrics, interval: Duration) {
        let error = match self.publish(publisher, &sample, LONGEST_WAIT.min(interval.mul_f64(0.8))).await {
            Ok(()) => {
                counter!("pinacle_agent_samples_total", "went" => "live").increment(1);
                return;
            }
            Err(error) => error,
        };
        debug!(error, "sample goes to the spool");
        let spool = self.spool.clone();
        match spawn_blocking(move || spool.lock().push(sample)).await {
            Ok(Ok(())) => counter!("pinacle_agent_samples_total", "went" => "spool").increment(1),
            Ok(Err(error)) => warn!(%error, "lost a sample: neither the bus nor the spool takes it"),
            Err(error) => warn!(%error, "lost a sample: the spool failed"),
        }
        self.spooled.notify_one();
    }

    async fn publish(
        &self,
        publisher: &mut ResendingPublisher,
        sample: &Metrics,
        deadline: Duration,
    ) -> Result<(), String> {
        let subject = Subject::Metrics(self.identity.host_id);
        let message_id = sample.message_id();
        match timeout(deadline, publisher.publish(&subject, &message_id, sample)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(BusError::to_string(&error)),
            Err(_) => Err(format!("no acknowledgement within {} ms", deadline.as_millis())),
        }
    }

    /// Sends what waits in the spool, oldest first, whenever the bus is there, until `shutdown`. A sample leaves the
    /// spool once the stream has it.
    ///
    /// # Errors
    /// When the task is broken.
    pub async fn drain_spool(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut connection = self.bus.connection();
        let mut publisher = ResendingPublisher::new(&self.bus);
        let mut retry = SHORTEST_RETRY;
        let mut sent: u64 = 0;
        loop {
            let connected = connection.borrow_and_update().connected;
            let oldest = if connected {
                // As above: what fails is done again.
                let _ = timeout(LONGEST_WAIT, publisher.catch_up()).await;
                self.in_spool(Spool::oldest).await?
            } else {
                None
            };
            let pause = match oldest {
                None => {
                    if sent > 0 && connected {
                        info!(samples = sent, "all late samples have arrived");
                        sent = 0;
                    }
                    None
                }
                Some(sample) => match self.publish(&mut publisher, &sample, LONGEST_WAIT).await {
                    Ok(()) => {
                        self.in_spool(move |spool| spool.remove(&sample)).await?;
                        counter!("pinacle_agent_samples_total", "went" => "late").increment(1);
                        (sent, retry) = (sent + 1, SHORTEST_RETRY);
                        Some(DRAIN_PAUSE)
                    }
                    Err(error) => {
                        debug!(error, "a late sample has to wait longer");
                        retry = (retry * 2).min(LONGEST_RETRY);
                        Some(retry)
                    }
                },
            };
            let idle = pause.is_none();
            tokio::select! {
                // cancel-safe: a timer.
                () = sleep(pause.unwrap_or_default()), if !idle => {}
                // cancel-safe: a permit that was given is kept.
                () = self.spooled.notified(), if idle => {}
                // cancel-safe: a watch keeps its value.
                changed = connection.changed(), if idle => changed?,
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Runs `work` on the spool where its waiting for the disk delays nobody.
    async fn in_spool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let spool = self.spool.clone();
        Ok(spawn_blocking(move || work(&mut spool.lock())).await?)
    }
}
