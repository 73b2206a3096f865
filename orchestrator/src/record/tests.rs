use pinacle_bus::settings::load;

use super::*;
use crate::{sample, settings::OrchestratorSettings};

fn settings() -> Orchestrator {
    load::<OrchestratorSettings>(None, []).unwrap().orchestrator
}

fn asked(verb: Verb) -> PodRecord {
    let mut record = sample::pod();
    assert!(enqueue(&mut record, verb));
    next(&mut record, &settings(), Timestamp::now());
    begin_step(&mut record, Timestamp::now());
    record
}

fn labels(record: &PodRecord) -> Vec<(String, Progress)> {
    let operation = record.operation.as_ref().unwrap();
    operation.steps.iter().map(|step| (step.label.clone(), step.progress)).collect()
}

#[test]
fn every_verb_ends_after_its_last_step_and_not_before() {
    for verb in Verb::ALL {
        let mut record = asked(verb);
        let steps = verb.steps();
        for (number, step) in steps.iter().enumerate() {
            let operation = record.operation.as_ref().unwrap();
            assert_eq!(operation.ended_at, None, "{verb:?} ended before {step:?}");
            assert_eq!(
                current_step(operation).map(|(index, step)| (index, step.label.as_str())),
                Some((number, step.label()))
            );
            finish_step(&mut record, &Effect::None, Timestamp::now());
        }
        let operation = record.operation.as_ref().unwrap();
        assert_eq!((operation.progress, operation.ended_at.is_some()), (Progress::Succeeded, true), "{verb:?}");
        next(&mut record, &settings(), Timestamp::now());
        assert!(is_idle(&record));
        assert_eq!(record.ended_operations.len(), 1);
    }
}

#[test]
fn a_creation_that_fails_is_undone_and_leaves_a_failed_pod_on_no_host() {
    let mut record = asked(Verb::Create);
    finish_step(&mut record, &Effect::Placed { host: HostId::new(), port: 30_001, subnet: 7 }, Timestamp::now());
    give_up(&mut record, Progress::Failed, "there is no such image", Timestamp::now());
    let expected: Vec<(String, Progress)> =
        [("place", Progress::Succeeded), ("image", Progress::Failed), ("remove_container", Progress::Running)]
            .into_iter()
            .map(|(label, progress)| (label.to_owned(), progress))
            .collect();
    assert_eq!(labels(&record)[..3], expected);
    for effect in [Effect::None, Effect::None, Effect::None, Effect::Released] {
        finish_step(&mut record, &effect, Timestamp::now());
    }
    let operation = record.operation.as_ref().unwrap();
    assert_eq!((operation.progress, operation.cause.as_deref()), (Progress::Failed, Some("there is no such image")));
    assert_eq!((record.phase, record.host_id, record.residue), (PodPhase::Failed, None, false));
    assert_eq!(record.cause.as_deref(), Some("there is no such image"));
}

#[test]
fn what_cannot_be_undone_stays_on_record_as_residue() {
    let mut record = asked(Verb::Create);
    finish_step(&mut record, &Effect::Placed { host: HostId::new(), port: 30_001, subnet: 7 }, Timestamp::now());
    give_up(&mut record, Progress::Cancelled, "cancelled by anna", Timestamp::now());
    give_up(&mut record, Progress::Failed, "alpha is away", Timestamp::now());
    let operation = record.operation.as_ref().unwrap();
    assert_eq!(operation.progress, Progress::Cancelled);
    assert_eq!(operation.cause.as_deref(), Some("cancelled by anna; it could not be undone: alpha is away"));
    assert!(record.residue && record.host_id.is_some());
}

#[test]
fn a_stop_that_is_cancelled_is_what_its_host_says() {
    let mut record = asked(Verb::Stop);
    give_up(&mut record, Progress::Cancelled, "cancelled by anna", Timestamp::now());
    finish_step(&mut record, &Effect::Found(PodPhase::Running), Timestamp::now());
    assert_eq!((record.phase, record.desired), (PodPhase::Running, Desired::Running));
}

#[test]
fn a_request_whose_deadline_has_passed_in_the_queue_is_not_begun() {
    let mut record = sample::pod();
    assert!(enqueue(&mut record, Verb::Stop));
    record.queue[0].deadline_at = Some(Timestamp::now().minus(Duration::from_secs(1)));
    next(&mut record, &settings(), Timestamp::now());
    let operation = record.operation.as_ref().unwrap();
    assert_eq!((operation.progress, operation.ended_at.is_some()), (Progress::Failed, true));
    assert_eq!(record.desired, Desired::Running);
}

#[test]
fn only_the_newest_operations_are_remembered() {
    let mut record = sample::pod();
    for _ in 0..REMEMBERED_OPERATIONS + 5 {
        assert!(enqueue(&mut record, Verb::Pause));
        next(&mut record, &settings(), Timestamp::now());
        let last = record.operation.as_ref().unwrap().operation_id;
        finish_step(&mut record, &Effect::None, Timestamp::now());
        next(&mut record, &settings(), Timestamp::now());
        assert!(knows(&record, last));
    }
    assert_eq!(record.ended_operations.len(), REMEMBERED_OPERATIONS);
}
