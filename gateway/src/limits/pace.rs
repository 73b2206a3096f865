//! So many at once, and then one each so long.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Key;

/// As many keys are remembered. An entry has 40 bytes or so.
const MOST: usize = 65_536;

const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// See the module: the generic cell rate algorithm, which keeps one time a key.
pub struct Pace {
    each: Duration,
    ahead: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When a key would be back at its pace.
    due: HashMap<Key, Instant>,
    /// When those who are back at it were last forgotten.
    swept: Option<Instant>,
}

impl Pace {
    /// One each `each`, and `burst` at once.
    pub fn new(each: Duration, burst: u32) -> Self {
        Self { each, ahead: each.saturating_mul(burst.saturating_sub(1)), state: Mutex::default() }
    }

    /// Takes one; `Err` with the time to wait when there is none.
    pub fn take(&self, key: &Key, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock();
        let at = state.due.get(key).copied().unwrap_or(now).max(now);
        let early = (at - now).saturating_sub(self.ahead);
        if !early.is_zero() {
            return Err(early);
        }
        if state.due.len() >= MOST && !state.due.contains_key(key) {
            // Not each time, or a crowd would have its pace held at the cost of a look at all of them.
            if state.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_EVERY) {
                state.swept = Some(now);
                state.due.retain(|_, at| *at > now);
            }
            // All are busy: whoever is new is not held to account for that.
            if state.due.len() >= MOST {
                return Ok(());
            }
        }
        state.due.insert(*key, at + self.each);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_has_a_bound() {
        let pace = Pace::new(Duration::from_secs(1), 1);
        let now = Instant::now();
        for number in 0..u32::try_from(MOST).unwrap() * 2 {
            let mut key = Key::default();
            key[..4].copy_from_slice(&number.to_be_bytes());
            pace.take(&key, now).unwrap();
        }
        assert_eq!(pace.state.lock().due.len(), MOST);
        assert!(pace.take(&Key::default(), now).is_err(), "who is remembered stays so");
        pace.take(&[255; 16], now + Duration::from_secs(2)).unwrap();
        assert_eq!(pace.state.lock().due.len(), 1);
    }
}
