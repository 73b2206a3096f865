//! One connection with its share of the hosts: what is due next is done next, spread evenly over the interval.
//!
//! A sample counts once the stream has it. What the bus does not take waits, as in an agent's spool, and goes out late.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use pinacle_bus::{
    client::{Bus, ResendingPublisher},
    contract::{Message, Subject, encode, metrics::Metrics},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    faults::Faults,
    host::Host,
    plan::Plan,
    tally::{Tally, count},
};

const INVENTORY: Duration = Duration::from_secs(60);
/// The first inventories, each of which makes a record on disk, are spread over this.
const ADMITTED_WITHIN: Duration = Duration::from_secs(5);
/// Inventories under way on one connection.
const INVENTORIES_AT_ONCE: usize = 4;
const PAUSE_WHEN_BUSY: Duration = Duration::from_millis(20);
/// How long a late sample waits.
const LATE_BY: Duration = Duration::from_secs(30);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);
/// What all connections together keep while the bus is away.
const MOST_HELD_BYTES: usize = 256 * 1024 * 1024;

/// What a host does next; of several at one time in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Inventory,
    Sample,
}

/// A sample that waits until it is due.
struct Held {
    due: Instant,
    pods: u64,
    subject: String,
    message_id: String,
    payload: Bytes,
}

/// One connection's share of the fleet.
pub(super) struct Worker {
    bus: Bus,
    publisher: ResendingPublisher,
    /// And when it vanishes, if it does.
    hosts: Vec<(Host, Option<Instant>)>,
    turns: BinaryHeap<Reverse<(Instant, usize, Turn)>>,
    inventories: JoinSet<(usize, bool)>,
    /// Late on request, in the order in which they are due.
    late: VecDeque<Held>,
    /// What the bus did not take, oldest first.
    spool: VecDeque<Held>,
    spool_again: Instant,
    held_bytes: usize,
    most_held_bytes: usize,
    interval: Duration,
    faults: Faults,
    random: StdRng,
    malformed: u64,
    tally: Arc<Tally>,
}

impl Worker {
    pub fn new(bus: Bus, plan: &Plan, tally: Arc<Tally>) -> Self {
        let seed = plan.seed.wrapping_mul(1 << 20).wrapping_add(u64::from(plan.connection));
        let (mut hosts, mut turns) = (Vec::new(), BinaryHeap::new());
        for (index, number) in plan.numbers().enumerate() {
            let host = Host::new(plan.seed, number, plan.pods, plan.interval);
            hosts.push((host, plan.vanishes_at(number)));
            turns.push(Reverse((plan.phase(number, ADMITTED_WITHIN), index, Turn::Inventory)));
            turns.push(Reverse((plan.phase(number, plan.interval), index, Turn::Sample)));
        }
        Self {
            publisher: ResendingPublisher::new(&bus),
            bus,
            hosts,
            turns,
            inventories: JoinSet::new(),
            late: VecDeque::new(),
            spool: VecDeque::new(),
            spool_again: plan.began,
            held_bytes: 0,
            most_held_bytes: MOST_HELD_BYTES / usize::try_from(plan.connections).unwrap_or(1).max(1),
            interval: plan.interval,
            faults: plan.faults,
            random: StdRng::seed_from_u64(seed),
            malformed: 0,
            tally,
        }
    }

