//! The orchestrator's first part as a real process on a real bus: admission, liveness, and events that come once.
//! Agents are played over the real contract.

mod agent;
mod keys;
mod owners;
mod stage;

use std::time::Duration;

use agent::Agent;
use pinacle_bus::contract::{
    HostId, Subject, Timestamp,
    dead::DeadLetter,
    event::{HOST_ADMITTED, HOST_STATE_CHANGED},
    host::{DockerState, HostRecord, HostState, StateCause},
    topology::{HOSTS, StreamName},
};
use pinacle_tests::{User, consistently, eventually};
use stage::{Stage, read_all};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(20);
/// What the design promises, from the last heartbeat to the published event.
const OFFLINE_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn two_copies_admit_each_host_once_under_a_name_of_its_own() {
    let stage = Stage::with_copies(2).await;
    let mut agents = Vec::new();
    for _ in 0..6 {
        // All of them call themselves the same, and ask twice.
        let agent = Agent::connect(&stage.nats, "web").await;
        agent.inventory().await;
        agent.inventory().await;
        agents.push(agent);
    }
    for agent in &mut agents {
        agent.beat_from_now_on();
    }
    for agent in &agents {
        stage.becomes(agent.id, HostState::Online, StateCause::Heartbeat, SOON).await;
    }
    let names = eventually(SOON, "six names", async || {
        let mut names = std::collections::BTreeSet::new();
        for agent in &agents {
            names.insert(stage.record(agent.id).await.unwrap().name);
        }
        if names.len() == agents.len() { Ok(names) } else { Err(names) }
    })
    .await;
    assert!(names.contains("web"), "{names:?}");
    let each_once = async || {
        let events = stage.events().await;
        for agent in &agents {
            let of_host: Vec<_> = events.iter().filter(|event| event.target_id == agent.id.to_string()).collect();
            let kinds: Vec<_> = of_host.iter().map(|event| event.what.as_str()).collect();
            if kinds != [HOST_ADMITTED, HOST_STATE_CHANGED] {
                return Err(format!("{of_host:?}"));
            }
        }
        Ok(())
    };
    eventually(SOON, "each event", each_once).await;
    // Long enough for a copy to look after the other's events.
    consistently(Duration::from_secs(7), "each event once", each_once).await;
}

#[tokio::test]
async fn a_silent_host_is_offline_within_15_s_and_every_change_is_told_once() {
    let stage = Stage::with_copies(2).await;
    let mut agent = stage.online("silent").await;
    let mut changes = stage.changes_of(agent.id).await;

    let last = agent.fall_silent().await;
    let degraded = changes.next(OFFLINE_WITHIN).await;
    assert_eq!((degraded.to, degraded.cause), (HostState::Degraded, StateCause::HeartbeatMissed));
    let offline = changes.next(OFFLINE_WITHIN).await;
    assert!(last.elapsed() <= OFFLINE_WITHIN, "{:?}", last.elapsed());
    assert_eq!((offline.from, offline.to), (HostState::Degraded, HostState::Offline));
    assert_eq!(offline.cause, StateCause::Silent);
    assert_eq!(offline.evidence.heartbeat_sequence, Some(agent.sequence()));
    assert!(offline.evidence.heartbeat_age_ms.unwrap() >= 12_000, "{offline:?}");

    // What is told again is no sign of life, and neither are samples that come late.
    for _ in 0..5 {
        agent.repeat_last_heartbeat().await;
        agent.late_sample().await;
    }
    changes.none_for(Duration::from_secs(3)).await;

    agent.beat_from_now_on();
    let online = changes.next(SOON).await;
    assert_eq!((online.from, online.to), (HostState::Offline, HostState::Online));
    changes.none_for(Duration::from_secs(7)).await;
    assert_eq!(stage.changes(agent.id).await.len(), 4);
}

#[tokio::test]
async fn an_agent_that_dies_is_degraded_by_the_buss_notice_and_then_offline() {
    let stage = Stage::with_copies(2).await;
    let agent = stage.online("dies").await;
    let mut changes = stage.changes_of(agent.id).await;
    let id = agent.id;
    let died = Instant::now();
    drop(agent);
    let degraded = changes.next(Duration::from_secs(5)).await;
    assert_eq!((degraded.to, degraded.cause), (HostState::Degraded, StateCause::ConnectionClosed));
    assert!(degraded.evidence.connection_closed_at.is_some());
    assert_eq!(degraded.evidence.connection_closed_reason.as_deref(), Some("Client Closed"));
    let offline = changes.next(OFFLINE_WITHIN).await;
    assert_eq!((offline.to, offline.cause), (HostState::Offline, StateCause::Silent));
    assert!(died.elapsed() <= OFFLINE_WITHIN, "{:?}", died.elapsed());
    assert_eq!(stage.changes(id).await.len(), 3);
}

