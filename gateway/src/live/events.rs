//! Recent events, shared by all clients: one reader feeds them, in order, and each client takes from its own sequence.
//!
//! Invariant: every event of the stream from `base` up to `next` is here. Who asks for an older one reads the stream.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use pinacle_bus::{
    client::Stored,
    contract::{DecodeError, Timestamp, event::Event, subject::EventKind},
};
use serde::Serialize;
use tokio::sync::watch;

/// An event as clients get it, written once.
#[derive(Debug, Clone)]
pub struct LiveEvent {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// The item, behind its `position`, which is each client's own.
    json: Bytes,
    /// The kind of thing that it happened to.
    pub kind: EventKind,
    /// The thing's id.
    pub target_id: String,
}

#[derive(Serialize)]
struct Item<'a> {
    published_at: Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

impl LiveEvent {
    /// Reads an event from its stream; `None` for an entry of the audit log, which has its own door.
    ///
    /// # Errors
    /// When it is none: the bus takes in what anybody with the right to publish sends.
    pub fn read(stored: &Stored) -> Result<Option<Self>, DecodeError> {
        Self::written(stored, &stored.decode()?)
    }

    /// The same for one that was read already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn written(stored: &Stored, event: &Event) -> Result<Option<Self>, DecodeError> {
        if event.kind == EventKind::Audit {
            return Ok(None);
        }
        let item = Item { published_at: stored.published_at, event };
        let json = serde_json::to_vec(&item).map_err(|source| DecodeError::Malformed { name: "event", source })?;
        let (kind, target_id) = (event.kind, event.target_id.clone());
        // Without the brace that opens it.
        let json = Bytes::from(json).slice(1..);
        Ok(Some(Self { sequence: stored.sequence, json, kind, target_id }))
    }

    /// The item of a client that knows its place as `position`.
    pub fn item(&self, position: &str) -> Bytes {
        [format!("{{\"position\":\"{position}\",").as_bytes(), &self.json].concat().into()
    }
}

/// What the log has for a client.
#[derive(Debug)]
pub enum Taken {
    /// The next events, and the sequence to ask for afterwards. Both may stand still.
    Events(Vec<LiveEvent>, u64),
    /// The next one is too old for the log, or the log has not come so far: the stream must say.
    Elsewhere,
}

/// See the module.
pub struct EventLog {
    ring: Mutex<Ring>,
    next: watch::Sender<u64>,
    capacity: usize,
}

struct Ring {
    base: u64,
    next: u64,
    events: VecDeque<LiveEvent>,
}

impl EventLog {
    /// An empty log that holds at most `capacity` events.
    pub fn new(capacity: usize) -> Self {
        let ring = Ring { base: 0, next: 0, events: VecDeque::new() };
        Self { ring: Mutex::new(ring), next: watch::Sender::new(0), capacity }
    }

    /// Forgets all; from now on the log is complete from `base` on.
    pub fn restart(&self, base: u64) {
        *self.ring.lock() = Ring { base, next: base, events: VecDeque::new() };
        self.next.send_replace(base);
    }

    /// The sequence behind the last one that was read; 0 before the first restart.
    pub fn next(&self) -> u64 {
        self.ring.lock().next
    }

    /// The oldest sequence that the log answers for.
    pub fn base(&self) -> u64 {
        self.ring.lock().base
    }

    /// Follows [`EventLog::next`].
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// How many events may be kept.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The stream was read up to `sequence`; `event` is what stands there, if it can be read.
    pub fn push(&self, sequence: u64, event: Option<LiveEvent>) {
        let mut ring = self.ring.lock();
        if sequence < ring.next {
            return;
        }
        ring.events.extend(event);
        ring.next = sequence + 1;
        while ring.events.len() > self.capacity {
            if let Some(oldest) = ring.events.pop_front() {
                ring.base = oldest.sequence + 1;
            }
        }
        drop(ring);
        self.next.send_replace(sequence + 1);
    }

    /// At most `limit` events from sequence `from` on.
    pub fn take(&self, from: u64, limit: usize) -> Taken {
        let ring = self.ring.lock();
        if from < ring.base || from > ring.next {
            return Taken::Elsewhere;
        }
        let start = ring.events.partition_point(|event| event.sequence < from);
        let events: Vec<LiveEvent> = ring.events.range(start..).take(limit).cloned().collect();
        let next = match events.last() {
            Some(last) if start + events.len() < ring.events.len() => last.sequence + 1,
            _ => ring.next,
        };
        Taken::Events(events, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> LiveEvent {
        let json = Bytes::from(sequence.to_string());
        LiveEvent { sequence, json, kind: EventKind::Host, target_id: String::new() }
    }

    fn sequences(taken: &Taken) -> (Vec<u64>, u64) {
        match taken {
            Taken::Events(events, next) => (events.iter().map(|event| event.sequence).collect(), *next),
            Taken::Elsewhere => panic!("it is elsewhere"),
        }
    }

    #[test]
    fn whoever_follows_gets_each_event_once_in_order_across_what_cannot_be_read() {
        let log = EventLog::new(100);
        log.restart(5);
        for sequence in 5..25 {
            log.push(sequence, (sequence % 3 != 0).then(|| event(sequence)));
        }
        let mut next = 5;
        let mut seen = Vec::new();
        while next < 25 {
            let (events, after) = sequences(&log.take(next, 4));
            assert!(after > next);
            seen.extend(events);
            next = after;
        }
        assert_eq!(seen, (5..25).filter(|sequence| sequence % 3 != 0).collect::<Vec<_>>());
        assert_eq!(sequences(&log.take(25, 4)), (vec![], 25));
    }

    #[test]
    fn memory_is_bounded_and_what_was_forgotten_is_elsewhere() {
        let log = EventLog::new(16);
        log.restart(1);
        for sequence in 1..=100 {
            log.push(sequence, Some(event(sequence)));
        }
        assert_eq!(log.ring.lock().events.len(), 16);
        assert_eq!(log.base(), 85);
        assert!(matches!(log.take(84, 10), Taken::Elsewhere));
        assert_eq!(sequences(&log.take(85, 100)).0.len(), 16);
        assert!(matches!(log.take(102, 10), Taken::Elsewhere), "the future is not known here");
    }

    #[test]
    fn an_event_that_is_read_twice_is_kept_once() {
        let log = EventLog::new(16);
        log.restart(1);
        for sequence in [1, 2, 2, 1, 3] {
            log.push(sequence, Some(event(sequence)));
        }
        assert_eq!(sequences(&log.take(1, 100)), (vec![1, 2, 3], 4));
    }
}
