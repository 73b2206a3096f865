//! Whether a host lives: a pure state machine, without I/O and without a clock of its own.
//!
//! It rests on what arrives here and when, by this process's monotonic clock; what a host's clock says is noted as
//! evidence and decides nothing. Three rules keep two copies of the orchestrator from contradicting each other and from
//! raising false alarms:
//! - a host is alive because a heartbeat arrived *after* the last change that this copy knows of;
//! - silence means something only while this copy listens, see [`Attention`];
//! - a silence is confirmed before it is told, because this copy may have missed what others heard
//!   ([`Verdict::from_silence`]).

mod attention;
mod lineage;

use std::time::Duration;

use pinacle_bus::contract::{
    Timestamp,
    host::{DockerState, Evidence, Heartbeat, HostState, StateCause},
};

pub use attention::{Attention, PROBE_EVERY, PROBE_WITHIN};
pub use lineage::{Lineage, Mark};

/// How often agents send a heartbeat.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How long a host may be silent before that means something.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until it is degraded.
    pub degraded_after: Duration,
    /// Until it is offline.
    pub offline_after: Duration,
    /// How long a closed connection waits for the agent to come back.
    pub closed_settle: Duration,
    /// After a start or a reconnect.
    pub reconnect_grace: Duration,
}

/// A moment: on the process's monotonic clock, which decides, and on its wall clock, which people read.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Since the process began to watch.
    pub elapsed: Duration,
    /// By the orchestrator's wall clock.
    pub wall: Timestamp,
}

/// A connection to the bus: the server's id, and the connection's on that server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionId {
    /// The server's.
    pub server: String,
    /// The connection's.
    pub client: u64,
}

/// What a host's state should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: HostState,
    /// Why.
    pub cause: StateCause,
}

impl Verdict {
    const fn new(state: HostState, cause: StateCause) -> Self {
        Self { state, cause }
    }

    /// Whether it rests on what did not arrive, and must be confirmed by asking the bus for the newest heartbeat.
    pub fn from_silence(self) -> bool {
        matches!(self.cause, StateCause::Silent | StateCause::HeartbeatMissed)
    }

    fn of(heartbeat: &Heartbeat) -> Self {
        match heartbeat.docker {
            _ if heartbeat.stopping => Self::new(HostState::Offline, StateCause::Stopped),
            DockerState::Down { .. } => Self::new(HostState::Degraded, StateCause::DockerDown),
            DockerState::Up { .. } | DockerState::Absent => Self::new(HostState::Online, StateCause::Heartbeat),
        }
    }

    /// Whether a heartbeat led to it that was no farewell.
    fn is_life(self) -> bool {
        matches!(self.cause, StateCause::Heartbeat | StateCause::DockerDown)
    }
}

#[derive(Debug, Clone)]
struct Heard {
    at: Timestamp,
    sequence: u64,
    clock_offset_ms: i64,
    verdict: Verdict,
}

#[derive(Debug, Clone)]
struct Closed {
    at: Moment,
    reason: String,
    /// The agent has connected again since.
    over: bool,
}

/// What this copy knows of one host's life.
#[derive(Debug, Clone)]
pub struct Vital {
    lineage: Lineage,
    /// The newest heartbeat.
    heard: Option<Heard>,
    /// Live heartbeats so far. Counted, not timed: two may arrive in the same instant.
    beats: u64,
    /// How many of them the current state accounts for.
    settled_beats: u64,
    /// When the newest live heartbeat arrived.
    heard_at: Option<Duration>,
    /// The last sign of life; before the first, when this copy began to wait for one.
    alive_at: Duration,
    closed: Option<Closed>,
    connection: Option<ConnectionId>,
    current: Verdict,
}

impl Vital {
    /// A host that is recorded as `current`, which this copy learns of now.
    pub fn new(current: Verdict, now: Moment) -> Self {
        Self {
            lineage: Lineage::default(),
            heard: None,
            beats: 0,
            heard_at: None,
            settled_beats: 0,
            alive_at: now.elapsed,
            closed: None,
            connection: None,
            current,
        }
    }

    /// Its state, as far as this copy knows.
    pub fn current(&self) -> Verdict {
        self.current
    }

    /// Heartbeats that have arrived so far: what a decision made now accounts for.
    pub fn beats(&self) -> u64 {
        self.beats
    }

    /// How long it has been silent.
    pub fn silent_for(&self, now: Moment) -> Duration {
        now.elapsed.saturating_sub(self.alive_at)
    }

    /// Where its newest heartbeat stands in its row.
    pub fn mark(&self) -> Option<&Mark> {
        self.lineage.newest()
    }

