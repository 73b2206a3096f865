//! Keeps a fault that repeats from filling the log: it is told when it is new, and then once a while with how often it
//! was held back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const QUIET: Duration = Duration::from_secs(10);

/// One line of the log that must not be repeated too often.
#[derive(Debug, Default)]
pub struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Whether to tell it now: `Some` with how often it was held back since the last time.
    pub fn tell(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.told.is_some_and(|told| told.elapsed() < QUIET) {
            state.held_back += 1;
            return None;
        }
        state.told = Some(Instant::now());
        Some(std::mem::take(&mut state.held_back))
    }

    /// The fault is over: the next one is new.
    pub fn reset(&self) {
        *self.state.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_repeated_fault_is_told_at_first_and_then_once_a_while() {
        let throttle = Throttle::default();
        assert_eq!(throttle.tell(), Some(0));
        for _ in 0..3 {
            assert_eq!(throttle.tell(), None);
        }
        tokio::time::advance(QUIET).await;
        assert_eq!(throttle.tell(), Some(3));
        throttle.reset();
        assert_eq!(throttle.tell(), Some(0));
    }
}
