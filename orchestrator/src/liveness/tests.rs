use pinacle_bus::contract::HostId;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::sample;

const TICK: Duration = Duration::from_millis(250);

fn patience() -> Patience {
    Patience {
        degraded_after: Duration::from_millis(7500),
        offline_after: Duration::from_millis(12_500),
        closed_settle: Duration::from_secs(1),
        reconnect_grace: Duration::from_secs(15),
    }
}

fn connection(client: u64) -> ConnectionId {
    ConnectionId { server: "S".into(), client }
}

/// One host, one copy that watches it, and what both clocks say.
struct World {
    vital: Vital,
    attention: Attention,
    now: Duration,
    wall_ms: i64,
    host_clock_ms: i64,
    sent: Vec<Heartbeat>,
    next: Heartbeat,
    booted: Duration,
    states: Vec<Verdict>,
    answers: bool,
}

impl World {
    fn new() -> Self {
        let began = Moment { elapsed: Duration::ZERO, wall: Timestamp::from_millis(1_800_000_000_000).unwrap() };
        let mut attention = Attention::new(&patience());
        attention.connected(began.elapsed);
        let mut next = sample::heartbeat(HostId::new(), 1);
        next.uptime_seconds = 0;
        Self {
            vital: Vital::new(Verdict::new(HostState::Unknown, StateCause::Admitted), began),
            attention,
            now: began.elapsed,
            wall_ms: began.wall.as_millis(),
            host_clock_ms: 0,
            sent: Vec::new(),
            next,
            booted: Duration::ZERO,
            states: Vec::new(),
            answers: true,
        }
    }

    fn moment(&self) -> Moment {
        let wall = self.wall_ms + i64::try_from(self.now.as_millis()).unwrap();
        Moment { elapsed: self.now, wall: Timestamp::from_millis(wall.max(0)).unwrap() }
    }

    fn settle(&mut self) {
        if let Some(verdict) = self.vital.judge(self.moment(), &self.attention, &patience()) {
            let beats = self.vital.beats();
            self.vital.decided(verdict, beats);
            self.states.push(verdict);
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = (self.now + TICK).min(until);
            self.attention.tick(self.now);
            if self.answers {
                self.attention.probed(true, self.now);
            }
            self.settle();
        }
    }

    fn beat(&mut self) {
        let mut heartbeat = self.next.clone();
        heartbeat.uptime_seconds += (self.now - self.booted).as_secs();
        heartbeat.sent_at = Timestamp::from_millis((self.wall_ms + self.host_clock_ms).max(0)).unwrap();
        self.next.sequence += 1;
        self.vital.heartbeat(&heartbeat, self.moment());
        self.settle();
        self.sent.push(heartbeat);
    }

    fn outage(&mut self, time: Duration) {
        self.attention.disconnected();
        let before = self.states.len();
        self.wait(time);
        assert_eq!(self.states.len(), before, "nobody is judged while the bus is away");
        self.attention.connected(self.now);
    }

    fn disturb(&mut self, disturbance: &Disturbance) {
        match *disturbance {
            Disturbance::Replay => {
                for heartbeat in self.sent.clone() {
                    self.vital.heartbeat(&heartbeat, self.moment());
                }
            }
            Disturbance::Opened(client) => self.vital.opened(connection(client)),
            Disturbance::Closed(client) => {
                self.vital.closed(&connection(client), "Client Closed".into(), self.moment());
            }
            Disturbance::HostClock(ms) => self.host_clock_ms = ms,
            Disturbance::WallClock(ms) => self.wall_ms = 1_800_000_000_000 + ms,
            Disturbance::AgentStarts => self.next.sequence = 1,
            Disturbance::Reboot => {
                self.booted = self.now;
                self.next.sequence = 1;
                self.next.boot_id.push('x');
            }
            Disturbance::Outage(ms) => self.outage(Duration::from_millis(ms)),
            Disturbance::Stall(ms) => {
                self.now += Duration::from_millis(ms);
                self.attention.tick(self.now);
            }
        }
        self.settle();
    }
}

#[derive(Debug, Clone)]
enum Disturbance {
    Replay,
    Opened(u64),
    Closed(u64),
    HostClock(i64),
    WallClock(i64),
    AgentStarts,
    Reboot,
    Outage(u64),
    Stall(u64),
}

const HOUR_MS: i64 = 3_600_000;

