//! Frames of state: what is new for a client that has seen so much.

use bytes::Bytes;

use crate::{
    identity::Identity,
    live::{
        board::{Board, Change, Owned},
        protocol::{Items, Topic},
    },
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

/// What is new on a whole board for a client who may see a part of it: the frame, how far the client is then, and whether
/// there is more. How much others have shows in no frame. `json` is `None` for what counts as gone.
pub(super) fn all<K: Ord + Copy + ToString, V: Owned>(
    (topic, seen): (Topic, Seen),
    identity: &Identity,
    board: &Board<K, V>,
    json: impl Fn(&V) -> Option<Bytes>,
) -> (Option<Bytes>, Seen, bool) {
    let version = if let Seen::Version(version) = seen { version } else { 0 };
    let sees = |owner: Option<&str>| identity.sees(owner);
    let mut news = board.since(version, FRAME_ITEMS, sees);
    let reset = news.reset;
    while news.more && news.changes.len() < FRAME_ITEMS {
        let next = board.since(news.version, FRAME_ITEMS - news.changes.len(), sees);
        news.changes.extend(next.changes);
        (news.version, news.more) = (next.version, next.more);
    }
    let mut items = Items::state(topic, reset);
    let mut anything = reset;
    for change in news.changes {
        match change {
            Change::Put(key, value) => match json(&value) {
                Some(json) => items.add(&json),
                None if reset => continue,
                None => items.remove(&key.to_string()),
            },
            Change::Removed(key) => items.remove(&key.to_string()),
        }
        anything = true;
    }
    (anything.then(|| items.into_state()), Seen::Version(news.version), news.more)
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
