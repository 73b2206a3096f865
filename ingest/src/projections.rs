//! Everything on the bus but samples, as rows: live records, requests, events, operations, commands, dead letters.
//!
//! Each message is written in a transaction of its own and acknowledged after it. The store keeps the newest by stream
//! sequence, so that messages may come twice and in any order.

mod audit;
mod handlers;
mod rows;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{FutureExt, future::BoxFuture};
use pinacle_bus::{
    client::{Bus, Delivered, Outcome, consume},
    contract::topology::{
        ConsumerSpec, INGEST_DEAD, INGEST_EVENTS, INGEST_EXEC, INGEST_HOSTS, INGEST_PODS, INGEST_REQUESTS, StreamName,
    },
    service::{OnFailure, Supervisor},
};
use pinacle_store::{Database, Replaced, StoreError, StoreErrorKind};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::gate::{Gate, chain};

/// The server delivers a message again 30 s after it last heard of it.
const PROLONG_EVERY: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is done with a message of one consumer.
type Handler = fn(Projector, Arc<Delivered>) -> BoxFuture<'static, Outcome>;

/// What the projections work with. Cheap to clone.
#[derive(Clone)]
pub struct Projector {
    /// Where messages come from.
    pub bus: Bus,
    /// Where they go.
    pub database: Database,
    /// Whether they can go there now.
    pub gate: Gate,
    /// Messages at once, of each consumer.
    pub at_once: usize,
    /// Take in nothing new, finish what is under way.
    pub shutdown: CancellationToken,
}

impl Projector {
    /// Starts one task a consumer.
    pub fn spawn(&self, supervisor: &Supervisor) {
        self.spawn_one(supervisor, &INGEST_HOSTS, |it, message| async move { it.host(&message).await }.boxed());
        self.spawn_one(supervisor, &INGEST_PODS, |it, message| async move { it.pod(&message).await }.boxed());
        self.spawn_one(supervisor, &INGEST_REQUESTS, |it, message| async move { it.request(&message).await }.boxed());
        self.spawn_one(supervisor, &INGEST_EVENTS, |it, message| async move { it.event(&message).await }.boxed());
        self.spawn_one(supervisor, &INGEST_EXEC, |it, message| async move { it.exec(&message).await }.boxed());
        self.spawn_one(supervisor, &INGEST_DEAD, |it, message| async move { it.dead_letter(&message).await }.boxed());
    }

    fn spawn_one(&self, supervisor: &Supervisor, spec: &'static ConsumerSpec, handle: Handler) {
        let projector = self.clone();
        supervisor.spawn(spec.name, OnFailure::Restart, move || {
            let projector = projector.clone();
            async move {
                let (bus, at_once, shutdown) = (projector.bus.clone(), projector.at_once, projector.shutdown.clone());
                tokio::select! {
                    // cancel-safe: it only waits for a level. What cannot be written yet is better left on the bus.
                    () = projector.gate.opened() => {}
                    // cancel-safe: only observed.
                    () = shutdown.cancelled() => return Ok(()),
                }
                projector.take_over(spec.stream).await?;
                consume(&bus, spec, at_once, shutdown, move |delivered| handle(projector.clone(), delivered)).await;
                Ok(())
            }
        });
    }

    /// After the bus was lost and began anew, its sequences are below those that the rows carry: without this no new
    /// message would replace them.
    async fn take_over(&self, stream: StreamName) -> anyhow::Result<()> {
        let table = match stream {
            StreamName::HostRecords => Replaced::Hosts,
            StreamName::PodRecords => Replaced::Pods,
            StreamName::Events => Replaced::Operations,
            StreamName::Exec => Replaced::Exec,
            _ => return Ok(()),
        };
        let highest = self.database.sequence_highest(table).await.context("look up what is projected")?;
        let (_, newest) = self.bus.stream_bounds(stream).await.context("look up the stream")?;
        let newest = i64::try_from(newest)?;
        if highest > newest {
            let rows = self.database.sequences_rebase(table, newest).await.context("take rows over")?;
            warn!(
                stream = stream.as_str(),
                rows, "the stream began anew; its messages replace what was projected before"
            );
        }
        Ok(())
    }

    /// Runs `write` until it succeeds or its data is refused, however long Postgres is away; the message is prolonged
    /// meanwhile.
    async fn write<T, Fut>(&self, delivered: &Delivered, write: impl Fn(Database) -> Fut) -> Result<T, Outcome>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let mut prolong = interval(PROLONG_EVERY);
        prolong.set_missed_tick_behavior(MissedTickBehavior::Delay);
        prolong.reset();
        let mut pause = SHORTEST_PAUSE;
        loop {
            tokio::select! {
                biased;
                // cancel-safe: it only waits for a level.
                () = self.gate.opened() => {}
                // cancel-safe: a timer that keeps its ticks.
                _ = prolong.tick() => { delivered.prolong().await; continue }
                // cancel-safe: only observed.
                () = self.shutdown.cancelled() => return Err(Outcome::Later(Duration::ZERO)),
            }
            let error = match write(self.database.clone()).await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            metrics::counter!("pinacle_ingest_retries_total").increment(1);
            let reason = || format!("Postgres refuses it: {}", chain(&error));
            match error.kind() {
                StoreErrorKind::Data => return Err(Outcome::Reject { reason: reason() }),
                _ if self.gate.note(&error) => {}
                _ => return Err(Outcome::Retry { reason: reason() }),
            }
            delivered.prolong().await;
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
