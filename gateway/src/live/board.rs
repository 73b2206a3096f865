//! The newest value of each key, and what changed since a version: the state that clients are shown.
//!
//! Any number of clients follow one board, each with nothing but the version that it has seen. A slow one finds each
//! changed key once, with its newest value, so that no client needs a buffer of its own and memory is bounded by the keys.
//!
//! Each value is somebody's, and a client learns of those alone that it may see: that one is gone, or has become somebody
//! else's, is told to whom it was, and nobody else.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Losses that are remembered. A client that is further behind is told to begin anew.
const MOST_LOSSES: usize = 4096;
/// Changes that are looked at under one lock.
const MOST_LOOKED_AT: usize = 1024;

/// What is somebody's.
pub trait Owned {
    /// Whose; `None` = the installation's own.
    fn owner(&self) -> Option<&str>;
}

/// See the module.
pub struct Board<K, V> {
    state: Mutex<State<K, V>>,
    newest: watch::Sender<u64>,
}

struct State<K, V> {
    version: u64,
    slots: BTreeMap<K, Slot<V>>,
    /// Every present key by the version of its newest value.
    order: BTreeMap<u64, K>,
    /// What an owner has no more.
    lost: BTreeMap<u64, Loss<K>>,
    /// Losses up to this version are forgotten.
    forgotten: u64,
}

struct Loss<K> {
    key: K,
    /// Who had it.
    owner: Option<Arc<str>>,
}

struct Slot<V> {
    version: u64,
    value: Arc<V>,
}

/// What becomes of a key.
pub enum Next<V> {
    /// It has this value from now on.
    Put(V),
    /// It goes, if it is there.
    Remove,
    /// It stays as it is.
    Keep,
}

/// A change of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<K, V> {
    /// Its newest value.
    Put(K, Arc<V>),
    /// It is gone, or somebody else's.
    Removed(K),
}

/// What changed since a version.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes<K, V> {
    /// What was known before counts no more: all keys follow.
    pub reset: bool,
    /// In the order of their newest change.
    pub changes: Vec<Change<K, V>>,
    /// The version to ask from next time.
    pub version: u64,
    /// Whether there is more already.
    pub more: bool,
}

impl<K: Ord + Copy, V> Default for Board<K, V> {
    fn default() -> Self {
        // 0 is who has seen nothing yet, also of a board that is empty.
        let state =
            State { version: 1, slots: BTreeMap::new(), order: BTreeMap::new(), lost: BTreeMap::new(), forgotten: 0 };
        Self { state: Mutex::new(state), newest: watch::Sender::new(1) }
    }
}

impl<K: Ord + Copy, V: Owned> State<K, V> {
    fn put(&mut self, key: K, value: V) {
        let value = Arc::new(value);
        if let Some(before) = self.slots.remove(&key) {
            self.order.remove(&before.version);
            // What had no owner was seen by those alone who see all.
            if before.value.owner().is_some() && before.value.owner() != value.owner() {
                self.lose(key, &before.value);
            }
        }
        self.version += 1;
        self.slots.insert(key, Slot { version: self.version, value });
        self.order.insert(self.version, key);
    }

    fn remove(&mut self, key: &K) {
        let Some(slot) = self.slots.remove(key) else { return };
        self.order.remove(&slot.version);
        self.lose(*key, &slot.value);
    }

    fn lose(&mut self, key: K, value: &V) {
        self.version += 1;
        self.lost.insert(self.version, Loss { key, owner: value.owner().map(Arc::from) });
        if self.lost.len() > MOST_LOSSES
            && let Some((version, _)) = self.lost.pop_first()
        {
            self.forgotten = version;
        }
    }
}

impl<K: Ord + Copy, V: Owned> Board<K, V> {
    /// Changes keys, each as `decide` says when it sees the value of now. Clients are told once for all of them.
    pub fn change(&self, keys: impl IntoIterator<Item = K>, mut decide: impl FnMut(&K, Option<&V>) -> Next<V>) {
        let mut state = self.state.lock();
        for key in keys {
            match decide(&key, state.slots.get(&key).map(|slot| &*slot.value)) {
                Next::Put(value) => state.put(key, value),
                Next::Remove => state.remove(&key),
                Next::Keep => {}
            }
        }
        let version = state.version;
        drop(state);
        self.newest.send_if_modified(|newest| std::mem::replace(newest, version) < version);
    }

