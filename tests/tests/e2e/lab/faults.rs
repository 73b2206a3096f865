//! What goes wrong on hosts and in between, one thing at a time.

use std::time::Duration;

use pinacle_bus::contract::{
    PodId, RequestId, Subject, Timestamp,
    event::{Event, HOST_KEY_CHANGED, HostKeyChange},
    host::HostState,
    pod::{CreatePod, PodPhase},
    request::{Progress, Request},
    subject::EventKind,
    topology::StreamName,
};
use pinacle_orchestrator::operation::plan::Verb;
use pinacle_tests::{eventually, lab::Lab};
use serde_json::json;

use super::stage::{LONG, Stage, pod};

async fn stage(settings: &[(&str, &str)]) -> Stage {
    let mut lab = Lab::builder().hosts(1).orchestrators(1);
    for (key, value) in settings {
        lab = lab.set(key, value);
    }
    Stage::on(lab.start().await).await
}

#[tokio::test]
async fn a_host_that_is_cut_off_in_a_creation_ends_it_in_time_and_nothing_remains_when_it_is_back() {
    let stage = stage(&[("orchestrator.create_deadline_ms", "8000"), ("orchestrator.reconcile_ms", "1000")]).await;
    let host = &stage.lab.hosts()[0];
    // Every command waits: what is under way when the host is cut off is certain to be unfinished.
    host.slow_down(Duration::from_millis(300));
    let (id, operation) = stage.create(&pod("cut-off")).await;
    stage.is_at(operation, "network").await;
    host.cut_off();
    let ended = stage.ends(operation).await;
    assert_eq!(ended.progress, Progress::Failed, "{ended:#?}");
    let record = stage.record(id).await;
    assert_eq!(record.phase, PodPhase::Failed);
    let cause = record.cause.unwrap();
    assert!(cause.contains(host.name()), "{cause}");
    host.reconnect();
    host.full_speed();
    eventually(LONG, "what remained to be removed", async || match stage.record(id).await {
        record if !record.residue && record.host_id.is_none() && record.operation.is_none() => Ok(()),
        record => Err(record),
    })
    .await;
    stage.is_gone(id).await;
}

#[tokio::test]
async fn a_host_that_is_cut_off_for_a_moment_only_delays_a_creation() {
    let stage = stage(&[]).await;
    let host = &stage.lab.hosts()[0];
    host.slow_down(Duration::from_millis(200));
    let (id, operation) = stage.create(&pod("delayed")).await;
    stage.is_at(operation, "network").await;
    host.cut_off();
    eventually(LONG, "that to be noticed", async || {
        let record = stage.lab.host_record(host.name()).await;
        if record.state == HostState::Degraded { Ok(()) } else { Err(record.state) }
    })
    .await;
    host.reconnect();
    host.full_speed();
    stage.succeeds(operation).await;
    stage.is_whole(id, "running").await;
}

