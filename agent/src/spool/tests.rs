use pinacle_bus::contract::{HostId, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::sample::{Roots, Sampler};

fn sample(at_ms: i64) -> Metrics {
    let nowhere = PathBuf::from("/nonexistent");
    let roots = Roots { proc: nowhere.clone(), sys: nowhere.clone(), cgroup: nowhere };
    let mut sample = Sampler::new(HostId::new(), &roots).take(&[]);
    sample.sampled_at = Timestamp::from_millis(at_ms).unwrap();
    sample
}

fn times(spool: &mut Spool) -> Vec<i64> {
    let mut times = Vec::new();
    while let Some(sample) = spool.oldest() {
        assert!(sample.late);
        times.push(sample.sampled_at.as_millis());
        spool.remove(&sample);
    }
    times
}

#[test]
fn samples_come_back_oldest_first_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    for at in [3000, 1000, 2000] {
        spool.push(sample(at)).unwrap();
    }
    drop(spool);
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(spool.entries.len(), 3);
    assert_eq!(times(&mut spool), [1000, 2000, 3000]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn beyond_its_bound_the_oldest_are_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 4 * BLOCK).unwrap();
    for at in 1..=10 {
        spool.push(sample(at)).unwrap();
    }
    assert_eq!(times(&mut spool), [7, 8, 9, 10]);
    for at in 1..=4 {
        spool.push(sample(at)).unwrap();
    }
    drop(spool);
    // A smaller bound after a restart holds at once.
    assert_eq!(times(&mut Spool::open(directory.path(), 2 * BLOCK).unwrap()), [3, 4]);
}

#[test]
fn what_is_broken_or_half_written_is_skipped_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    for at in 1..=4 {
        spool.push(sample(at)).unwrap();
    }
    drop(spool);
    fs::write(directory.path().join("000000000000001.json"), b"{\"host").unwrap();
    fs::copy(directory.path().join("000000000000004.json"), directory.path().join("000000000000002.json")).unwrap();
    fs::write(directory.path().join("000000000000009.partial"), b"{").unwrap();
    let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(times(&mut spool), [3, 4]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_sample_that_cannot_be_written_is_an_error_and_leaves_the_spool_working() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut spool = Spool::open(&path, 1 << 20).unwrap();
    fs::remove_dir(&path).unwrap();
    assert!(spool.push(sample(1)).is_err());
    assert!(spool.oldest().is_none());
    fs::create_dir(&path).unwrap();
    spool.push(sample(2)).unwrap();
    assert_eq!(times(&mut spool), [2]);
}

#[derive(Debug, Clone)]
enum Step {
    Push(i64),
    Send,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![4 => (0_i64..50).prop_map(Step::Push), 2 => Just(Step::Send), 1 => Just(Step::Restart)];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_the_newest_samples_whatever_comes_in_whatever_order(steps in steps(), blocks in 1_usize..8) {
        let directory = tempfile::tempdir().unwrap();
        let open = || Spool::open(directory.path(), blocks as u64 * BLOCK).unwrap();
        let mut spool = open();
        let mut model: std::collections::BTreeSet<i64> = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Push(at) => {
                    spool.push(sample(at)).unwrap();
                    // Room is made before the new one is written, so that the bound holds at every moment.
                    while model.len() >= blocks {
                        model.pop_first();
                    }
                    model.insert(at);
                }
                Step::Send => {
                    let oldest = spool.oldest();
                    prop_assert_eq!(oldest.as_ref().map(|sample| sample.sampled_at.as_millis()), model.pop_first());
                    if let Some(sample) = oldest {
                        spool.remove(&sample);
                    }
                }
                Step::Restart => {
                    drop(spool);
                    spool = open();
                }
            }
            prop_assert_eq!(spool.entries.len(), model.len());
            prop_assert_eq!(spool.bytes, model.len() as u64 * BLOCK);
        }
        prop_assert_eq!(times(&mut spool), model.into_iter().collect::<Vec<_>>());
    }
}
