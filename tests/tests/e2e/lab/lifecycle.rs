//! A pod's whole life, one request after the other: what its record says, and what is on its host, after each.

use pinacle_bus::contract::{
    PodId,
    pod::{Desired, PodPhase},
};
use pinacle_tests::lab::Lab;

use super::stage::{Stage, container};

/// Where in the pod something is left that must, or must not, outlive what comes next.
const IN_VOLUME: &str = "/workspace/kept";
const IN_CONTAINER: &str = "/written";

/// What its record and its host say of a pod at rest.
async fn is(stage: &Stage, id: PodId, phase: PodPhase, desired: Desired, state: &str) {
    let record = stage.settles(id, phase).await;
    assert_eq!((record.desired, &record.cause), (desired, &None), "{record:#?}");
    stage.is_whole(id, state).await;
}

/// Asks Docker on the pod's host for a field of its container.
async fn field(stage: &Stage, id: PodId, format: &str) -> String {
    stage.host_of(id).await.docker(&["inspect", "--format", format, &container(id)])
}

async fn in_pod(stage: &Stage, id: PodId, script: &str) -> String {
    stage.host_of(id).await.docker(&["exec", &container(id), "sh", "-c", script])
}

#[tokio::test]
async fn a_pod_is_made_stopped_started_paused_resumed_restarted_and_deleted() {
    let stage = Stage::on(Lab::builder().hosts(1).start().await).await;
    let id = stage.running("lives").await;
    is(&stage, id, PodPhase::Running, Desired::Running, "running").await;
    in_pod(&stage, id, &format!("echo one > {IN_VOLUME}; echo two > {IN_CONTAINER}")).await;
    let (container_id, first_start) =
        (field(&stage, id, "{{.Id}}").await, field(&stage, id, "{{.State.StartedAt}}").await);

    stage.done(id, "stop").await;
    is(&stage, id, PodPhase::Stopped, Desired::Stopped, "exited").await;
    // It was asked to end, and did: it was not killed.
    assert_eq!(field(&stage, id, "{{.State.ExitCode}}").await, "0");

    stage.done(id, "start").await;
    is(&stage, id, PodPhase::Running, Desired::Running, "running").await;
    let second_start = field(&stage, id, "{{.State.StartedAt}}").await;
    assert_ne!(second_start, first_start);

    stage.done(id, "pause").await;
    is(&stage, id, PodPhase::Paused, Desired::Paused, "paused").await;

    stage.done(id, "resume").await;
    is(&stage, id, PodPhase::Running, Desired::Running, "running").await;
    assert_eq!(field(&stage, id, "{{.State.StartedAt}}").await, second_start, "thawed, not started again");
    assert_eq!(in_pod(&stage, id, "echo thawed").await, "thawed");

    stage.done(id, "restart").await;
    is(&stage, id, PodPhase::Running, Desired::Running, "running").await;
    assert_ne!(field(&stage, id, "{{.State.StartedAt}}").await, second_start);

    // All along it was the same container, with all that its owner had written.
    assert_eq!(field(&stage, id, "{{.Id}}").await, container_id);
    assert_eq!(in_pod(&stage, id, &format!("cat {IN_VOLUME} {IN_CONTAINER}")).await, "one\ntwo");

    stage.done(id, "delete").await;
    stage.is_gone(id).await;
    let record = stage.settles(id, PodPhase::Deleted).await;
    assert_eq!((record.host_id, record.external_port, record.subnet), (None, None, None), "{record:#?}");
}

#[tokio::test]
async fn a_pod_is_deleted_from_every_phase_that_it_rests_in() {
    let stage = Stage::on(Lab::builder().hosts(1).start().await).await;
    for (name, verb) in [("was-stopped", "stop"), ("was-paused", "pause")] {
        let id = stage.running(name).await;
        stage.done(id, verb).await;
        stage.done(id, "delete").await;
        stage.is_gone(id).await;
        assert_eq!(stage.record(id).await.phase, PodPhase::Deleted, "{name}");
    }
}

#[tokio::test]
async fn what_a_pod_already_is_changes_nothing_when_asked_for_again() {
    let stage = Stage::on(Lab::builder().hosts(1).start().await).await;
    let id = stage.running("again").await;
    for (verb, phase, desired, state) in [
        ("start", PodPhase::Running, Desired::Running, "running"),
        ("pause", PodPhase::Paused, Desired::Paused, "paused"),
        ("pause", PodPhase::Paused, Desired::Paused, "paused"),
        ("stop", PodPhase::Stopped, Desired::Stopped, "exited"),
        ("stop", PodPhase::Stopped, Desired::Stopped, "exited"),
    ] {
        let operation = stage.ask(id, verb, serde_json::json!({})).await;
        stage.ends(operation).await;
        is(&stage, id, phase, desired, state).await;
    }
}