fn from_outside() -> impl Strategy<Value = Disturbance> {
    prop_oneof![
        Just(Disturbance::Replay),
        (0_u64..3).prop_map(Disturbance::Opened),
        (0_u64..3).prop_map(Disturbance::Closed),
        (-HOUR_MS..=HOUR_MS).prop_map(Disturbance::HostClock),
        (-24 * HOUR_MS..=24 * HOUR_MS).prop_map(Disturbance::WallClock),
    ]
}

fn any_disturbance() -> impl Strategy<Value = Disturbance> {
    prop_oneof![
        5 => from_outside(),
        1 => Just(Disturbance::AgentStarts),
        1 => Just(Disturbance::Reboot),
        1 => (0_u64..60_000).prop_map(Disturbance::Outage),
        1 => (0_u64..60_000).prop_map(Disturbance::Stall),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_host_is_never_offline_while_heartbeats_flow(
        steps in vec((4000_u64..=6000, proptest::option::of(any_disturbance())), 1..60),
    ) {
        let mut world = World::new();
        for (gap, disturbance) in steps {
            world.beat();
            prop_assert_eq!(world.vital.current().state, HostState::Online);
            world.wait(Duration::from_millis(gap));
            if let Some(disturbance) = disturbance {
                world.disturb(&disturbance);
            }
            prop_assert!(world.states.iter().all(|verdict| verdict.state != HostState::Offline), "{:?}", world.states);
        }
    }

    #[test]
    fn a_host_is_always_offline_within_15_s_of_its_last_heartbeat_and_stays_so(
        before in vec((4000_u64..=6000, proptest::option::of(any_disturbance())), 0..20),
        after in vec(proptest::option::of(from_outside()), 60),
    ) {
        let mut world = World::new();
        for (gap, disturbance) in before {
            world.beat();
            world.wait(Duration::from_millis(gap));
            if let Some(disturbance) = disturbance {
                world.disturb(&disturbance);
            }
        }
        // Longer than any grace.
        for _ in 0..4 {
            world.beat();
            world.wait(Duration::from_secs(5));
        }
        world.beat();
        let last = world.now;
        for disturbance in after {
            world.wait(Duration::from_millis(500));
            if let Some(disturbance) = disturbance {
                world.disturb(&disturbance);
            }
            if world.now - last >= Duration::from_secs(13) {
                prop_assert_eq!(
                    world.vital.current(),
                    Verdict::new(HostState::Offline, StateCause::Silent),
                    "{:?} after the last heartbeat", world.now - last
                );
            }
        }
        let evidence = world.vital.evidence(world.moment());
        prop_assert_eq!(evidence.heartbeat_sequence, world.sent.last().map(|heartbeat| heartbeat.sequence));
    }

    #[test]
    fn a_host_that_died_while_the_bus_was_away_is_offline_once_the_grace_is_over(away in 0_u64..100_000) {
        let mut world = World::new();
        world.beat();
        world.outage(Duration::from_millis(away));
        let back = world.now;
        while world.vital.current().state != HostState::Offline {
            world.wait(TICK);
            prop_assert!(world.now - back <= patience().reconnect_grace + TICK);
        }
        prop_assert!(world.now - back >= patience().reconnect_grace);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_hours_worth_of_jitter_clock_steps_and_bus_restarts_raises_no_alarm(
        beats in vec((1000_u64..=12_000, 0_u32..20, 0_u64..30_000), 720),
    ) {
        let mut world = World::new();
        for (gap, event, away) in beats {
            world.beat();
            world.wait(Duration::from_millis(gap));
            match event {
                0 => world.disturb(&Disturbance::HostClock(HOUR_MS)),
                1 => world.disturb(&Disturbance::HostClock(-HOUR_MS)),
                2 => world.disturb(&Disturbance::WallClock(HOUR_MS)),
                3 => world.disturb(&Disturbance::WallClock(-HOUR_MS)),
                4 => world.disturb(&Disturbance::Outage(away)),
                _ => {}
            }
        }
        prop_assert!(world.now >= Duration::from_secs(3600), "{:?}", world.now);
        prop_assert!(world.states.iter().all(|verdict| verdict.state != HostState::Offline), "{:?}", world.states);
    }
}

#[test]
fn a_host_that_was_heard_since_the_bus_came_back_needs_no_grace() {
    let mut world = World::new();
    world.beat();
    world.outage(Duration::from_secs(3));
    world.wait(Duration::from_secs(1));
    world.beat();
    world.wait(Duration::from_secs(8));
    assert_eq!(world.vital.current().state, HostState::Degraded);
    world.wait(Duration::from_secs(5));
    assert_eq!(world.vital.current().state, HostState::Offline);
}

#[test]
fn a_bus_that_hangs_behind_a_good_connection_is_no_reason_for_an_alarm() {
    let mut world = World::new();
    world.beat();
    world.wait(Duration::from_secs(16));
    world.beat();
    world.wait(Duration::from_secs(3));
    world.answers = false;
    world.wait(Duration::from_secs(30));
    assert_eq!(world.vital.current().state, HostState::Online);
    // It goes on, with the answer first and the heartbeats after it.
    world.attention.probed(false, world.now);
    world.answers = true;
    world.wait(Duration::from_secs(7));
    world.beat();
    world.wait(Duration::from_secs(5));
    assert_eq!(world.vital.current().state, HostState::Online);
}

#[test]
fn a_farewell_reads_as_stopped_and_silence_after_it_is_no_outage() {
    let mut world = World::new();
    world.beat();
    world.next.stopping = true;
    world.beat();
    world.disturb(&Disturbance::Closed(0));
    world.wait(Duration::from_secs(120));
    assert_eq!(world.vital.current(), Verdict::new(HostState::Offline, StateCause::Stopped));
    world.next.stopping = false;
    world.next.sequence = 1;
    world.beat();
    assert_eq!(world.vital.current(), Verdict::new(HostState::Online, StateCause::Heartbeat));
}

#[test]
fn a_farewell_that_arrives_in_the_same_instant_as_a_heartbeat_counts() {
    let mut world = World::new();
    world.beat();
    let decided = world.vital.beats();
    world.next.stopping = true;
    let mut farewell = world.next.clone();
    farewell.uptime_seconds += 1;
    assert!(world.vital.heartbeat(&farewell, world.moment()));
    world.vital.decided(Verdict::new(HostState::Online, StateCause::Heartbeat), decided);
    world.settle();
    assert_eq!(world.vital.current().cause, StateCause::Stopped);
}

#[test]
fn a_closed_connection_degrades_until_the_next_heartbeat_unless_the_agent_comes_back_at_once() {
    let mut world = World::new();
    world.vital.opened(connection(1));
    world.beat();
    world.wait(Duration::from_secs(1));
    world.disturb(&Disturbance::Closed(1));
    world.wait(Duration::from_millis(500));
    assert_eq!(world.vital.current().state, HostState::Online);
    world.wait(Duration::from_millis(750));
    assert_eq!(world.vital.current(), Verdict::new(HostState::Degraded, StateCause::ConnectionClosed));
    assert!(world.vital.evidence(world.moment()).connection_closed_reason.is_some());
    world.beat();
    assert_eq!(world.vital.current().state, HostState::Online);

    // An old connection's end, noticed late; and one after which the agent is back at once.
    world.disturb(&Disturbance::Opened(2));
    world.disturb(&Disturbance::Closed(1));
    world.disturb(&Disturbance::Closed(2));
    world.disturb(&Disturbance::Opened(3));
    world.wait(Duration::from_secs(4));
    assert_eq!(world.vital.current().state, HostState::Online);
}

#[test]
fn docker_that_is_down_degrades_and_its_return_ends_that() {
    let mut world = World::new();
    world.next.docker = DockerState::Down { reason: "refused".into() };
    world.beat();
    assert_eq!(world.vital.current(), Verdict::new(HostState::Degraded, StateCause::DockerDown));
    world.next.docker = DockerState::Up { version: "20.10".into() };
    world.wait(Duration::from_secs(5));
    world.beat();
    assert_eq!(world.vital.current().state, HostState::Online);
}

#[test]
fn a_heartbeat_that_others_heard_ends_the_silence() {
    let mut world = World::new();
    world.beat();
    world.wait(Duration::from_secs(7));
    let missed = sample::heartbeat(world.next.host_id, 100);
    world.vital.overheard(&missed, world.moment().wall, world.moment());
    world.wait(Duration::from_secs(7));
    assert_eq!(world.vital.current().state, HostState::Online);
}

#[test]
fn what_the_bus_held_at_the_start_is_evidence_and_no_sign_of_life() {
    let mut world = World::new();
    let held = sample::heartbeat(world.next.host_id, 100);
    world.vital.prime(&held, world.moment().wall);
    world.disturb(&Disturbance::Opened(1));
    assert!(!world.vital.heartbeat(&held, world.moment()));
    world.wait(Duration::from_secs(16));
    assert_eq!(world.vital.current(), Verdict::new(HostState::Offline, StateCause::Silent));
    assert_eq!(world.vital.evidence(world.moment()).heartbeat_sequence, Some(100));
}
