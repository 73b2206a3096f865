use std::collections::HashMap;

use pinacle_bus::contract::host::StateCause;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::sample;

fn patience() -> Patience {
    Patience {
        degraded_after: Duration::from_millis(7500),
        offline_after: Duration::from_millis(12_500),
        closed_settle: Duration::from_secs(1),
        reconnect_grace: Duration::from_secs(15),
    }
}

fn moment(ms: u64) -> Moment {
    let wall = Timestamp::from_millis(1_800_000_000_000 + i64::try_from(ms).unwrap()).unwrap();
    Moment { elapsed: Duration::from_millis(ms), wall }
}

/// A bucket, and the copies that share it.
struct World {
    bucket: HashMap<HostId, Entry<HostRecord>>,
    revision: u64,
    copies: Vec<Fleet>,
    /// Each change of state as it was written.
    written: Vec<(HostState, HostState)>,
    now: u64,
}

impl World {
    fn new(copies: usize) -> Self {
        let copies = (0..copies).map(|_| World::copy(0)).collect();
        Self { bucket: HashMap::new(), revision: 0, copies, written: Vec::new(), now: 0 }
    }

    fn copy(now: u64) -> Fleet {
        let mut fleet = Fleet::new(patience(), Names::default());
        fleet.connected(moment(now));
        fleet
    }

    fn put(&mut self, record: HostRecord) {
        self.revision += 1;
        let entry = Entry { revision: self.revision, written_at: record.state_since, record };
        self.bucket.insert(entry.record.host_id, entry.clone());
        for copy in &mut self.copies {
            copy.record(entry.clone(), moment(self.now));
        }
    }

    /// Does what is due as the registry does it. All copies take their jobs before anybody's is done: the worst case.
    fn settle(&mut self) {
        loop {
            let now = moment(self.now);
            let mut jobs = Vec::new();
            for (copy, fleet) in self.copies.iter_mut().enumerate() {
                while let Some(job) = fleet.next_job(now) {
                    jobs.push((copy, job));
                }
            }
            if jobs.is_empty() {
                return;
            }
            for (copy, job) in jobs {
                let id = job.entry.record.host_id;
                let outcome = self.carry_out(job);
                self.copies[copy].finished(id, outcome, now);
            }
        }
    }

