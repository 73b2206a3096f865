//! The orchestrator is killed before, inside and after every step of every operation. Another copy ends the operation, and
//! there is exactly one of everything, or nothing. The steps come from the code: a new one is covered by itself.

use std::time::Duration;

use nix::sys::signal::Signal;
use pinacle_bus::contract::{
    PodId,
    pod::{CreatePod, PodPhase},
    request::{Operation, Progress},
};
use pinacle_orchestrator::operation::plan::{Step, Verb};
use pinacle_tests::{lab::Lab, process::ended_by};
use serde_json::json;

use super::stage::{LONG, Stage, pod};

const POINTS: [&str; 3] = ["before", "inside", "after"];

/// A lab of one host, and nobody who works on it yet.
async fn stage() -> Stage {
    // Quickly taken over, and nothing repaired by anybody but whoever takes the operation over.
    let lab = Lab::builder()
        .hosts(1)
        .orchestrators(0)
        .set("orchestrator.lease_ms", "1000")
        .set("orchestrator.reconcile_ms", "3600000")
        .start()
        .await;
    Stage::on(lab).await
}

/// Kills a copy at `place` of the operation that `verb` on `pod` becomes, and lets another one end it.
async fn crash(stage: &Stage, id: PodId, verb: &str, parameters: serde_json::Value, place: &str) -> Operation {
    let mut victim = stage.lab.orchestrator(&[("PINACLE__ORCHESTRATOR__CRASH_AT", place)]).await;
    let operation = stage.ask(id, verb, parameters).await;
    let status = victim.wait(LONG).await;
    assert!(ended_by(status, Signal::SIGKILL), "{place}: {status}\n{}", victim.tail());
    let mut successor = stage.lab.orchestrator(&[]).await;
    let ended = stage.ends(operation).await;
    eventually_idle(stage, id).await;
    successor.sigterm(Duration::from_secs(15)).await;
    ended
}

async fn eventually_idle(stage: &Stage, id: PodId) {
    pinacle_tests::eventually(LONG, "the record to be at rest", async || match stage.find(id).await {
        Some(record) if record.operation.is_none() && record.queue.is_empty() => Ok(()),
        other => Err(other),
    })
    .await;
}

/// A pod in the phase that `verb` begins with, made by a copy that nobody kills.
async fn prepared(stage: &Stage, verb: Verb, name: &str) -> PodId {
    let mut copy = stage.lab.orchestrator(&[]).await;
    let id = match verb {
        Verb::Create => PodId::new(),
        _ => stage.running(name).await,
    };
    match verb {
        Verb::Start => drop(stage.done(id, "stop").await),
        Verb::Resume => drop(stage.done(id, "pause").await),
        _ => {}
    }
    if verb != Verb::Create {
        eventually_idle(stage, id).await;
    }
    copy.sigterm(Duration::from_secs(15)).await;
    id
}

/// Every place in an operation of this verb.
async fn at_every_step_of(verb: Verb) {
    let stage = stage().await;
    let mut killed = 0;
    for step in verb.steps() {
        for point in POINTS {
            let place = format!("{}/{}/{point}", verb.as_str(), step.label());
            println!("{place}");
            let name = format!("{}-{point}", step.label().replace('_', "-"));
            let id = prepared(&stage, verb, &name).await;
            let parameters = match verb {
                Verb::Create => serde_json::to_value(pod(&name)).unwrap(),
                _ => json!({}),
            };
            let ended = crash(&stage, id, verb.as_str(), parameters, &place).await;
            assert_eq!(ended.progress, Progress::Succeeded, "{place}: {ended:#?}");
            assert_eq!(ended.takeovers, 1, "{place}: {ended:#?}");
            let labels: Vec<&str> = ended.steps.iter().map(|step| step.label.as_str()).collect();
            let planned: Vec<&str> = verb.steps().into_iter().map(Step::label).collect();
            assert_eq!(labels, planned, "{place}");
            let (phase, state) = match verb {
                Verb::Create | Verb::Start | Verb::Restart | Verb::Resume => (PodPhase::Running, "running"),
                Verb::Stop => (PodPhase::Stopped, "exited"),
                Verb::Pause => (PodPhase::Paused, "paused"),
                Verb::Delete | Verb::Clean => (PodPhase::Deleted, ""),
            };
            assert_eq!(stage.record(id).await.phase, phase, "{place}");
            if phase == PodPhase::Deleted {
                stage.is_gone(id).await;
            } else {
                stage.is_whole(id, state).await;
                remove(&stage, id).await;
            }
            killed += 1;
        }
    }
    assert_eq!(killed, verb.steps().len() * POINTS.len());
}

async fn remove(stage: &Stage, id: PodId) {
    let mut copy = stage.lab.orchestrator(&[]).await;
    stage.done(id, "delete").await;
    stage.is_gone(id).await;
    copy.sigterm(Duration::from_secs(15)).await;
}

#[tokio::test]
async fn a_creation_survives_a_kill_anywhere() {
    at_every_step_of(Verb::Create).await;
}

#[tokio::test]
async fn a_start_survives_a_kill_anywhere() {
    at_every_step_of(Verb::Start).await;
}

#[tokio::test]
async fn a_stop_survives_a_kill_anywhere() {
    at_every_step_of(Verb::Stop).await;
}

#[tokio::test]
async fn a_restart_survives_a_kill_anywhere() {
    at_every_step_of(Verb::Restart).await;
}

#[tokio::test]
async fn a_pause_survives_a_kill_anywhere() {
    at_every_step_of(Verb::Pause).await;
}

#[tokio::test]
async fn a_resume_survives_a_kill_anywhere() {
    at_every_step_of(Verb::Resume).await;
}

#[tokio::test]
async fn a_deletion_survives_a_kill_anywhere() {
    at_every_step_of(Verb::Delete).await;
}

/// A creation that cannot succeed undoes what it did; a kill during that leaves nothing either.
#[tokio::test]
async fn the_undoing_of_a_failed_creation_survives_a_kill_anywhere() {
    let stage = stage().await;
    for step in Verb::Create.undo() {
        for point in POINTS {
            let place = format!("create/{}/{point}", step.label());
            let id = PodId::new();
            let name = format!("{}-{point}", step.label().replace('_', "-"));
            // Everything is made, and then it does not answer.
            let impossible = CreatePod { image: Some(stage.image_that_ends()), ..pod(&name) };
            let ended = crash(&stage, id, "create", serde_json::to_value(impossible).unwrap(), &place).await;
            assert_eq!(ended.progress, Progress::Failed, "{place}: {ended:#?}");
            let record = stage.record(id).await;
            assert_eq!((record.phase, record.host_id, record.residue), (PodPhase::Failed, None, false), "{place}");
            stage.is_gone(id).await;
        }
    }
}