    /// Works until `stop`, and sends what is late.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let turn = self.turns.peek().map(|Reverse((due, ..))| *due);
            let late = self.late.front().map(|held| held.due);
            let spool = self.spool.front().map(|_| self.spool_again);
            let Some(due) = [turn, late, spool].into_iter().flatten().min() else { break };
            tokio::select! {
                // cancel-safe: a timer.
                () = sleep_until(due) => {}
                // cancel-safe: only observed.
                () = stop.cancelled() => break,
            }
            if late == Some(due) {
                self.send_late().await;
            } else if spool == Some(due) {
                self.send_spooled().await;
            } else if let Some(Reverse((due, index, turn))) = self.turns.pop() {
                self.take_turn(due, index, turn).await;
            }
        }
        // All hosts may have vanished before the end.
        stop.cancelled().await;
        while !self.late.is_empty() || !self.spool.is_empty() {
            self.send_late().await;
            if !self.send_spooled().await {
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
        while let Some(done) = self.inventories.join_next().await {
            if let Ok((_, true)) = done {
                count(&self.tally.inventories);
            }
        }
        while self.publisher.catch_up().await.is_err() {
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }

    async fn take_turn(&mut self, due: Instant, index: usize, turn: Turn) {
        let now = Instant::now();
        self.reap_inventories(now);
        let Some((host, gone_at)) = self.hosts.get(index) else { return };
        if gone_at.is_some_and(|gone_at| gone_at <= now) {
            return;
        }
        if turn == Turn::Sample {
            self.tally.behind(now.saturating_duration_since(due));
        }
        match turn {
            Turn::Sample => {
                // Who is too slow leaves out what is past, as an agent does, and says so.
                let mut next = due + self.interval;
                while next <= now {
                    next += self.interval;
                    count(&self.tally.skipped);
                }
                self.turns.push(Reverse((next, index, turn)));
                self.sample(index).await;
            }
            Turn::Inventory if self.inventories.len() >= INVENTORIES_AT_ONCE => {
                self.turns.push(Reverse((now + PAUSE_WHEN_BUSY, index, turn)));
            }
            Turn::Inventory => {
                let (bus, subject, inventory) = (self.bus.clone(), Subject::Inventory(host.id), host.inventory());
                let id = format!("{}.inventory.{}", host.id, inventory.taken_at.as_millis());
                // Each is written to disk before it is acknowledged: no sample waits for that.
                self.inventories.spawn(async move { (index, bus.publish(&subject, &id, &inventory).await.is_ok()) });
            }
        }
    }

    /// What became of inventories under way, and when their hosts send the next one.
    fn reap_inventories(&mut self, now: Instant) {
        while let Some(done) = self.inventories.try_join_next() {
            let Ok((index, sent)) = done else { continue };
            let (counter, pause) = if sent {
                (&self.tally.inventories, INVENTORY)
            } else {
                // It asks for admission, so it must arrive.
                (&self.tally.failures, PAUSE_AFTER_FAILURE)
            };
            count(counter);
            self.turns.push(Reverse((now + pause, index, Turn::Inventory)));
        }
    }

    async fn sample(&mut self, index: usize) {
        let late = hits(&mut self.random, self.faults.late);
        let twice = hits(&mut self.random, self.faults.duplicate);
        let broken = hits(&mut self.random, self.faults.malformed);
        let Some((host, _)) = self.hosts.get_mut(index) else { return };
        let subject = Subject::Metrics(host.id).to_string();
        let sample = host.sample(&mut self.random);
        let (message_id, pods) = (sample.message_id(), sample.pods.len() as u64);
        sample.late = late;
        let Ok(payload) = encode(sample).map(Bytes::from) else { return };
        if late {
            let due = Instant::now() + LATE_BY;
            let held = Held { due, pods, subject: subject.clone(), message_id, payload: payload.clone() };
            self.held_bytes += held.payload.len();
            self.late.push_back(held);
        } else if self.publish(&subject, &message_id, &payload, pods).await {
            if twice {
                self.publish_again(&subject, &message_id, payload.clone()).await;
            }
        } else {
            let Some(late) = self.hosts.get_mut(index).and_then(|(host, _)| host.spooled()) else { return };
            let due = Instant::now();
            self.held_bytes += late.len();
            self.keep(Held { due, pods, subject: subject.clone(), message_id, payload: late });
        }
        if broken {
            self.break_one(&subject, &payload).await;
        }
    }

    /// Publishes a sample; returns whether the stream has it.
    async fn publish(&mut self, subject: &str, message_id: &str, payload: &Bytes, pods: u64) -> bool {
        let sent = self.publisher.publish_bytes(subject.to_owned(), message_id.to_owned(), payload.clone()).await;
        if sent.is_err() {
            count(&self.tally.failures);
            return false;
        }
        count(&self.tally.samples);
        self.tally.pod_samples.fetch_add(pods, Relaxed);
        self.tally.bytes.fetch_add(payload.len() as u64, Relaxed);
        true
    }

    /// Sends a sample once more: under its id, which the stream drops, or under another, which ingest must bear.
    async fn publish_again(&mut self, subject: &str, message_id: &str, payload: Bytes) {
        let (id, counter) = if self.random.random_range(0..2) == 0 {
            (message_id.to_owned(), &self.tally.duplicates_same_id)
        } else {
            (format!("{message_id}.again"), &self.tally.duplicates_other_id)
        };
        let bytes = payload.len() as u64;
        if self.publisher.publish_bytes(subject.to_owned(), id, payload).await.is_ok() {
            count(counter);
            self.tally.bytes.fetch_add(bytes, Relaxed);
        }
    }

    /// Sends a broken message, of each kind in turn.
    async fn break_one(&mut self, subject: &str, payload: &Bytes) {
        self.malformed += 1;
        let text = String::from_utf8_lossy(payload);
        let bad = match self.malformed % 4 {
            0 => text.get(..text.len() / 2).unwrap_or_default().to_owned(),
            1 => text.replacen("\"cpu_percent\":", "\"cpu_percent\":-1,\"was\":", 1),
            2 => text.replacen("\"sampled_at\":\"20", "\"sampled_at\":\"21", 1),
            _ => text.replacen("\"host_id\":\"host_", "\"host_id\":\"pod_", 1),
        };
        let id = format!("{subject}.malformed.{}.{}", self.malformed, pinacle_bus::contract::Timestamp::now());
        let bytes = bad.len() as u64;
        if self.publisher.publish_bytes(subject.to_owned(), id, bad.into()).await.is_ok() {
            count(&self.tally.malformed);
            self.tally.bytes.fetch_add(bytes, Relaxed);
        }
    }

    /// Puts a sample into the spool, whose oldest go when it is full.
    fn keep(&mut self, held: Held) {
        self.spool.push_back(held);
        self.spool_again = Instant::now() + PAUSE_AFTER_FAILURE;
        while self.held_bytes > self.most_held_bytes {
            let Some(dropped) = self.spool.pop_front() else { break };
            self.held_bytes -= dropped.payload.len();
            count(&self.tally.lost);
        }
    }

    /// Sends the late sample whose turn it is.
    async fn send_late(&mut self) {
        let Some(held) = self.late.pop_front() else { return };
        if self.publish(&held.subject, &held.message_id, &held.payload, held.pods).await {
            self.held_bytes -= held.payload.len();
            count(&self.tally.late);
        } else {
            self.keep(held);
        }
    }

    /// Sends the oldest sample of the spool; returns whether the bus takes them.
    async fn send_spooled(&mut self) -> bool {
        let Some(held) = self.spool.pop_front() else { return true };
        if self.publish(&held.subject, &held.message_id, &held.payload, held.pods).await {
            self.held_bytes -= held.payload.len();
            count(&self.tally.late);
            self.spool_again = Instant::now();
            return true;
        }
        self.spool.push_front(held);
        self.spool_again = Instant::now() + PAUSE_AFTER_FAILURE;
        false
    }
}

fn hits(random: &mut StdRng, percent: f64) -> bool {
    percent > 0.0 && random.random_range(0.0..100.0) < percent
}

impl Host {
    /// The newest sample as it comes out of a spool.
    fn spooled(&mut self) -> Option<Bytes> {
        let metrics: &mut Metrics = self.newest();
        metrics.late = true;
        let payload = encode(metrics).ok()?;
        (payload.len() <= Metrics::MAX_BYTES).then(|| payload.into())
    }
}
