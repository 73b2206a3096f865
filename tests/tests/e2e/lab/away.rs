//! Hosts that go away and come back. Their pods are lost meanwhile, which means that nobody knows: nothing is done about
//! them until the host says how they are.

use std::time::Duration;

use pinacle_bus::contract::{
    PodId, Subject,
    event::{Event, HOST_STATE_CHANGED, HostStateChange},
    host::{HostRecord, HostState, StateCause},
    pod::{CreatePod, PodPhase},
    subject::EventKind,
    topology::StreamName,
};
use pinacle_tests::{
    eventually,
    lab::{Host, Lab},
};
use serde_json::json;

use super::stage::{LONG, Stage, pod};

/// What the design promises.
const OFFLINE_WITHIN: Duration = Duration::from_secs(15);

/// Something done to a host.
type Deed = fn(&Host);

async fn stage(hosts: usize) -> Stage {
    let lab = Lab::builder().hosts(hosts).orchestrators(2).set("orchestrator.reconcile_ms", "1000");
    Stage::on(lab.start().await).await
}

/// Waits until a host is offline, and looks at what that rests on.
async fn is_offline_in_time(stage: &Stage, name: &str) -> HostRecord {
    let record = eventually(LONG, "the host to be offline", async || {
        let record = stage.lab.host_record(name).await;
        if record.state == HostState::Offline { Ok(record) } else { Err(record.state) }
    })
    .await;
    assert_eq!(record.cause, StateCause::Silent);
    // By the orchestrator's own clock: neither how long this test waited nor what the host's clock says.
    let age = Duration::from_millis(record.evidence.heartbeat_age_ms.unwrap());
    assert!(age <= OFFLINE_WITHIN, "{record:#?}");
    let subject =
        Subject::Event { kind: EventKind::Host, id: record.host_id.to_string(), what: HOST_STATE_CHANGED.into() };
    eventually(LONG, "that to be told", async || {
        let event: Event = stage.bus.last(StreamName::Events, &subject).await.unwrap().unwrap().decode().unwrap();
        let told: HostStateChange = serde_json::from_value(event.detail).unwrap();
        if (told.to, &told.evidence) == (record.state, &record.evidence) { Ok(()) } else { Err(told) }
    })
    .await;
    record
}

async fn are_lost(stage: &Stage, pods: &[PodId], host: &str) {
    for id in pods {
        let lost = stage.settles(*id, PodPhase::Lost).await;
        assert!(lost.cause.as_ref().unwrap().contains(host), "{lost:#?}");
    }
}

/// All containers with the time at which each began to run.
fn containers(host: &Host) -> String {
    let names = host.docker(&["ps", "--all", "--quiet", "--no-trunc"]);
    let mut arguments = vec!["inspect", "--format", "{{.Id}} {{.State.StartedAt}}"];
    arguments.extend(names.lines());
    host.docker(&arguments)
}

#[tokio::test]
async fn pods_of_a_host_that_is_cut_off_or_hangs_are_lost_and_come_back_untouched() {
    let stage = stage(1).await;
    let host = &stage.lab.hosts()[0];
    let (runs, frozen, stopped) =
        (stage.running("runs").await, stage.running("frozen").await, stage.running("stopped").await);
    stage.done(frozen, "pause").await;
    stage.done(stopped, "stop").await;
    let pods = [runs, frozen, stopped];
    for id in pods {
        stage.rests(id).await;
    }
    let before = containers(host);
    let ways: [(Deed, Deed); 2] = [(Host::cut_off, Host::reconnect), (Host::freeze, Host::thaw)];
    for (goes, comes) in ways {
        let mut told = Vec::new();
        for id in pods {
            told.push(stage.commands(id).await.len());
        }
        goes(host);
        is_offline_in_time(&stage, host.name()).await;
        are_lost(&stage, &pods, host.name()).await;
        comes(host);
        stage.settles(runs, PodPhase::Running).await;
        stage.settles(frozen, PodPhase::Paused).await;
        stage.settles(stopped, PodPhase::Stopped).await;
        for (id, state) in [(runs, "running"), (frozen, "paused"), (stopped, "exited")] {
            stage.is_whole(id, state).await;
        }
        assert_eq!(containers(host), before, "the very containers, never started again");
        for (id, told) in pods.into_iter().zip(told) {
            assert_eq!(stage.commands(id).await.len(), told, "nothing was done to {id}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_of_a_lost_pod_is_done_once_when_its_host_is_back() {
    let stage = stage(1).await;
    let host = &stage.lab.hosts()[0];
    let id = stage.running("asked-meanwhile").await;
    host.cut_off();
    is_offline_in_time(&stage, host.name()).await;
    are_lost(&stage, &[id], host.name()).await;
    let operation = stage.ask(id, "stop", json!({})).await;
    eventually(LONG, "what it waits for to be told", async || {
        let told = stage.operation(operation).await;
        let note = told.as_ref().and_then(|told| told.steps.first()?.note.clone()).unwrap_or_default();
        if note.contains(host.name()) && note.contains("away") { Ok(()) } else { Err(told) }
    })
    .await;
    host.reconnect();
    stage.succeeds(operation).await;
    stage.settles(id, PodPhase::Stopped).await;
    stage.is_whole(id, "exited").await;
    let commands = stage.commands(id).await;
    assert_eq!(commands.iter().filter(|command| command.operation_id == operation).count(), 1, "{commands:#?}");
}

#[tokio::test]
async fn pods_of_a_host_that_lost_its_power_run_again_once_each_with_their_work() {
    let mut stage = stage(2).await;
    let home = stage.lab.hosts()[0].host_id().await;
    let mut pods = Vec::new();
    for name in ["runs", "runs-too", "frozen"] {
        let (id, operation) = stage.create(&CreatePod { only_host: Some(home), ..pod(name) }).await;
        stage.succeeds(operation).await;
        pods.push(id);
    }
    let [runs, too, frozen] = pods[..] else { unreachable!() };
    let container = format!("pinacle-pod-{runs}");
    stage.lab.hosts()[0].docker(&["exec", &container, "sh", "-c", "echo work > /workspace/kept; sync"]);
    stage.done(frozen, "pause").await;
    stage.rests(frozen).await;
    let boot = stage.lab.host_record("alpha").await.facts.boot_id;

    stage.lab.hosts_mut()[0].kill().await;
    is_offline_in_time(&stage, "alpha").await;
    are_lost(&stage, &pods, "alpha").await;
    let elsewhere = stage.lab.hosts()[1].docker(&["ps", "--all", "--quiet"]);
    assert_eq!(elsewhere, "", "nothing is made anew while nobody knows");

    stage.lab.hosts_mut()[0].boot().await;
    for id in [runs, too] {
        let record = stage.settles(id, PodPhase::Running).await;
        assert_eq!(record.restarts, 0, "that its host ended is not its fault: {record:#?}");
        stage.is_whole(id, "running").await;
    }
    assert_eq!(stage.lab.hosts()[0].docker(&["exec", &container, "cat", "/workspace/kept"]), "work");
    // What was in its memory is lost, and it was not to run.
    let record = stage.settles(frozen, PodPhase::Stopped).await;
    assert!(record.cause.is_some(), "{record:#?}");
    stage.is_whole(frozen, "exited").await;
    assert_ne!(stage.lab.host_record("alpha").await.facts.boot_id, boot);
}