#[tokio::test]
async fn a_farewell_reads_as_stopped_and_not_as_lost() {
    let stage = Stage::with_copies(2).await;
    let mut agent = stage.online("stops").await;
    let mut changes = stage.changes_of(agent.id).await;
    agent.farewell().await;
    let id = agent.id;
    drop(agent);
    let stopped = changes.next(Duration::from_secs(5)).await;
    assert_eq!((stopped.to, stopped.cause), (HostState::Offline, StateCause::Stopped));
    changes.none_for(OFFLINE_WITHIN).await;

    let mut again = Agent::connect_as(&stage.nats, id, "stops").await;
    again.beat_from_now_on();
    assert_eq!(changes.next(SOON).await.to, HostState::Online);
}

#[tokio::test]
async fn docker_that_does_not_answer_degrades_its_host() {
    let stage = Stage::with_copies(1).await;
    let mut agent = stage.online("docker").await;
    let mut changes = stage.changes_of(agent.id).await;
    agent.docker(DockerState::Down { reason: "connection refused".into() });
    assert_eq!(changes.next(SOON).await.cause, StateCause::DockerDown);
    agent.docker(DockerState::Up { version: "20.10.24".into() });
    assert_eq!(changes.next(SOON).await.to, HostState::Online);
}

#[tokio::test]
async fn a_restart_of_the_bus_raises_no_alarm_and_a_host_that_died_meanwhile_is_still_found() {
    let mut stage = Stage::with_copies(2).await;
    let alive = stage.online("alive").await;
    let mut dies = stage.online("dies").await;
    let before = stage.events().await.len();

    stage.nats.kill9().await;
    dies.fall_silent().await;
    // Away for longer than a host may be silent.
    consistently(Duration::from_secs(14), "the orchestrator runs on", async || stage.all_run()).await;
    stage.nats.restart().await;
    let back = Instant::now();

    stage.becomes(dies.id, HostState::Offline, StateCause::Silent, Duration::from_secs(25)).await;
    consistently(Duration::from_secs(10), "no alarm about the other", async || {
        let events = stage.events().await;
        let others: Vec<_> =
            events.iter().skip(before).filter(|event| event.target_id == alive.id.to_string()).collect();
        if others.is_empty() { Ok(()) } else { Err(format!("{others:?} after {:?}", back.elapsed())) }
    })
    .await;
    assert_eq!(stage.record(alive.id).await.unwrap().state, HostState::Online);
    // Everything is followed as before.
    stage.online("late").await;
}

#[tokio::test]
async fn a_bus_that_hangs_and_goes_on_raises_no_alarm() {
    let stage = Stage::with_copies(2).await;
    let alive = stage.online("alive").await;
    for hang in [4, 9, 16] {
        stage.nats.freeze();
        consistently(Duration::from_secs(hang), "it hangs", async || {
            if stage.nats.address().port() > 0 { Ok(()) } else { Err(()) }
        })
        .await;
        stage.nats.thaw();
        consistently(Duration::from_secs(6), "no alarm", async || {
            let changes = stage.changes(alive.id).await;
            if changes.len() == 1 { Ok(()) } else { Err(changes) }
        })
        .await;
    }
}

#[tokio::test]
async fn an_orchestrator_that_is_killed_and_starts_again_raises_no_alarm() {
    let mut stage = Stage::with_copies(1).await;
    let alive = stage.online("alive").await;
    let mut dies = stage.online("dies").await;
    let stopped = stage.online("stopped").await;
    stage.copies[0].kill9().await;
    let mut stopped = stopped;
    stopped.farewell().await;
    dies.fall_silent().await;
    // Nobody looks on for longer than a host may be silent.
    consistently(Duration::from_secs(14), "nothing changes", async || {
        if stage.changes(dies.id).await.len() == 1 { Ok(()) } else { Err("somebody wrote") }
    })
    .await;
    stage.copies[0].restart().await;
    stage.becomes(dies.id, HostState::Offline, StateCause::Silent, Duration::from_secs(25)).await;
    // Nobody heard the farewell, but the bus held it.
    stage.becomes(stopped.id, HostState::Offline, StateCause::Stopped, SOON).await;
    consistently(Duration::from_secs(5), "no alarm about the other", async || {
        let changes = stage.changes(alive.id).await;
        if changes.len() == 1 { Ok(()) } else { Err(changes) }
    })
    .await;
}