    /// A heartbeat arrived. Returns whether it is a new one: one that came before counts for nothing.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Moment) -> bool {
        if !self.lineage.accept(Mark::of(heartbeat), now.elapsed) {
            return false;
        }
        self.note(heartbeat, now.wall);
        self.beats += 1;
        self.heard_at = Some(now.elapsed);
        self.alive_at = now.elapsed;
        true
    }

    /// At the start: the newest heartbeat that the bus holds, which it took in at `at`. It tells a replay from a new one,
    /// and is no sign of life; but a farewell is a farewell, however long ago.
    pub fn prime(&mut self, heartbeat: &Heartbeat, at: Timestamp) {
        if self.lineage.newest().is_none() {
            self.lineage.begin(Mark::of(heartbeat));
            self.note(heartbeat, at);
            if heartbeat.stopping {
                self.beats += 1;
            }
        }
    }

    /// The bus holds a heartbeat that this copy missed; `at` is when the bus took it in. How old it is, is not known, so
    /// the silence begins anew.
    pub fn overheard(&mut self, heartbeat: &Heartbeat, at: Timestamp, now: Moment) {
        self.lineage.begin(Mark::of(heartbeat));
        self.note(heartbeat, at);
        self.beats += 1;
        self.alive_at = now.elapsed;
    }

    /// The bus reported that the agent connected.
    pub fn opened(&mut self, connection: ConnectionId) {
        self.connection = Some(connection);
        if let Some(closed) = &mut self.closed {
            closed.over = true;
        }
    }

    /// The bus reported that a connection of the agent's closed. That of an older one, noticed late, means nothing.
    pub fn closed(&mut self, connection: &ConnectionId, reason: String, now: Moment) {
        if self.connection.as_ref().is_none_or(|known| known == connection) {
            self.closed = Some(Closed { at: now, reason, over: false });
        }
    }

    /// Its state is `current` now, by this copy's own decision, which accounts for `beats` heartbeats.
    pub fn decided(&mut self, current: Verdict, beats: u64) {
        self.current = current;
        self.settled_beats = beats;
    }

    /// Its state is `current` now, by another's decision, which rested on a heartbeat that old. This copy has nothing newer
    /// to say until something arrives.
    pub fn learned(&mut self, current: Verdict, heartbeat_age: Option<Duration>, now: Moment) {
        self.current = current;
        self.settled_beats = self.beats;
        if current.is_life() {
            let age = heartbeat_age.unwrap_or_default();
            self.alive_at = self.alive_at.max(now.elapsed.saturating_sub(age));
        }
    }

    /// What its state should become; `None` = it stays.
    pub fn judge(&self, now: Moment, attention: &Attention, patience: &Patience) -> Option<Verdict> {
        if !attention.is_listening() {
            return None;
        }
        let arrived = self.heard.as_ref().filter(|_| self.beats > self.settled_beats).map(|heard| heard.verdict);
        // A heartbeat that confirms what is must not hide that none came since.
        arrived.filter(|verdict| *verdict != self.current).or_else(|| self.judge_silence(now, attention, patience))
    }

    fn judge_silence(&self, now: Moment, attention: &Attention, patience: &Patience) -> Option<Verdict> {
        if self.current.state == HostState::Offline {
            return None;
        }
        let silent =
            if attention.silence_counts(now.elapsed, self.heard_at) { self.silent_for(now) } else { Duration::ZERO };
        if silent >= patience.offline_after {
            return Some(Verdict::new(HostState::Offline, StateCause::Silent));
        }
        if self.current.state != HostState::Online {
            return None;
        }
        if silent >= patience.degraded_after {
            return Some(Verdict::new(HostState::Degraded, StateCause::HeartbeatMissed));
        }
        self.closed
            .as_ref()
            .filter(|closed| {
                !closed.over
                    && closed.at.elapsed >= self.alive_at
                    && attention.listened_since(closed.at.elapsed)
                    && now.elapsed.saturating_sub(closed.at.elapsed) >= patience.closed_settle
            })
            .map(|_| Verdict::new(HostState::Degraded, StateCause::ConnectionClosed))
    }

    /// What a decision made now rests on.
    pub fn evidence(&self, now: Moment) -> Evidence {
        let age = |heard: &Heard| {
            if self.beats > 0 {
                self.silent_for(now).as_millis().try_into().unwrap_or(u64::MAX)
            } else {
                now.wall.as_millis().saturating_sub(heard.at.as_millis()).try_into().unwrap_or(0)
            }
        };
        Evidence {
            last_heartbeat_at: self.heard.as_ref().map(|heard| heard.at),
            heartbeat_age_ms: self.heard.as_ref().map(age),
            heartbeat_sequence: self.heard.as_ref().map(|heard| heard.sequence),
            clock_offset_ms: self.heard.as_ref().map(|heard| heard.clock_offset_ms),
            connection_closed_at: self.closed.as_ref().map(|closed| closed.at.wall),
            connection_closed_reason: self.closed.as_ref().map(|closed| closed.reason.clone()),
        }
    }

    fn note(&mut self, heartbeat: &Heartbeat, at: Timestamp) {
        self.heard = Some(Heard {
            at,
            sequence: heartbeat.sequence,
            clock_offset_ms: heartbeat.sent_at.as_millis() - at.as_millis(),
            verdict: Verdict::of(heartbeat),
        });
    }
}

#[cfg(test)]
mod tests;
