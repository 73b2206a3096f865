//! Which heartbeats are new. One that is told again, by whatever fault, is no sign of life.
//!
//! Clocks are of no use here: hosts' may be wrong. Within one boot the uptime grows, and within one start of the agent
//! the sequence does; another boot id is another boot, unless it is one of those before.

use std::{collections::VecDeque, time::Duration};

use pinacle_bus::contract::host::Heartbeat;

/// Old heartbeats that keep coming, each newer than the last and this far apart, are new after all: the machine was
/// rolled back to a snapshot.
const APART: Duration = Duration::from_secs(2);
/// Boots that are remembered. Nothing that is told again is older.
const BOOTS_KEPT: usize = 8;

/// Where a heartbeat stands in its host's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    boot_id: Box<str>,
    uptime_seconds: u64,
    sequence: u64,
}

impl Mark {
    /// A heartbeat's.
    pub fn of(heartbeat: &Heartbeat) -> Self {
        Self {
            boot_id: heartbeat.boot_id.as_str().into(),
            uptime_seconds: heartbeat.uptime_seconds,
            sequence: heartbeat.sequence,
        }
    }

    /// Whether it is newer than `other`, as far as the two tell.
    pub fn is_after(&self, other: &Mark) -> bool {
        self.boot_id != other.boot_id || self.follows(other)
    }

    /// Whether it came after `other` in the same boot. An agent that starts again counts from 1, at a longer uptime.
    fn follows(&self, other: &Mark) -> bool {
        self.boot_id == other.boot_id
            && self.uptime_seconds >= other.uptime_seconds
            && (self.sequence > other.sequence || self.uptime_seconds > other.uptime_seconds)
    }
}

/// The row of a host's heartbeats.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    newest: Option<Mark>,
    /// Boots before this one, the latest last.
    earlier_boots: VecDeque<Box<str>>,
    /// The last heartbeat that seemed old, and when it arrived.
    stale: Option<(Mark, Duration)>,
}

impl Lineage {
    /// The newest one.
    pub fn newest(&self) -> Option<&Mark> {
        self.newest.as_ref()
    }

    /// Whether a heartbeat is newer than the newest one.
    pub fn is_new(&self, mark: &Mark) -> bool {
        match &self.newest {
            None => true,
            Some(newest) if newest.boot_id == mark.boot_id => mark.follows(newest),
            Some(_) => !self.earlier_boots.contains(&mark.boot_id),
        }
    }

    /// Takes a heartbeat that arrived now; returns whether it is a new one.
    pub fn accept(&mut self, mark: Mark, now: Duration) -> bool {
        let keeps_coming =
            self.stale.as_ref().is_some_and(|(stale, at)| mark.follows(stale) && now.saturating_sub(*at) >= APART);
        if self.is_new(&mark) || keeps_coming {
            self.begin(mark);
            true
        } else {
            self.stale = Some((mark, now));
            false
        }
    }

    /// Takes a heartbeat as the newest one.
    pub fn begin(&mut self, mark: Mark) {
        self.stale = None;
        if let Some(before) = self.newest.take()
            && before.boot_id != mark.boot_id
        {
            self.earlier_boots.push_back(before.boot_id);
            if self.earlier_boots.len() > BOOTS_KEPT {
                self.earlier_boots.pop_front();
            }
        }
        self.earlier_boots.retain(|boot| *boot != mark.boot_id);
        self.newest = Some(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(boot: &str, uptime_seconds: u64, sequence: u64) -> Mark {
        Mark { boot_id: boot.into(), uptime_seconds, sequence }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_came_before_is_not_new() {
        let mut lineage = Lineage::default();
        assert!(lineage.accept(mark("a", 100, 7), seconds(0)));
        for old in [mark("a", 100, 7), mark("a", 95, 6), mark("a", 90, 9)] {
            assert!(!lineage.accept(old.clone(), seconds(0)), "{old:?}");
        }
        assert!(lineage.accept(mark("a", 105, 8), seconds(5)));
    }

    #[test]
    fn an_agent_that_starts_again_is_new_and_so_is_another_boot_but_not_one_before() {
        let mut lineage = Lineage::default();
        assert!(lineage.accept(mark("a", 100, 700), seconds(0)));
        assert!(lineage.accept(mark("a", 103, 1), seconds(3)));
        assert!(lineage.accept(mark("b", 20, 1), seconds(60)));
        assert!(!lineage.accept(mark("a", 108, 2), seconds(61)));
        assert!(lineage.accept(mark("b", 25, 2), seconds(65)));
    }

    #[test]
    fn a_machine_rolled_back_is_heard_again_and_a_burst_of_old_ones_is_not() {
        let mut lineage = Lineage::default();
        assert!(lineage.accept(mark("a", 10_000, 2000), seconds(0)));
        for sequence in 1..100 {
            assert!(!lineage.accept(mark("a", 5 * sequence, sequence), seconds(10)));
        }
        assert!(!lineage.accept(mark("a", 4_000, 800), seconds(11)));
        assert!(lineage.accept(mark("a", 4_005, 801), seconds(16)));
        assert!(lineage.accept(mark("a", 4_010, 802), seconds(21)));
    }
}