#[tokio::test]
async fn hosts_whose_clocks_are_an_hour_off_are_judged_by_what_arrives() {
    let stage = Stage::with_copies(2).await;
    let mut ahead = Agent::connect(&stage.nats, "ahead").await;
    let mut behind = Agent::connect(&stage.nats, "behind").await;
    ahead.clock_ms(3_600_000);
    behind.clock_ms(-3_600_000);
    for agent in [&mut ahead, &mut behind] {
        agent.inventory().await;
        agent.beat_from_now_on();
    }
    for agent in [&ahead, &behind] {
        stage.becomes(agent.id, HostState::Online, StateCause::Heartbeat, SOON).await;
    }
    consistently(OFFLINE_WITHIN, "no alarm", async || {
        for agent in [&ahead, &behind] {
            let changes = stage.changes(agent.id).await;
            if changes.len() != 1 {
                return Err(changes);
            }
        }
        Ok(())
    })
    .await;
    // And one whose clock jumps.
    ahead.clock_ms(-3_600_000);
    let mut changes = stage.changes_of(ahead.id).await;
    changes.none_for(Duration::from_secs(7)).await;
    let last = ahead.fall_silent().await;
    assert_eq!(changes.next(OFFLINE_WITHIN).await.to, HostState::Degraded);
    let offline = changes.next(OFFLINE_WITHIN).await;
    assert!(last.elapsed() <= OFFLINE_WITHIN, "{:?}", last.elapsed());
    let offset = offline.evidence.clock_offset_ms.unwrap();
    assert!((offset + 3_600_000).abs() < 5000, "{offset}");
}

#[tokio::test]
async fn a_change_whose_writer_died_before_its_event_is_told_by_whoever_comes_next() {
    let mut stage = Stage::with_copies(1).await;
    let agent = stage.online("change").await;
    let (id, key) = (agent.id, agent.id.to_string());
    // Written as by a copy that dies in between: while nobody runs, and once more while another copy runs.
    for (round, running) in [false, true].into_iter().enumerate() {
        if !running {
            stage.copies[0].kill9().await;
        }
        let records = stage.bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
        let entry = records.get(&key).await.unwrap().unwrap();
        let since = Timestamp::now();
        let record = HostRecord {
            state: HostState::Degraded,
            cause: StateCause::ConnectionClosed,
            state_since: since,
            ..entry.record
        };
        records.update(&key, &record, entry.revision).await.unwrap();
        if !running {
            stage.copies[0].restart().await;
        }
        eventually(SOON, "the event of the change", async || {
            let changes = stage.changes(id).await;
            match changes.get(1 + 2 * round) {
                Some(change)
                    if (change.from, change.to) == (HostState::Online, HostState::Degraded)
                        && change.cause == StateCause::ConnectionClosed =>
                {
                    Ok(())
                }
                _ => Err(changes),
            }
        })
        .await;
        stage.becomes(id, HostState::Online, StateCause::Heartbeat, SOON).await;
    }
    consistently(Duration::from_secs(6), "each change once", async || {
        let changes = stage.changes(id).await;
        if changes.len() == 5 { Ok(()) } else { Err(changes) }
    })
    .await;
}

