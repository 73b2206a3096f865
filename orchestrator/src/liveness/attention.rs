//! Whether silence means anything: only while this process listens, and agents had time to find the bus.

use std::time::Duration;

use super::{HEARTBEAT_INTERVAL, Patience};

/// How often the bus is asked whether it answers.
pub const PROBE_EVERY: Duration = Duration::from_secs(1);
/// An answer that takes longer than this is none: the bus had hung, and what it held back comes in any order.
pub const PROBE_WITHIN: Duration = Duration::from_secs(1);
/// Without an answer for so long nobody is judged. A connection may look well while nothing comes through it.
const PROBE_HOLDS: Duration = Duration::from_secs(3);
/// A pause between two ticks that is longer than this was no pause but a stall: heartbeats wait unread.
const STALL: Duration = Duration::from_secs(2);
/// What was dropped during a stall comes again within a heartbeat's interval.
const AFTER_STALL: Duration = HEARTBEAT_INTERVAL.saturating_add(Duration::from_millis(2500));

/// What this process can hear.
#[derive(Debug, Clone)]
pub struct Attention {
    grace: Duration,
    /// Since when there has been a connection to the bus; `None` = there is none.
    listening_since: Option<Duration>,
    /// Until then agents may still be looking for the bus.
    grace_until: Duration,
    /// Until then what was dropped during a stall may not have come again.
    stall_until: Duration,
    last_tick: Option<Duration>,
    /// When the bus last answered in time.
    answered: Option<Duration>,
}

impl Attention {
    /// Not connected yet.
    pub fn new(patience: &Patience) -> Self {
        Self {
            grace: patience.reconnect_grace,
            listening_since: None,
            grace_until: Duration::ZERO,
            stall_until: Duration::ZERO,
            last_tick: None,
            answered: None,
        }
    }

    /// There is a connection to the bus, a new one.
    pub fn connected(&mut self, now: Duration) {
        self.listening_since = Some(now);
        self.grace_until = now + self.grace;
    }

    /// The connection to the bus is lost: all judgements wait.
    pub fn disconnected(&mut self) {
        self.listening_since = None;
    }

    /// Time passes. Returns whether the process had stalled.
    pub fn tick(&mut self, now: Duration) -> bool {
        let stalled = self.last_tick.is_some_and(|last| now.saturating_sub(last) > STALL);
        if stalled {
            self.stall_until = now + AFTER_STALL;
        }
        self.last_tick = Some(now);
        stalled
    }

    /// The bus was asked whether it answers, and did so in time, or not.
    pub fn probed(&mut self, answered: bool, now: Duration) {
        if answered {
            self.answered = Some(now);
        } else {
            self.stall_until = now + AFTER_STALL;
        }
    }

    /// Whether there is a connection to the bus.
    pub fn is_listening(&self) -> bool {
        self.listening_since.is_some()
    }

    /// Whether there has been one ever since `then`.
    pub fn listened_since(&self, then: Duration) -> bool {
        self.listening_since.is_some_and(|since| since <= then)
    }

    /// Whether a host that is silent now, and that was last heard at `heard`, would have been heard. One that was heard
    /// since the connection was made has found the bus, and needs no grace.
    pub fn silence_counts(&self, now: Duration, heard: Option<Duration>) -> bool {
        let found_the_bus = heard.is_some_and(|heard| self.listened_since(heard));
        let answers = self.answered.is_some_and(|answered| now.saturating_sub(answered) <= PROBE_HOLDS);
        self.is_listening() && answers && now >= self.stall_until && (found_the_bus || now >= self.grace_until)
    }
}
