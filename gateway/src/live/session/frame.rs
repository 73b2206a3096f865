//! Frames of state: what is new for a client that has seen so much.

use bytes::Bytes;

use crate::live::{
    board::{Board, Change},
    protocol::{Items, Topic},
};

/// Things in one frame of state.
const FRAME_ITEMS: usize = 128;

/// How far a client is with a topic of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    Version(u64),
    /// There is no such thing, and the client knows.
    Absent,
}

/// What a client sees of a thing.
pub(super) enum Shown {
    /// All of it.
    Item(Bytes),
    /// That it is gone.
    Gone,
    /// Nothing: for this client there is no such thing.
    Hidden,
}

/// What is new on a whole board: the frame, how far the client is then, and whether there is more.
pub(super) fn all<K: Ord + Copy + ToString, V>(
    topic: Topic,
    seen: Seen,
    board: &Board<K, V>,
    shown: impl Fn(&V) -> Shown,
) -> (Option<Bytes>, Seen, bool) {
    let version = if let Seen::Version(version) = seen { version } else { 0 };
    let changes = board.since(version, FRAME_ITEMS);
    let reset = changes.reset;
    let mut items = Items::state(topic, reset);
    let mut anything = reset;
    for change in changes.changes {
        match change {
            Change::Put(key, value) => match shown(&value) {
                Shown::Item(json) => items.add(&json),
                Shown::Gone if reset => continue,
                Shown::Gone => items.remove(&key.to_string()),
                Shown::Hidden => continue,
            },
            Change::Removed(key) => items.remove(&key.to_string()),
        }
        anything = true;
    }
    (anything.then(|| items.into_state()), Seen::Version(changes.version), changes.more)
}

/// What is new of one thing.
pub(super) fn one(topic: Topic, seen: Seen, newest: Option<(u64, Bytes)>, id: &str) -> (Option<Bytes>, Seen, bool) {
    let mut items = Items::state(topic, seen == Seen::Nothing);
    let now = match newest {
        Some((version, _)) if seen == Seen::Version(version) => return (None, seen, false),
        Some((version, json)) => {
            items.add(&json);
            Seen::Version(version)
        }
        None if seen == Seen::Absent => return (None, seen, false),
        None => {
            items.remove(id);
            Seen::Absent
        }
    };
    (Some(items.into_state()), now, false)
}