#[tokio::test]
async fn what_others_write_at_the_same_time_is_kept() {
    let stage = Stage::with_copies(2).await;
    let mut agent = stage.online("contended").await;
    let mut changes = stage.changes_of(agent.id).await;
    let key = agent.id.to_string();
    let records = stage.bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
    let until = Instant::now() + Duration::from_secs(12);
    agent.docker(DockerState::Down { reason: "gone".into() });
    let mut written = 0_u64;
    let mut up = false;
    while Instant::now() < until {
        let entry = records.get(&key).await.unwrap().unwrap();
        let mut record = entry.record;
        record.labels.insert("count".into(), (written + 1).to_string());
        if records.update(&key, &record, entry.revision).await.is_ok() {
            written += 1;
        }
        if !up && Instant::now() + Duration::from_secs(6) > until {
            up = true;
            agent.docker(DockerState::Up { version: "20.10.24".into() });
        }
    }
    assert_eq!(changes.next(SOON).await.cause, StateCause::DockerDown);
    assert_eq!(changes.next(SOON).await.cause, StateCause::Heartbeat);
    changes.none_for(Duration::from_secs(6)).await;
    let record = stage.record(agent.id).await.unwrap();
    assert_eq!(record.labels.get("count"), Some(&written.to_string()));
    assert!(written > 50, "{written}");
}

#[tokio::test]
async fn facts_follow_the_inventory_and_a_record_is_written_only_when_they_change() {
    let stage = Stage::with_copies(1).await;
    let mut agent = stage.online("facts").await;
    let records = stage.bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
    let key = agent.id.to_string();
    let before = records.get(&key).await.unwrap().unwrap().revision;
    for _ in 0..5 {
        agent.inventory().await;
    }
    agent.cpus(64);
    agent.inventory().await;
    let after = eventually(SOON, "64 cores", async || {
        let entry = records.get(&key).await.unwrap().unwrap();
        if entry.record.facts.cpu_count == 64 { Ok(entry.revision) } else { Err(entry.record.facts) }
    })
    .await;
    assert_eq!(after, before + 1);
}

#[tokio::test]
async fn what_cannot_be_true_is_laid_aside_and_harms_nobody() {
    let stage = Stage::with_copies(1).await;
    let agent = stage.online("honest").await;
    let raw = stage.nats.client_as(User::Tester, "agent nobody").await;
    let victim = Subject::Inventory(HostId::new()).to_string();
    raw.publish(victim.clone(), "{}".into()).await.unwrap();
    raw.publish(Subject::Inventory(HostId::new()).to_string(), agent.inventory_bytes().into()).await.unwrap();
    for garbage in ["", "{", "null", "\u{0}", "[1e999]"] {
        raw.publish(Subject::Heartbeat(agent.id).to_string(), garbage.into()).await.unwrap();
    }
    raw.flush().await.unwrap();
    let letters = eventually(SOON, "two dead letters", async || {
        let letters: Vec<DeadLetter> =
            read_all(&stage.bus, StreamName::Dead).await.iter().map(|stored| stored.decode().unwrap()).collect();
        if letters.len() == 2 { Ok(letters) } else { Err(letters) }
    })
    .await;
    assert!(
        letters.iter().any(|letter| letter.subject == victim && letter.reason.contains("inventory")),
        "{letters:?}"
    );
    assert!(letters.iter().any(|letter| letter.reason.contains(&agent.id.to_string())), "{letters:?}");
    eventually(SOON, "malformed heartbeats to be counted", async || {
        match stage.copies[0].metric("pinacle_orchestrator_heartbeats_total", &["malformed"]).await {
            Some(count) if count >= 5.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(stage.record(agent.id).await.unwrap().state, HostState::Online);
    assert_eq!(stage.changes(agent.id).await.len(), 1);
}

#[tokio::test]
async fn a_process_that_hung_raises_no_alarm_when_it_goes_on() {
    use nix::sys::signal::Signal;
    let stage = Stage::with_copies(1).await;
    let agent = stage.online("alive").await;
    stage.copies[0].signal(Signal::SIGSTOP);
    eventually(SOON, "it to hang", async || match stage.copies[0].get("/healthz").await {
        Err(_) => Ok(()),
        Ok(answer) => Err(answer),
    })
    .await;
    consistently(Duration::from_secs(16), "it hangs", async || {
        if stage.copies[0].get("/healthz").await.is_err() { Ok(()) } else { Err("it answers") }
    })
    .await;
    stage.copies[0].signal(Signal::SIGCONT);
    consistently(Duration::from_secs(12), "no alarm", async || {
        let changes = stage.changes(agent.id).await;
        if changes.len() == 1 { Ok(()) } else { Err(changes) }
    })
    .await;
}

#[tokio::test]
async fn a_stop_is_quick_and_clean() {
    let mut stage = Stage::with_copies(1).await;
    let _agent = stage.online("any").await;
    let status = stage.copies[0].sigterm(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
}
