//! The orchestrator is killed before, inside and after every step of every operation. Another copy ends the operation, and
//! there is exactly one of everything, or nothing. The steps come from the code: a new one is covered by itself.

use std::time::Duration;

use nix::sys::signal::Signal;
use pinacle_bus::contract::{
    OperationId, PodId,
    pod::{CreatePod, PodPhase},
    request::{Operation, Progress},
};
use pinacle_orchestrator::{
    operation::plan::{Step, Verb},
    record::{enqueue, settle},
};
use pinacle_tests::{Process, lab::Lab, process::ended_by};
use serde_json::{Value, json};

use super::stage::{LONG, Stage, pod};

const POINTS: [&str; 3] = ["before", "inside", "after"];
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// A lab of one host, and the copy that works while nobody is to be killed.
struct Crashes {
    stage: Stage,
    keeper: Process,
}

impl Crashes {
    async fn begin() -> Self {
        // Quickly taken over, and nothing repaired by anybody but whoever takes the operation over.
        let lab = Lab::builder()
            .hosts(1)
            .orchestrators(0)
            .set("orchestrator.lease_ms", "1000")
            .set("orchestrator.reconcile_ms", "3600000")
            .start()
            .await;
        let keeper = lab.orchestrator(&[]).await;
        Self { stage: Stage::on(lab).await, keeper }
    }

    /// A copy that kills itself at `place`, and nobody else.
    async fn victim(&mut self, place: &str) -> Process {
        println!("{place}");
        self.keeper.sigterm(STOPS_WITHIN).await;
        self.stage.lab.orchestrator(&[("PINACLE__ORCHESTRATOR__CRASH_AT", place)]).await
    }

    /// Waits until the victim has killed itself, and lets the other copy end the operation.
    async fn taken_over(&mut self, mut victim: Process, id: PodId, operation: OperationId, place: &str) -> Operation {
        let status = victim.wait(LONG).await;
        assert!(ended_by(status, Signal::SIGKILL), "{place}: {status}\n{}", victim.tail());
        self.keeper.restart().await;
        let ended = self.stage.ends(operation).await;
        assert_eq!(ended.takeovers, 1, "{place}: {ended:#?}");
        self.stage.rests(id).await;
        ended
    }

    /// Kills a copy at `place` of the operation that `verb` on the pod becomes, and lets the other one end it.
    async fn crash(&mut self, id: PodId, verb: Verb, parameters: Value, place: &str) -> Operation {
        let victim = self.victim(place).await;
        let operation = self.stage.ask(id, verb.as_str(), parameters).await;
        self.taken_over(victim, id, operation, place).await
    }

    async fn remove(&self, id: PodId) {
        self.stage.done(id, "delete").await;
        self.stage.is_gone(id).await;
    }
}

fn place_of(verb: Verb, step: Step, point: &str) -> String {
    format!("{}/{}/{point}", verb.as_str(), step.label())
}

fn places(verb: Verb, steps: Vec<Step>) -> Vec<String> {
    let at_each = |step: Step| POINTS.map(|point| place_of(verb, step, point));
    steps.into_iter().flat_map(at_each).collect()
}

/// A name for a pod, made from a place.
fn name_of(place: &str) -> String {
    place.replace(['/', '_'], "-")
}

fn succeeded(verb: Verb, ended: &Operation, place: &str) {
    assert_eq!(ended.progress, Progress::Succeeded, "{place}: {ended:#?}");
    let labels: Vec<&str> = ended.steps.iter().map(|step| step.label.as_str()).collect();
    let planned: Vec<&str> = verb.steps().into_iter().map(Step::label).collect();
    assert_eq!(labels, planned, "{place}");
}

/// Every place in an operation of this verb on a pod that goes on afterwards.
async fn at_every_step_of(verb: Verb) {
    let mut crashes = Crashes::begin().await;
    let id = crashes.stage.running(verb.as_str()).await;
    for place in places(verb, verb.steps()) {
        crashes.stage.prepare(id, verb).await;
        let ended = crashes.crash(id, verb, json!({}), &place).await;
        succeeded(verb, &ended, &place);
        let (phase, state) = match verb {
            Verb::Stop => (PodPhase::Stopped, "exited"),
            Verb::Pause => (PodPhase::Paused, "paused"),
            _ => (PodPhase::Running, "running"),
        };
        assert_eq!(crashes.stage.record(id).await.phase, phase, "{place}");
        crashes.stage.is_whole(id, state).await;
    }
}

