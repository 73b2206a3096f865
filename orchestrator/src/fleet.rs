//! Every admitted host with what this copy knows of it, and the changes that are due. No I/O: it takes in what happened
//! and hands out [`Job`]s, one at a time for each host.
//!
//! Its size is bounded by the bucket `hosts`: what is not admitted is not kept.

mod job;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use pinacle_bus::{
    client::Entry,
    contract::{
        HostId, Timestamp,
        host::{Heartbeat, HostRecord, HostState},
    },
};

pub use job::{Job, Outcome, Task};

use crate::{
    liveness::{Attention, Moment, Patience, Verdict, Vital},
    names::Names,
    notice::Notice,
};

/// A host's first heartbeat follows its first inventory within milliseconds, and so comes before its record. What is
/// kept of such hosts is bounded in number and time.
const MOST_STRANGERS: usize = 1024;
const STRANGER_FOR: Duration = Duration::from_secs(10);

/// How long another copy has to publish the event of a change that it made, before this one looks after it.
const ANNOUNCEMENT_GRACE: Duration = Duration::from_secs(5);

struct Host {
    entry: Entry<HostRecord>,
    vital: Vital,
    /// The `state_since` whose event is known to be published.
    announced: Option<Timestamp>,
    /// When to look after the event of the present state.
    look_at: Duration,
    /// Its job is under way.
    busy: bool,
    /// It waits among the due.
    due: bool,
    /// Its last job failed: not before the next tick.
    failed: bool,
}

impl Host {
    fn is_announced(&self) -> bool {
        self.announced == Some(self.entry.record.state_since)
    }
}

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is a sign of life; the last one was so long ago.
    Fresh(Duration),
    /// It came before.
    Stale,
    /// The host is not admitted.
    Unknown,
}

/// Every admitted host.
pub struct Fleet {
    hosts: HashMap<HostId, Host>,
    /// Heartbeats of hosts that are not admitted yet.
    strangers: HashMap<HostId, (Heartbeat, Moment)>,
    names: Names,
    to_rename: HashSet<HostId>,
    due: VecDeque<HostId>,
    attention: Attention,
    patience: Patience,
}

fn verdict_of(record: &HostRecord) -> Verdict {
    Verdict { state: record.state, cause: record.cause }
}

impl Fleet {
    /// Nobody yet.
    pub fn new(patience: Patience, names: Names) -> Self {
        Self {
            hosts: HashMap::new(),
            strangers: HashMap::new(),
            names,
            to_rename: HashSet::new(),
            due: VecDeque::new(),
            attention: Attention::new(&patience),
            patience,
        }
    }

    /// There is a new connection to the bus.
    pub fn connected(&mut self, now: Moment) {
        self.attention.connected(now.elapsed);
    }

    /// The connection to the bus is lost.
    pub fn disconnected(&mut self) {
        self.attention.disconnected();
    }

    /// The bus was asked whether it answers, and did so in time, or not.
    pub fn probed(&mut self, answered: bool, now: Moment) {
        self.attention.probed(answered, now.elapsed);
    }

