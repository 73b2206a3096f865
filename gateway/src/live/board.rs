//! The newest value of each key, and what changed since a version: the state that clients are shown.
//!
//! Any number of clients follow one board, each with nothing but the version that it has seen. A slow one finds each
//! changed key once, with its newest value, so that no client needs a buffer of its own and memory is bounded by the keys.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Removals that are remembered. A client that is further behind is told to begin anew.
const MOST_REMOVALS: usize = 4096;

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
    removed: BTreeMap<u64, K>,
    /// Removals up to this version are forgotten.
    forgotten: u64,
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
    /// It is gone.
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
        let state = State {
            version: 0,
            slots: BTreeMap::new(),
            order: BTreeMap::new(),
            removed: BTreeMap::new(),
            forgotten: 0,
        };
        Self { state: Mutex::new(state), newest: watch::Sender::new(0) }
    }
}

impl<K: Ord + Copy, V> State<K, V> {
    fn put(&mut self, key: K, value: V) {
        self.version += 1;
        let slot = Slot { version: self.version, value: Arc::new(value) };
        if let Some(before) = self.slots.insert(key, slot) {
            self.order.remove(&before.version);
        }
        self.order.insert(self.version, key);
    }

    fn remove(&mut self, key: &K) {
        let Some(slot) = self.slots.remove(key) else { return };
        self.order.remove(&slot.version);
        self.version += 1;
        self.removed.insert(self.version, *key);
        if self.removed.len() > MOST_REMOVALS
            && let Some((version, _)) = self.removed.pop_first()
        {
            self.forgotten = version;
        }
    }
}

impl<K: Ord + Copy, V> Board<K, V> {
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

    /// At most `limit` keys that changed since `version`; 0 = all that there are.
    pub fn since(&self, version: u64, limit: usize) -> Changes<K, V> {
        let state = self.state.lock();
        let reset = version == 0 || version < state.forgotten || version > state.version;
        let from = if reset { 0 } else { version };
        let behind = (Bound::Excluded(from), Bound::Unbounded);
        let mut puts = state.order.range(behind).peekable();
        let mut removals = state.removed.range(behind).peekable();
        let mut changes = Vec::new();
        let mut seen = from;
        while changes.len() < limit {
            // Both are ordered by version, so the smaller head comes next. A reset needs no removals: nothing is known.
            let removal = removals.peek().filter(|_| !reset).map(|(version, _)| **version);
            match (puts.peek().map(|(version, _)| **version), removal) {
                (Some(put), None) => seen = put,
                (Some(put), Some(removal)) if put < removal => seen = put,
                (_, Some(removal)) => {
                    seen = removal;
                    changes.extend(removals.next().map(|(_, key)| Change::Removed(*key)));
                    continue;
                }
                (None, None) => break,
            }
            let value = puts.next().and_then(|(_, key)| state.slots.get_key_value(key));
            changes.extend(value.map(|(key, slot)| Change::Put(*key, slot.value.clone())));
        }
        let more = puts.peek().is_some() || (!reset && removals.peek().is_some());
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
