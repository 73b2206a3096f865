//! Wrong guesses: some are free, then each one doubles the wait.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Key;

/// As many keys are remembered.
const MOST: usize = 65_536;
/// Wrong guesses are forgotten when nothing came for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// How patient to be.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Wrong guesses without a wait.
    pub free: u32,
    /// No wait is longer.
    pub longest: Duration,
}

impl Rule {
    /// The wait behind so many wrong guesses.
    fn wait(self, wrong: u32) -> Duration {
        match wrong.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1_u64.checked_shl(beyond).unwrap_or(u64::MAX)).min(self.longest),
        }
    }
}

struct Count {
    wrong: u32,
    last: Instant,
}

/// See the module.
pub struct Backoff {
    rule: Rule,
    counts: Mutex<HashMap<Key, Count>>,
}

impl Backoff {
    /// With nothing counted.
    pub fn new(rule: Rule) -> Self {
        Self { rule, counts: Mutex::default() }
    }

    /// Counts a guess as wrong; `Err` with the time to wait, and nothing counted, when it comes too soon.
    pub fn attempt(&self, key: &Key, now: Instant) -> Result<(), Duration> {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get(key) {
            let left = (count.last + self.rule.wait(count.wrong)).saturating_duration_since(now);
            if !left.is_zero() {
                return Err(left);
            }
        } else if counts.len() >= MOST {
            make_room(&mut counts, now);
        }
        let count = counts.entry(*key).or_insert(Count { wrong: 0, last: now });
        if now.duration_since(count.last) >= FORGOTTEN_AFTER {
            count.wrong = 0;
        }
        *count = Count { wrong: count.wrong.saturating_add(1), last: now };
        Ok(())
    }

    /// The guess was right: nothing is held against the key any more.
    pub fn forget(&self, key: &Key) {
        self.counts.lock().remove(key);
    }

    /// The guess was right: it alone is not counted.
    pub fn take_back(&self, key: &Key) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(key) {
            count.wrong = count.wrong.saturating_sub(1);
            if count.wrong == 0 {
                counts.remove(key);
            }
        }
    }
}

/// Forgets who has been quiet; if all are busy, the half that has guessed wrong least.
fn make_room(counts: &mut HashMap<Key, Count>, now: Instant) {
    counts.retain(|_, count| now.duration_since(count.last) < FORGOTTEN_AFTER);
    if counts.len() < MOST {
        return;
    }
    let mut wrong: Vec<u32> = counts.values().map(|count| count.wrong).collect();
    let (_, middle, _) = wrong.select_nth_unstable(MOST / 2);
    let middle = *middle;
    let mut spared = MOST / 2;
    counts.retain(|_, count| {
        let kept = count.wrong > middle || (count.wrong == middle && spared > 0);
        spared = spared.saturating_sub(usize::from(kept));
        kept
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_longest() {
        let rule = Rule { free: 2, longest: Duration::from_secs(60) };
        let waits: Vec<u64> = (0..10).map(|wrong| rule.wait(wrong).as_secs()).collect();
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(rule.wait(u32::MAX).as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn many_keys_drive_out_no_count_that_matters() {
        let backoff = Backoff::new(Rule { free: 1, longest: Duration::from_secs(600) });
        let key = |number: u32| {
            let mut key = Key::default();
            key[..4].copy_from_slice(&number.to_be_bytes());
            key
        };
        let guessed = [255; 16];
        backoff.attempt(&guessed, Instant::now()).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let now = Instant::now();
        backoff.attempt(&guessed, now).unwrap();
        for number in 0..u32::try_from(MOST).unwrap() * 3 {
            backoff.attempt(&key(number), now).unwrap();
        }
        assert!(backoff.counts.lock().len() <= MOST);
        assert!(backoff.attempt(&guessed, now).is_err());
    }
}