    fn carry_out(&mut self, job: Job) -> Outcome {
        let known = self.bucket[&job.entry.record.host_id].clone();
        let mut record = job.entry.record;
        match job.task {
            Task::Announce => Outcome::Announced { state_since: record.state_since },
            _ if known.revision != job.entry.revision => Outcome::Seen { entry: Some(Box::new(known)) },
            Task::Rename { name } => {
                record.name = name;
                self.put(record.clone());
                Outcome::Seen { entry: Some(Box::new(self.bucket[&record.host_id].clone())) }
            }
            Task::Change { verdict, evidence, beats } => {
                self.written.push((record.state, verdict.state));
                record.state = verdict.state;
                record.cause = verdict.cause;
                record.state_since = crate::announcement::following(record.state_since, moment(self.now).wall);
                record.evidence = *evidence;
                self.put(record.clone());
                Outcome::Changed { entry: Box::new(self.bucket[&record.host_id].clone()), beats, announced: true }
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now = (self.now + 250).min(until);
            for copy in &mut self.copies {
                copy.probed(true, moment(self.now));
                copy.tick(moment(self.now));
            }
            self.settle();
        }
    }

    fn beat(&mut self, id: HostId, sequence: u64, hears: impl Fn(usize) -> bool) {
        let heartbeat = sample::heartbeat(id, sequence);
        for (copy, fleet) in self.copies.iter_mut().enumerate() {
            if hears(copy) {
                fleet.heartbeat(&heartbeat, moment(self.now));
            }
        }
        self.settle();
    }

    fn state(&self, id: HostId) -> (HostState, StateCause) {
        let record = &self.bucket[&id].record;
        (record.state, record.cause)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn copies_that_come_and_go_write_each_change_once_and_agree(
        steps in vec((4000_u64..=6000, 0_usize..8), 4..30),
    ) {
        let mut world = World::new(2);
        let record = sample::record("web");
        let id = record.host_id;
        world.put(record);
        for (sequence, (gap, what)) in steps.into_iter().enumerate() {
            world.beat(id, sequence as u64 + 1, |_| true);
            world.wait(gap);
            match what {
                0 => {
                    // One copy is killed and starts again from the records.
                    let mut fleet = World::copy(world.now);
                    for entry in world.bucket.values() {
                        fleet.record(entry.clone(), moment(world.now));
                    }
                    world.copies[0] = fleet;
                }
                1 => {
                    world.copies[1].disconnected();
                    world.copies[1].connected(moment(world.now));
                }
                _ => {}
            }
        }
        prop_assert_eq!(&world.written, &[(HostState::Unknown, HostState::Online)]);
        // Past any grace.
        for sequence in 100..104 {
            world.beat(id, sequence, |_| true);
            world.wait(5000);
        }
        world.wait(8000);
        prop_assert_eq!(world.state(id), (HostState::Offline, StateCause::Silent));
        world.wait(60_000);
        let expected = [
            (HostState::Unknown, HostState::Online),
            (HostState::Online, HostState::Degraded),
            (HostState::Degraded, HostState::Offline),
        ];
        prop_assert_eq!(&world.written, &expected);
        world.beat(id, 200, |_| true);
        prop_assert_eq!(world.written.len(), 4);
        for copy in &world.copies {
            prop_assert_eq!(copy.states()[0], (HostState::Online, 1));
        }
    }
}

#[test]
fn heartbeats_of_hosts_that_are_not_admitted_are_kept_in_bounds_and_for_a_moment() {
    let mut world = World::new(1);
    for _ in 0..5000 {
        let taken = world.copies[0].heartbeat(&sample::heartbeat(HostId::new(), 1), moment(0));
        assert_eq!(taken, Taken::Unknown);
    }
    assert!(world.copies[0].hosts.is_empty());
    assert_eq!(world.copies[0].strangers.len(), MOST_STRANGERS);
    world.wait(11_000);
    assert!(world.copies[0].strangers.is_empty());
}

#[test]
fn a_host_whose_first_heartbeat_comes_before_its_record_is_online_at_once() {
    let mut world = World::new(2);
    let record = sample::record("web");
    let id = record.host_id;
    world.beat(id, 1, |_| true);
    world.now += 20;
    world.put(record);
    world.settle();
    assert_eq!(world.state(id), (HostState::Online, StateCause::Heartbeat));
}

#[test]
fn a_change_by_another_copy_is_looked_after_and_an_own_one_is_not() {
    let mut world = World::new(2);
    let record = sample::record("web");
    let id = record.host_id;
    world.put(record);
    world.wait(6000);
    world.beat(id, 1, |copy| copy == 0);
    assert!(world.copies[0].hosts[&id].is_announced());
    assert!(!world.copies[1].hosts[&id].is_announced());
    world.wait(6000);
    assert!(world.copies[1].hosts[&id].is_announced());
}

#[test]
fn a_job_that_failed_is_tried_again_at_the_next_tick_and_not_before() {
    let mut world = World::new(1);
    let record = sample::record("web");
    let id = record.host_id;
    world.put(record);
    world.copies[0].heartbeat(&sample::heartbeat(id, 1), moment(0));
    assert!(world.copies[0].next_job(moment(0)).is_some());
    assert!(world.copies[0].next_job(moment(0)).is_none(), "one job at a time");
    world.copies[0].finished(id, Outcome::Failed, moment(10));
    assert!(world.copies[0].next_job(moment(10)).is_none());
    world.copies[0].tick(moment(250));
    assert!(world.copies[0].next_job(moment(250)).is_some());
}

#[test]
fn of_two_hosts_with_one_name_the_later_is_renamed() {
    let mut world = World::new(2);
    let first = sample::record("web");
    let mut second = sample::record("web");
    second.admitted_at = second.admitted_at.plus(Duration::from_secs(1));
    world.put(second.clone());
    world.put(first.clone());
    world.wait(1000);
    assert_eq!(world.bucket[&first.host_id].record.name, "web");
    assert!(world.bucket[&second.host_id].record.name.starts_with("web-"));
}

#[test]
fn a_record_that_is_gone_is_forgotten() {
    let mut world = World::new(1);
    let record = sample::record("web");
    world.put(record.clone());
    world.copies[0].removed(record.host_id);
    assert!(world.copies[0].hosts.is_empty());
    assert_eq!(world.copies[0].states()[3], (HostState::Unknown, 0));
}
