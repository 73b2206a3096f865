//! Operations that are cancelled, at each step that they have.

use std::time::Duration;

use pinacle_bus::contract::{OperationId, PodId, pod::PodPhase, request::Progress};
use pinacle_orchestrator::operation::plan::{Step, Verb};
use pinacle_tests::lab::Lab;
use serde_json::json;

use super::stage::{Stage, pod};

/// A host that is slow enough for an operation to be caught at each of its steps.
async fn stage() -> Stage {
    let stage = Stage::on(Lab::builder().hosts(1).orchestrators(1).start().await).await;
    stage.lab.hosts()[0].slow_down(Duration::from_secs(1));
    stage
}

async fn cancelled_at(stage: &Stage, id: PodId, operation: OperationId, step: Step) {
    stage.is_at(operation, step.label()).await;
    stage.cancel(id, operation).await;
    let ended = stage.ends(operation).await;
    assert_eq!(ended.progress, Progress::Cancelled, "{step:?}: {ended:#?}");
    assert!(ended.cause.as_ref().unwrap().contains("somebody"), "{ended:#?}");
}

#[tokio::test]
async fn a_creation_can_be_cancelled_at_each_step_and_leaves_nothing() {
    let stage = stage().await;
    for step in Verb::Create.steps() {
        let mut wanted = pod(&format!("cancel-{}", step.label()));
        if step == Step::Place {
            wanted.host_labels = [("zone".into(), "moon".into())].into();
        }
        let (id, operation) = stage.create(&wanted).await;
        cancelled_at(&stage, id, operation, step).await;
        let record = stage.rests(id).await;
        assert_eq!((record.phase, record.host_id, record.residue), (PodPhase::Failed, None, false), "{record:#?}");
        stage.is_gone(id).await;
    }
}

#[tokio::test]
async fn every_other_operation_can_be_cancelled_at_each_step_and_the_record_says_what_is() {
    let stage = stage().await;
    let host = &stage.lab.hosts()[0];
    let placed = stage.running("placed").await;
    let (nowhere, creation) = stage.create(&pod("nowhere")).await;
    cancelled_at(&stage, nowhere, creation, Step::Image).await;
    for verb in [Verb::Start, Verb::Stop, Verb::Restart, Verb::Pause, Verb::Resume] {
        for step in verb.steps() {
            println!("{verb:?} {step:?}");
            host.full_speed();
            // Room is looked for only when the pod is on no host, and found at once unless there is none.
            let waits_for_room = step == Step::Place;
            let id = if waits_for_room { nowhere } else { placed };
            if waits_for_room {
                stage.done_to_host(host.host_id().await, "cordon").await;
            } else {
                stage.prepare(id, verb).await;
            }
            host.slow_down(Duration::from_secs(1));
            let operation = stage.ask(id, verb.as_str(), json!({})).await;
            cancelled_at(&stage, id, operation, step).await;
            let record = stage.rests(id).await;
            if waits_for_room {
                assert_eq!((record.phase, record.host_id), (PodPhase::Stopped, None), "{record:#?}");
                stage.is_gone(id).await;
                stage.done_to_host(host.host_id().await, "uncordon").await;
            } else {
                stage.is_as_recorded(id).await;
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_cannot_be_cancelled_once_it_has_begun() {
    let stage = stage().await;
    let id = stage.running("goes").await;
    let deletion = stage.ask(id, "delete", json!({})).await;
    stage.is_at(deletion, Step::RemoveContainer.label()).await;
    let cancel = stage.cancel(id, deletion).await;
    let refused = stage.ends(cancel).await;
    assert_eq!(refused.progress, Progress::Failed, "{refused:#?}");
    assert!(refused.cause.as_ref().unwrap().contains("deletion"), "{refused:#?}");
    stage.succeeds(deletion).await;
    stage.is_gone(id).await;
}