#[tokio::test]
async fn a_creation_survives_a_kill_anywhere() {
    let mut crashes = Crashes::begin().await;
    for place in places(Verb::Create, Verb::Create.steps()) {
        let (id, wanted) = (PodId::new(), pod(&name_of(&place)));
        let ended = crashes.crash(id, Verb::Create, json!(wanted), &place).await;
        succeeded(Verb::Create, &ended, &place);
        assert_eq!(crashes.stage.record(id).await.phase, PodPhase::Running, "{place}");
        crashes.stage.is_whole(id, "running").await;
        crashes.remove(id).await;
    }
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
    let mut crashes = Crashes::begin().await;
    for place in places(Verb::Delete, Verb::Delete.steps()) {
        let id = crashes.stage.running(&name_of(&place)).await;
        let ended = crashes.crash(id, Verb::Delete, json!({}), &place).await;
        succeeded(Verb::Delete, &ended, &place);
        assert_eq!(crashes.stage.record(id).await.phase, PodPhase::Deleted, "{place}");
        crashes.stage.is_gone(id).await;
    }
}

/// What a failed creation could not undo is cleaned away later, at the reconcilers' request.
#[tokio::test]
async fn a_cleaning_survives_a_kill_anywhere() {
    let mut crashes = Crashes::begin().await;
    for place in places(Verb::Clean, Verb::Clean.steps()) {
        let id = crashes.stage.running(&name_of(&place)).await;
        crashes.stage.rests(id).await;
        let victim = crashes.victim(&place).await;
        let asked = crashes.stage.change(id, |record| {
            settle(record, PodPhase::Failed, Some("a part of it could not be undone".into()));
            record.residue = true;
            assert!(enqueue(record, Verb::Clean));
        });
        let operation = asked.await.queue[0].operation_id;
        let ended = crashes.taken_over(victim, id, operation, &place).await;
        succeeded(Verb::Clean, &ended, &place);
        let record = crashes.stage.record(id).await;
        assert_eq!((record.phase, record.host_id, record.residue), (PodPhase::Failed, None, false), "{place}");
        crashes.stage.is_gone(id).await;
    }
}

/// A creation that cannot succeed undoes what it did; a kill during that leaves nothing either.
#[tokio::test]
async fn the_undoing_of_a_failed_creation_survives_a_kill_anywhere() {
    let mut crashes = Crashes::begin().await;
    // Everything is made, and then it does not answer.
    let image = crashes.stage.image_that("ends", "echo a last word; exit 3");
    for place in places(Verb::Create, Verb::Create.undo()) {
        let id = PodId::new();
        let impossible = CreatePod { image: Some(image.clone()), ..pod(&name_of(&place)) };
        let ended = crashes.crash(id, Verb::Create, json!(impossible), &place).await;
        assert_eq!(ended.progress, Progress::Failed, "{place}: {ended:#?}");
        assert!(ended.cause.as_ref().unwrap().contains("a last word"), "{place}: {ended:#?}");
        let record = crashes.stage.record(id).await;
        assert_eq!((record.phase, record.host_id, record.residue), (PodPhase::Failed, None, false), "{place}");
        crashes.stage.is_gone(id).await;
    }
}

#[tokio::test]
async fn the_undoing_of_a_cancelled_operation_survives_a_kill_anywhere() {
    let mut crashes = Crashes::begin().await;
    let id = crashes.stage.running("cancelled").await;
    for verb in Verb::ALL.into_iter().filter(|verb| !verb.undo().is_empty()) {
        // In its middle: something is there, and something is missing.
        let steps = verb.steps();
        let step = steps[steps.len() / 2];
        for place in places(verb, verb.undo()) {
            let (id, parameters) = match verb {
                Verb::Create => (PodId::new(), json!(pod(&name_of(&place)))),
                _ => (id, json!({})),
            };
            if verb != Verb::Create {
                crashes.stage.prepare(id, verb).await;
            }
            let victim = crashes.victim(&place).await;
            crashes.stage.lab.hosts()[0].slow_down(Duration::from_secs(1));
            let operation = crashes.stage.ask(id, verb.as_str(), parameters).await;
            crashes.stage.is_at(operation, step.label()).await;
            crashes.stage.cancel(id, operation).await;
            let ended = crashes.taken_over(victim, id, operation, &place).await;
            crashes.stage.lab.hosts()[0].full_speed();
            assert_eq!(ended.progress, Progress::Cancelled, "{place}: {ended:#?}");
            if verb == Verb::Create {
                assert_eq!(crashes.stage.record(id).await.phase, PodPhase::Failed, "{place}");
                crashes.stage.is_gone(id).await;
            } else {
                crashes.stage.is_as_recorded(id).await;
            }
        }
    }
}