    /// A heartbeat arrived.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Moment) -> Taken {
        let Some(host) = self.hosts.get_mut(&heartbeat.host_id) else {
            if self.strangers.len() < MOST_STRANGERS {
                self.strangers.insert(heartbeat.host_id, (heartbeat.clone(), now));
            }
            return Taken::Unknown;
        };
        let gap = host.vital.silent_for(now);
        if !host.vital.heartbeat(heartbeat, now) {
            return Taken::Stale;
        }
        self.consider(heartbeat.host_id, now);
        Taken::Fresh(gap)
    }

    /// The newest heartbeat that the bus held at the start.
    pub fn prime(&mut self, heartbeat: &Heartbeat, at: Timestamp, now: Moment) {
        if let Some(host) = self.hosts.get_mut(&heartbeat.host_id) {
            host.vital.prime(heartbeat, at);
            self.consider(heartbeat.host_id, now);
        }
    }

    /// The bus said something about an agent's connection.
    pub fn notice(&mut self, notice: Notice, now: Moment) {
        let Some(host) = self.hosts.get_mut(&notice.host) else { return };
        match notice.closed {
            None => host.vital.opened(notice.connection),
            Some(reason) => host.vital.closed(&notice.connection, reason, now),
        }
        self.consider(notice.host, now);
    }

    /// A record is as `entry` says: at the start, by another copy, or the echo of an own write.
    pub fn record(&mut self, entry: Entry<HostRecord>, now: Moment) {
        let id = entry.record.host_id;
        self.names.put(id, &entry.record.name, entry.record.admitted_at);
        self.to_rename.extend(self.names.must_give_way(&entry.record.name));
        let current = verdict_of(&entry.record);
        match self.hosts.get_mut(&id) {
            None => {
                let mut vital = Vital::new(current, now);
                if let Some((heartbeat, at)) = self.strangers.remove(&id) {
                    vital.heartbeat(&heartbeat, at);
                }
                let look_at = now.elapsed + ANNOUNCEMENT_GRACE;
                let host = Host { entry, vital, announced: None, look_at, busy: false, due: false, failed: false };
                self.hosts.insert(id, host);
            }
            Some(host) if entry.revision <= host.entry.revision => {}
            Some(host) => {
                if host.entry.record.state_since != entry.record.state_since || host.vital.current() != current {
                    let age = entry.record.evidence.heartbeat_age_ms.map(Duration::from_millis);
                    host.vital.learned(current, age, now);
                    host.look_at = now.elapsed + ANNOUNCEMENT_GRACE;
                }
                host.entry = entry;
            }
        }
        self.consider(id, now);
    }

    /// A record is gone.
    pub fn removed(&mut self, id: HostId) {
        self.hosts.remove(&id);
        self.to_rename.remove(&id);
        self.names.remove(id);
    }

    /// Time passes. Returns whether the process had stalled.
    pub fn tick(&mut self, now: Moment) -> bool {
        let stalled = self.attention.tick(now.elapsed);
        self.strangers.retain(|_, (_, at)| now.elapsed.saturating_sub(at.elapsed) < STRANGER_FOR);
        if !self.attention.is_listening() {
            return stalled;
        }
        for (id, host) in &mut self.hosts {
            host.failed = false;
            let changes = host.vital.judge(now, &self.attention, &self.patience).is_some();
            let look = !host.is_announced() && now.elapsed >= host.look_at;
            if (changes || look || self.to_rename.contains(id)) && !host.busy && !host.due {
                host.due = true;
                self.due.push_back(*id);
            }
        }
        stalled
    }

    /// The next thing to do, if there is one.
    pub fn next_job(&mut self, now: Moment) -> Option<Job> {
        while let Some(id) = self.due.pop_front() {
            let Some(host) = self.hosts.get_mut(&id) else { continue };
            host.due = false;
            if host.busy || host.failed {
                continue;
            }
            let task = if let Some(verdict) = host.vital.judge(now, &self.attention, &self.patience) {
                Task::Change { verdict, evidence: Box::new(host.vital.evidence(now)), beats: host.vital.beats() }
            } else if !host.is_announced() && now.elapsed >= host.look_at {
                Task::Announce
            } else if self.to_rename.contains(&id) {
                let name = &host.entry.record.name;
                if self.names.must_give_way(name).contains(&id) {
                    Task::Rename { name: self.names.free_for(id, name) }
                } else {
                    self.to_rename.remove(&id);
                    continue;
                }
            } else {
                continue;
            };
            host.busy = true;
            let newest = host.vital.mark().cloned();
            return Some(Job { entry: host.entry.clone(), announced: host.is_announced(), newest, task });
        }
        None
    }

    /// A job ended.
    pub fn finished(&mut self, id: HostId, outcome: Outcome, now: Moment) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.busy = false;
        match outcome {
            Outcome::Changed { entry, beats, announced } => {
                host.announced = announced.then_some(entry.record.state_since);
                host.look_at = now.elapsed;
                // The watch may have told of this write already, or of a newer one.
                if entry.revision > host.entry.revision {
                    host.entry = *entry;
                    host.vital.decided(verdict_of(&host.entry.record), beats);
                } else if entry.record.state_since == host.entry.record.state_since {
                    host.vital.decided(verdict_of(&host.entry.record), beats);
                }
            }
            Outcome::Announced { state_since } => host.announced = Some(state_since),
            Outcome::Alive { heartbeat, at } => host.vital.overheard(&heartbeat, at, now),
            Outcome::Seen { entry: Some(entry) } => self.record(*entry, now),
            Outcome::Seen { entry: None } => self.removed(id),
            Outcome::Failed => host.failed = true,
        }
        self.consider(id, now);
    }

    /// How many hosts are in each state.
    pub fn states(&self) -> [(HostState, usize); 4] {
        [HostState::Online, HostState::Degraded, HostState::Offline, HostState::Unknown]
            .map(|state| (state, self.hosts.values().filter(|host| host.vital.current().state == state).count()))
    }

    fn consider(&mut self, id: HostId, now: Moment) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if !host.busy && !host.due && !host.failed && host.vital.judge(now, &self.attention, &self.patience).is_some() {
            host.due = true;
            self.due.push_back(id);
        }
    }
}

#[cfg(test)]
mod tests;