#[tokio::test]
async fn a_command_that_never_returns_ends_at_its_deadline_and_its_processes_with_it() {
    let stage = stage(&[("orchestrator.create_deadline_ms", "8000")]).await;
    let host = &stage.lab.hosts()[0];
    // A daemon that takes commands and never answers.
    host.freeze_dockerd();
    let (id, operation) = stage.create(&pod("hangs")).await;
    eventually(LONG, "the command's end to be told", async || match stage.operation(operation).await {
        Some(told) if told.steps.iter().any(|step| step.progress == Progress::Failed) => Ok(()),
        other => Err(other),
    })
    .await;
    host.thaw_dockerd();
    let ended = stage.ends(operation).await;
    assert_eq!(ended.progress, Progress::Failed, "{ended:#?}");
    stage.is_gone(id).await;
    eventually(LONG, "no command of ours to be left on the host", async || {
        let left = host
            .shell("ps -eo args | grep '[d]ocker create\\|[d]ocker network\\|[d]ocker pull\\|[d]ocker image' || true");
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    let next = stage.running("after-that").await;
    stage.is_whole(next, "running").await;
    assert_eq!(stage.record(id).await.phase, PodPhase::Failed);
}

#[tokio::test]
async fn dockerd_and_sshd_that_restart_in_a_creation_do_not_stop_it() {
    let mut stage = stage(&[]).await;
    stage.lab.hosts()[0].slow_down(Duration::from_millis(100));
    let (first, operation) = stage.create(&pod("sshd-restarts")).await;
    stage.is_at(operation, "network").await;
    stage.lab.hosts_mut()[0].restart_sshd().await;
    stage.succeeds(operation).await;
    stage.is_whole(first, "running").await;
    let (second, operation) = stage.create(&pod("dockerd-restarts")).await;
    stage.is_at(operation, "network").await;
    stage.lab.hosts_mut()[0].restart_dockerd().await;
    stage.succeeds(operation).await;
    stage.is_whole(second, "running").await;
}

#[tokio::test]
async fn a_changed_host_key_is_refused_told_and_trusted_only_by_a_person() {
    let mut stage = stage(&[("orchestrator.create_deadline_ms", "8000")]).await;
    let host_id = stage.lab.hosts()[0].host_id().await;
    stage.lab.hosts_mut()[0].change_host_key().await;
    let (id, operation) = stage.create(&pod("stranger")).await;
    let ended = stage.ends(operation).await;
    assert_eq!(ended.progress, Progress::Failed, "{ended:#?}");
    assert!(ended.cause.as_ref().unwrap().contains("key"), "{ended:#?}");
    assert!(stage.commands(id).await.is_empty(), "nothing was sent to a stranger");
    let subject = Subject::Event { kind: EventKind::Host, id: host_id.to_string(), what: HOST_KEY_CHANGED.into() };
    let event: Event = stage.bus.last(StreamName::Events, &subject).await.unwrap().unwrap().decode().unwrap();
    let change: HostKeyChange = serde_json::from_value(event.detail).unwrap();
    assert!(change.offered_fingerprint.starts_with("SHA256:"), "{change:?}");
    assert!(!change.pinned_fingerprints.contains(&change.offered_fingerprint), "{change:?}");

    stage.lab.hosts_mut()[0].announce_keys().await;
    stage.done_to_host(host_id, "trust-keys").await;
    stage.running("known-again").await;
}

#[tokio::test]
async fn a_full_host_makes_a_pod_wait_with_the_reason_and_go_on_when_there_is_room() {
    let stage = stage(&[("orchestrator.cpu_overcommit", "1")]).await;
    let cores = stage.lab.host_record(stage.lab.hosts()[0].name()).await.facts.cpu_count;
    let mut pods = Vec::new();
    for number in 0..cores {
        pods.push(stage.running(&format!("fits-{number}")).await);
    }
    let (id, operation) = stage.create(&pod("waits")).await;
    let name = stage.lab.hosts()[0].name();
    eventually(LONG, "the reason to be told", async || {
        let told = stage.operation(operation).await;
        let note = told.as_ref().and_then(|told| told.steps.first()?.note.clone()).unwrap_or_default();
        if note.contains(name) && note.contains("core") { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(stage.record(id).await.host_id, None);
    stage.done(pods[0], "delete").await;
    stage.succeeds(operation).await;
    stage.is_whole(id, "running").await;
}

#[tokio::test]
async fn a_pod_that_finds_no_room_until_its_deadline_fails_with_the_reason() {
    let stage = stage(&[("orchestrator.create_deadline_ms", "4000")]).await;
    let huge =
        CreatePod { tier: "dev.xlarge".into(), host_labels: [("zone".into(), "moon".into())].into(), ..pod("huge") };
    let (id, operation) = stage.create(&huge).await;
    let ended = stage.ends(operation).await;
    assert_eq!(ended.progress, Progress::Failed);
    assert!(ended.cause.as_ref().unwrap().contains("zone"), "{ended:#?}");
    stage.is_gone(id).await;
}

#[tokio::test]
async fn a_request_told_twice_is_done_once_and_one_for_no_pod_is_refused() {
    let stage = stage(&[]).await;
    let (id, operation) = stage.create(&pod("once")).await;
    stage.succeeds(operation).await;
    let made = stage.commands(id).await.len();
    // The stream has forgotten its id, say: it comes again under another one.
    let again = Request {
        request_id: RequestId::new(),
        operation_id: operation,
        kind: "pod".into(),
        target_id: id.to_string(),
        verb: "create".into(),
        requested_by: "somebody".into(),
        requested_at: Timestamp::now(),
        deadline_at: None,
        parameters: serde_json::to_value(pod("once")).unwrap(),
    };
    stage.publish(&again).await;
    stage.done(id, "stop").await;
    assert!(stage.commands(id).await.iter().skip(made).all(|command| command.step == "stop"));
    stage.is_whole(id, "exited").await;

    let nobody = PodId::new();
    let operation = stage.ask(nobody, "start", json!({})).await;
    let ended = stage.ends(operation).await;
    assert_eq!(ended.progress, Progress::Failed);
    assert!(ended.cause.as_ref().unwrap().contains("no pod"), "{ended:#?}");
    assert!(stage.find(nobody).await.is_none());
}

#[tokio::test]
async fn a_creation_and_a_deletion_that_race_leave_nothing() {
    let stage = stage(&[]).await;
    // A moment before the creation is taken up, and in each of its steps.
    let moments = std::iter::once(None).chain(Verb::Create.steps().into_iter().skip(1).map(Some));
    for moment in moments {
        let host = &stage.lab.hosts()[0];
        host.slow_down(Duration::from_secs(1));
        let (id, creation) = stage.create(&pod("races")).await;
        if let Some(step) = moment {
            stage.is_at(creation, step.label()).await;
        }
        let deletion = stage.ask(id, "delete", json!({})).await;
        host.full_speed();
        stage.succeeds(deletion).await;
        stage.settles(id, PodPhase::Deleted).await;
        assert_eq!(stage.ends(creation).await.progress, Progress::Cancelled);
        stage.is_gone(id).await;
    }
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_leaves_nothing() {
    let lab = Lab::builder().hosts(1).orchestrators(1).disk(128 * 1024 * 1024).start().await;
    let stage = Stage::on(lab).await;
    let host = &stage.lab.hosts()[0];
    host.fill_disk();
    let (id, operation) = stage.create(&pod("too-much")).await;
    let ended = stage.ends(operation).await;
    assert_eq!(ended.progress, Progress::Failed, "{ended:#?}");
    let cause = ended.cause.unwrap();
    assert!(cause.contains("disk") && cause.contains("full") && cause.contains(host.name()), "{cause}");
    stage.settles(id, PodPhase::Failed).await;
    host.free_disk();
    eventually(LONG, "nothing to be left", async || match stage.record(id).await {
        record if record.host_id.is_none() && !record.residue => Ok(()),
        record => Err(record),
    })
    .await;
    stage.is_gone(id).await;
    let next = stage.running("enough").await;
    stage.is_whole(next, "running").await;
}

#[tokio::test]
async fn an_image_that_nobody_has_is_named_and_nothing_is_left() {
    let stage = stage(&[]).await;
    // A registry that is not there, either.
    let image = "127.0.0.1:9/nobody/has-it:1";
    let (id, operation) = stage.create(&CreatePod { image: Some(image.into()), ..pod("unknown") }).await;
    let ended = stage.ends(operation).await;
    assert_eq!(ended.progress, Progress::Failed, "{ended:#?}");
    let cause = ended.cause.unwrap();
    assert!(cause.contains(image) && cause.contains("could not pull"), "{cause}");
    let record = stage.rests(id).await;
    assert_eq!((record.phase, record.host_id), (PodPhase::Failed, None), "{record:#?}");
    stage.is_gone(id).await;
}

#[tokio::test]
async fn a_restart_of_the_bus_in_a_creation_neither_stops_nor_doubles_it() {
    let mut stage = stage(&[]).await;
    stage.lab.hosts()[0].slow_down(Duration::from_millis(100));
    let (id, operation) = stage.create(&pod("bus-restarts")).await;
    stage.is_at(operation, "network").await;
    stage.lab.restart_nats().await;
    stage.lab.hosts()[0].full_speed();
    stage.succeeds(operation).await;
    stage.is_whole(id, "running").await;
}