    /// Removes the smallest keys beyond `most`.
    pub fn hold_to(&self, most: usize) {
        let mut state = self.state.lock();
        while state.slots.len() > most {
            let Some(key) = state.slots.keys().next().copied() else { break };
            state.remove(&key);
        }
    }

    /// A key's newest value.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.state.lock().slots.get(key).map(|slot| slot.value.clone())
    }

    /// A key's newest value with its version.
    pub fn newest_of(&self, key: &K) -> Option<(u64, Arc<V>)> {
        self.state.lock().slots.get(key).map(|slot| (slot.version, slot.value.clone()))
    }

    /// The first values behind `after` that `wanted` lets through, in the order of their keys.
    pub fn page(&self, after: Option<K>, limit: usize, mut wanted: impl FnMut(&V) -> bool) -> Vec<(K, Arc<V>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state.lock();
        let range: btree_map::Range<'_, K, Slot<V>> = state.slots.range((from, Bound::Unbounded));
        range
            .filter(|(_, slot)| wanted(&slot.value))
            .take(limit)
            .map(|(key, slot)| (*key, slot.value.clone()))
            .collect()
    }

    /// The last values before `before` that `wanted` lets through, the largest key first.
    pub fn page_back(&self, before: Option<K>, limit: usize, mut wanted: impl FnMut(&V) -> bool) -> Vec<(K, Arc<V>)> {
        let to = before.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state.lock();
        let range: btree_map::Range<'_, K, Slot<V>> = state.slots.range((Bound::Unbounded, to));
        range
            .rev()
            .filter(|(_, slot)| wanted(&slot.value))
            .take(limit)
            .map(|(key, slot)| (*key, slot.value.clone()))
            .collect()
    }

    /// At most `limit` keys that changed since `version`, 0 = all that there are, for a client that sees what these
    /// owners have. There may be fewer, and more all the same.
    pub fn since(&self, version: u64, limit: usize, sees: impl Fn(Option<&str>) -> bool) -> Changes<K, V> {
        let state = self.state.lock();
        let reset = version == 0 || version < state.forgotten || version > state.version;
        let from = if reset { 0 } else { version };
        let behind = (Bound::Excluded(from), Bound::Unbounded);
        let mut puts = state.order.range(behind).peekable();
        let mut losses = state.lost.range(behind).peekable();
        let seen_now = |key| state.slots.get(key).filter(|slot| sees(slot.value.owner()));
        let mut changes = Vec::new();
        let mut seen = from;
        for _ in 0..MOST_LOOKED_AT {
            if changes.len() >= limit {
                break;
            }
            // Both are ordered by version, so the smaller head comes next. A reset needs no losses: nothing is known.
            let loss = losses.peek().filter(|_| !reset).map(|(version, _)| **version);
            match (puts.peek().map(|(version, _)| **version), loss) {
                (Some(put), loss) if loss.is_none_or(|loss| put < loss) => {
                    seen = put;
                    let key = puts.next().map(|(_, key)| key);
                    let value = key.and_then(|key| Some((key, seen_now(key)?)));
                    changes.extend(value.map(|(key, slot)| Change::Put(*key, slot.value.clone())));
                }
                (_, Some(loss)) => {
                    seen = loss;
                    // Whoever sees it now, too, is told what it is now.
                    let lost = losses.next().map(|(_, loss)| loss);
                    let lost = lost.filter(|loss| sees(loss.owner.as_deref()) && seen_now(&loss.key).is_none());
                    changes.extend(lost.map(|loss| Change::Removed(loss.key)));
                }
                (_, None) => break,
            }
        }
        let more = puts.peek().is_some() || (!reset && losses.peek().is_some());
        Changes { reset, changes, version: if more { seen } else { state.version }, more }
    }

    /// How many keys there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.state.lock().slots.len()
    }

    /// Follows the newest version.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests;
