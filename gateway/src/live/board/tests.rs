use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Every third value is ann's, every third bob's, and the rest is nobody's.
impl Owned for u32 {
    fn owner(&self) -> Option<&str> {
        match self % 3 {
            0 => Some("ann"),
            1 => Some("bob"),
            _ => None,
        }
    }
}

fn put(board: &Board<u32, u32>, key: u32, value: u32) {
    board.change([key], |_, _| Next::Put(value));
}

fn remove(board: &Board<u32, u32>, key: u32) {
    board.change([key], |_, _| Next::Remove);
}

type Sees = fn(Option<&str>) -> bool;

fn all(_: Option<&str>) -> bool {
    true
}

fn anns(owner: Option<&str>) -> bool {
    owner == Some("ann")
}

fn the_teams(owner: Option<&str>) -> bool {
    owner.is_some()
}

/// A client: it knows what it was told, and nothing else.
struct Client {
    sees: Sees,
    version: u64,
    known: BTreeMap<u32, u32>,
    told: usize,
    /// What it may ever have been told of.
    ever: BTreeSet<u32>,
}

impl Client {
    fn new(sees: Sees) -> Self {
        Self { sees, version: 0, known: BTreeMap::new(), told: 0, ever: BTreeSet::new() }
    }

    fn read(&mut self, board: &Board<u32, u32>, limit: usize) -> bool {
        let changes = board.since(self.version, limit, self.sees);
        if changes.reset {
            self.known.clear();
        }
        assert!(changes.changes.len() <= limit);
        for change in changes.changes {
            self.told += 1;
            match change {
                Change::Put(key, value) => {
                    assert!((self.sees)(value.owner()), "told what is not theirs");
                    self.known.insert(key, *value);
                }
                Change::Removed(key) => {
                    assert!(self.ever.contains(&key), "told of the end of what was never theirs");
                    self.known.remove(&key);
                }
            }
        }
        self.version = changes.version;
        changes.more
    }
}

fn truth(board: &Board<u32, u32>, sees: Sees) -> BTreeMap<u32, u32> {
    board.page(None, usize::MAX, |value| sees(value.owner())).into_iter().map(|(key, value)| (key, *value)).collect()
}

#[test]
fn a_slow_client_is_told_each_key_once_with_its_newest_value() {
    let board = Board::default();
    let mut client = Client::new(all);
    put(&board, 1, 0);
    client.read(&board, 100);
    for value in 1..=1000 {
        put(&board, 1, value * 3);
        put(&board, 2, value * 3);
    }
    client.told = 0;
    assert!(!client.read(&board, 100));
    assert_eq!((client.told, client.known), (2, BTreeMap::from([(1, 3000), (2, 3000)])));
}

#[test]
fn a_client_behind_the_remembered_losses_begins_anew() {
    let board = Board::default();
    put(&board, 0, 7);
    let mut client = Client::new(all);
    client.read(&board, 100);
    for key in 1..=u32::try_from(MOST_LOSSES).unwrap() + 10 {
        put(&board, key, 1);
        remove(&board, key);
    }
    assert!(board.since(client.version, 10, all).reset);
    while client.read(&board, 10) {}
    assert_eq!(client.known, truth(&board, all));
    assert!(board.state.lock().lost.len() <= MOST_LOSSES);
}

#[test]
fn whoever_had_a_thing_is_told_once_that_it_is_theirs_no_more() {
    let board = Board::default();
    let (mut ann, mut team, mut eve) = (Client::new(anns), Client::new(the_teams), Client::new(|_| false));
    ann.ever.insert(1);
    team.ever.insert(1);
    let mut read = |board: &Board<u32, u32>| {
        [&mut ann, &mut team, &mut eve].map(|client| {
            let before = client.told;
            while client.read(board, 10) {}
            (client.told - before, client.known.get(&1).copied())
        })
    };
    put(&board, 1, 0);
    assert_eq!(read(&board), [(1, Some(0)), (1, Some(0)), (0, None)]);
    // It is bob's: ann hears that it is gone, those who see both hear what it is now, and nobody else hears anything.
    put(&board, 1, 1);
    assert_eq!(read(&board), [(1, None), (1, Some(1)), (0, None)]);
    // What goes on with it is none of hers.
    put(&board, 1, 4);
    remove(&board, 1);
    assert_eq!(read(&board), [(0, None), (1, None), (0, None)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whoever_reads_to_the_end_knows_the_truth_of_what_is_theirs(
        steps in proptest::collection::vec((0u32..20, any::<u32>(), 0u8..10, 1usize..5), 0..200)
    ) {
        let board = Board::default();
        let mut clients = [all, anns, the_teams].map(Client::new);
        for (key, value, what, limit) in steps {
            match what {
                0..=4 => {
                    put(&board, key, value);
                    let may = clients.iter_mut().filter(|client| (client.sees)(value.owner()));
                    may.for_each(|client| client.ever.extend([key]));
                }
                5..=6 => remove(&board, key),
                _ => for client in &mut clients {
                    client.read(&board, limit);
                },
            }
        }
        for mut client in clients {
            while client.read(&board, 3) {}
            prop_assert_eq!(client.known, truth(&board, client.sees));
        }
    }

    #[test]
    fn pages_hold_every_key_once(keys in proptest::collection::btree_set(0u32..500, 0..100), limit in 1usize..20) {
        let board = Board::default();
        for key in &keys {
            put(&board, *key, *key);
        }
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = board.page(after, limit, |_| true);
            found.extend(page.iter().map(|(key, _)| *key));
            if page.len() < limit { break }
            after = page.last().map(|(key, _)| *key);
        }
        prop_assert_eq!(found, keys.into_iter().collect::<Vec<_>>());
    }
}
