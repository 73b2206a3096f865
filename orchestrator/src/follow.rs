//! The task that follows all hosts: it listens to heartbeats, notices, records and the clock, and writes what follows.
//!
//! One task holds the whole fleet, so that nothing is locked; writes run beside it, bounded. A heartbeat costs a look-up
//! and no I/O. What it knows beyond the records is gone when it ends: it begins anew with a grace.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use metrics::{counter, gauge, histogram};
use pinacle_bus::{
    client::{Bus, Change, Connection, Incoming, Start, Subscription},
    contract::{
        HostId, Subject, Timestamp,
        host::{Heartbeat, HostRecord},
        subject::filter,
        topology::StreamName,
    },
    service::Condition,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    fleet::{Fleet, Outcome, Taken},
    liveness::{Moment, PROBE_EVERY, PROBE_WITHIN, Patience},
    names::Names,
    notice::Notice,
    registry::{Registry, read_heartbeat},
};

const TICK: Duration = Duration::from_millis(250);
/// How often the figures of the fleet are brought up to date, in ticks.
const FIGURES_EVERY: u64 = 8;
/// Changes of records that may wait for this task.
const RECORDS_WAITING: usize = 1024;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long changes under way may take once the service stops.
const LAST_CHANGES: Duration = Duration::from_secs(5);

/// What the task is given.
#[derive(Clone)]
pub struct Follow {
    /// The bus.
    pub bus: Bus,
    /// The records.
    pub registry: Registry,
    /// Names that are taken; kept up to date.
    pub names: Names,
    /// How long a host may be silent.
    pub patience: Patience,
    /// How many changes may be under way at once.
    pub changes_at_once: usize,
    /// Met once all records are known.
    pub condition: Condition,
    /// Set with it.
    pub known: Arc<watch::Sender<bool>>,
    /// When to stop.
    pub shutdown: CancellationToken,
}

struct Following {
    fleet: Fleet,
    registry: Registry,
    changes: JoinSet<(HostId, Outcome)>,
    changes_at_once: usize,
    began: Instant,
    ticks: u64,
}

