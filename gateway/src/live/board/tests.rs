use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn put(board: &Board<u32, u32>, key: u32, value: u32) {
    board.change([key], |_, _| Next::Put(value));
}

fn remove(board: &Board<u32, u32>, key: u32) {
    board.change([key], |_, _| Next::Remove);
}

/// A client: it knows what it was told, and nothing else.
#[derive(Default)]
struct Client {
    version: u64,
    known: BTreeMap<u32, u32>,
    told: usize,
}

impl Client {
    fn read(&mut self, board: &Board<u32, u32>, limit: usize) -> bool {
        let changes = board.since(self.version, limit);
        if changes.reset {
            self.known.clear();
        }
        assert!(changes.changes.len() <= limit);
        for change in changes.changes {
            self.told += 1;
            match change {
                Change::Put(key, value) => {
                    self.known.insert(key, *value);
                }
                Change::Removed(key) => {
                    self.known.remove(&key);
                }
            }
        }
        self.version = changes.version;
        changes.more
    }
}

fn truth(board: &Board<u32, u32>) -> BTreeMap<u32, u32> {
    board.page(None, usize::MAX, |_| true).into_iter().map(|(key, value)| (key, *value)).collect()
}

#[test]
fn a_slow_client_is_told_each_key_once_with_its_newest_value() {
    let board = Board::default();
    let mut client = Client::default();
    put(&board, 1, 0);
    client.read(&board, 100);
    for value in 1..=1000 {
        put(&board, 1, value);
        put(&board, 2, value);
    }
    client.told = 0;
    assert!(!client.read(&board, 100));
    assert_eq!((client.told, client.known), (2, BTreeMap::from([(1, 1000), (2, 1000)])));
}

#[test]
fn a_client_behind_the_remembered_removals_begins_anew() {
    let board = Board::default();
    put(&board, 0, 7);
    let mut client = Client::default();
    client.read(&board, 100);
    for key in 1..=u32::try_from(MOST_REMOVALS).unwrap() + 10 {
        put(&board, key, 1);
        remove(&board, key);
    }
    assert!(board.since(client.version, 10).reset);
    while client.read(&board, 10) {}
    assert_eq!(client.known, truth(&board));
    assert!(board.state.lock().removed.len() <= MOST_REMOVALS);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whoever_reads_to_the_end_knows_the_truth(
        steps in proptest::collection::vec((0u32..20, any::<u32>(), 0u8..10, 1usize..5), 0..200)
    ) {
        let board = Board::default();
        let mut client = Client::default();
        for (key, value, what, limit) in steps {
            match what {
                0..=4 => put(&board, key, value),
                5..=6 => remove(&board, key),
                _ => { client.read(&board, limit); }
            }
        }
        while client.read(&board, 3) {}
        prop_assert_eq!(client.known, truth(&board));
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