impl Follow {
    /// Follows until the service stops.
    ///
    /// # Errors
    /// When a subscription cannot be made or ends.
    pub async fn run(self) -> anyhow::Result<()> {
        self.known.send_replace(false);
        // Listening comes first: what is published while the records are read waits in the subscription.
        let mut heartbeats = subscribe(&self.bus, filter::heartbeats()).await?;
        let mut opened = subscribe(&self.bus, filter::CONNECTED.into()).await?;
        let mut closed = subscribe(&self.bus, filter::DISCONNECTED.into()).await?;
        let mut connection = self.bus.connection();
        let mut tasks = JoinSet::new();
        let mut records = self.records(&mut tasks);
        let mut newest = self.newest(&mut tasks);
        let mut probes = self.probes(&mut tasks);
        let mut timer = interval(TICK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut following = Following {
            fleet: Fleet::new(self.patience, self.names.clone()),
            registry: self.registry.clone(),
            changes: JoinSet::new(),
            changes_at_once: self.changes_at_once,
            began: Instant::now(),
            ticks: 0,
        };
        let first = *connection.borrow_and_update();
        following.connection(first);
        loop {
            tokio::select! {
                // cancel-safe: a message not yet taken stays in the subscription.
                incoming = heartbeats.next() => following.heartbeat(&incoming.context("heartbeats ended")?),
                // cancel-safe: as above.
                incoming = opened.next() => following.notice(&incoming.context("notices ended")?),
                // cancel-safe: as above.
                incoming = closed.next() => following.notice(&incoming.context("notices ended")?),
                // cancel-safe: what was not received stays in the channel.
                change = records.recv() => self.changed(&mut following, change.context("the records' watch ended")?),
                // cancel-safe: as above.
                Some((heartbeat, at)) = newest.recv() => {
                    let now = following.now();
                    following.fleet.prime(&heartbeat, at, now);
                }
                // cancel-safe: as above.
                answered = probes.recv() => {
                    let now = following.now();
                    following.fleet.probed(answered.context("the probes ended")?, now);
                }
                // cancel-safe: a watch keeps its newest value.
                changed = connection.changed() => {
                    changed.context("the bus is gone")?;
                    let state = *connection.borrow_and_update();
                    following.connection(state);
                }
                // cancel-safe: joining an ended task loses nothing.
                Some(done) = following.changes.join_next(), if !following.changes.is_empty() => following.done(done)?,
                // cancel-safe: a timer.
                _ = timer.tick() => following.tick(),
                // cancel-safe: only observed.
                () = self.shutdown.cancelled() => break,
            }
            following.start_changes();
        }
        // What is under way ends; what does not, another copy takes over.
        let _ = timeout(LAST_CHANGES, async { while following.changes.join_next().await.is_some() {} }).await;
        Ok(())
    }

    /// The bucket's changes, in a channel: opening the watch takes several answers of the server, and must not be cut
    /// off by each heartbeat that arrives.
    fn records(&self, tasks: &mut JoinSet<()>) -> mpsc::Receiver<Change<HostRecord>> {
        let (sender, receiver) = mpsc::channel(RECORDS_WAITING);
        let mut watch = self.registry.records().watch();
        tasks.spawn(async move {
            loop {
                match watch.next().await {
                    Ok(change) => {
                        if sender.send(change).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        debug!(%error, "the watch of the records broke off; going on");
                        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
            }
        });
        receiver
    }

    /// Whether the bus answers, asked again and again.
    fn probes(&self, tasks: &mut JoinSet<()>) -> mpsc::Receiver<bool> {
        let (sender, receiver) = mpsc::channel(1);
        let bus = self.bus.clone();
        tasks.spawn(async move {
            loop {
                let asked = Instant::now();
                // However long it takes: an answer that comes late tells that the bus had hung until now.
                let answered = bus.stream_bounds(StreamName::Heartbeats).await.is_ok();
                if sender.send(answered && asked.elapsed() <= PROBE_WITHIN).await.is_err() {
                    return;
                }
                tokio::time::sleep(PROBE_EVERY).await;
            }
        });
        receiver
    }

    /// The newest heartbeats that the bus holds, once all records are known.
    fn newest(&self, tasks: &mut JoinSet<()>) -> mpsc::Receiver<(Heartbeat, Timestamp)> {
        let (sender, receiver) = mpsc::channel(RECORDS_WAITING);
        let mut known = self.known.subscribe();
        let mut reader = self.bus.read(StreamName::Heartbeats, Start::LastOfEach, Some(filter::heartbeats()));
        tasks.spawn(async move {
            if known.wait_for(|known| *known).await.is_err() {
                return;
            }
            // Without them everything works; they tell a replay at the start, and are evidence.
            while let Ok(Ok(stored)) = timeout(Duration::from_secs(5), reader.next()).await {
                if let Some(heartbeat) = read_heartbeat(&stored)
                    && sender.send((heartbeat, stored.published_at)).await.is_err()
                {
                    return;
                }
                if stored.pending == 0 {
                    return;
                }
            }
        });
        receiver
    }

    fn changed(&self, following: &mut Following, change: Change<HostRecord>) {
        let now = following.now();
        match change {
            Change::Put { key, entry } if entry.record.host_id.to_string() == key => following.fleet.record(entry, now),
            Change::Put { key, .. } => warn!(key, "a record lies under another host's key; it is passed over"),
            Change::Deleted { key, .. } => {
                if let Ok(host) = key.parse() {
                    following.fleet.removed(host);
                }
            }
            Change::Malformed { key, error, .. } => {
                warn!(key, %error, "a host's record cannot be read; the host is not followed");
            }
            Change::Current => {
                info!("all records of hosts are known");
                self.condition.met();
                self.known.send_replace(true);
            }
        }
    }
}

impl Following {
    fn now(&self) -> Moment {
        Moment { elapsed: self.began.elapsed(), wall: Timestamp::now() }
    }

    fn connection(&mut self, state: Connection) {
        if state.connected {
            let now = self.now();
            self.fleet.connected(now);
        } else {
            self.fleet.disconnected();
        }
    }

    fn heartbeat(&mut self, incoming: &Incoming) {
        let heartbeat = match incoming.decode::<Heartbeat>() {
            Ok(heartbeat) if incoming.subject.parse() == Ok(Subject::Heartbeat(heartbeat.host_id)) => heartbeat,
            Ok(heartbeat) => {
                debug!(subject = incoming.subject, host = %heartbeat.host_id, "a heartbeat names another host");
                return count_heartbeat("misdirected");
            }
            Err(error) => {
                debug!(subject = incoming.subject, %error, "a heartbeat cannot be read");
                return count_heartbeat("malformed");
            }
        };
        let now = self.now();
        count_heartbeat(match self.fleet.heartbeat(&heartbeat, now) {
            Taken::Fresh(gap) => {
                histogram!("pinacle_orchestrator_heartbeat_gap_seconds").record(gap);
                "fresh"
            }
            Taken::Stale => "stale",
            Taken::Unknown => "unknown_host",
        });
    }

    fn notice(&mut self, incoming: &Incoming) {
        let now = self.now();
        if let Some(notice) = Notice::read(incoming) {
            self.fleet.notice(notice, now);
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        if self.fleet.tick(now) {
            warn!("this process stalled; silence proves nothing for a while");
            counter!("pinacle_orchestrator_stalls_total").increment(1);
        }
        if self.ticks.is_multiple_of(FIGURES_EVERY) {
            for (state, hosts) in self.fleet.states() {
                gauge!("pinacle_orchestrator_hosts", "state" => state.as_str()).set(hosts as f64);
            }
        }
        self.ticks += 1;
    }

    fn start_changes(&mut self) {
        while self.changes.len() < self.changes_at_once {
            let now = self.now();
            let Some(job) = self.fleet.next_job(now) else { break };
            let registry = self.registry.clone();
            self.changes.spawn(async move { registry.run(job).await });
        }
    }

    fn done(&mut self, done: Result<(HostId, Outcome), tokio::task::JoinError>) -> anyhow::Result<()> {
        // A job that panicked leaves its host busy for ever: begin anew.
        let (host, outcome) = done.context("writing a host's change failed")?;
        let now = self.now();
        self.fleet.finished(host, outcome, now);
        Ok(())
    }
}

fn count_heartbeat(outcome: &'static str) {
    counter!("pinacle_orchestrator_heartbeats_total", "outcome" => outcome).increment(1);
}

async fn subscribe(bus: &Bus, filter: String) -> anyhow::Result<Subscription> {
    bus.subscribe(filter.clone()).await.with_context(|| format!("subscribe to {filter}"))
}
