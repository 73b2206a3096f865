use super::*;
use crate::{reconcile::context::settle, sample};

const RULES: Rules = Rules {
    tries: 3,
    backoff: Duration::from_secs(1),
    longest_backoff: Duration::from_secs(3),
    settled: Duration::from_secs(600),
};

fn exited(exit_code: i64) -> Found {
    Found::Ended { exit_code: Some(exit_code), out_of_memory: false }
}

fn now() -> Timestamp {
    "2026-11-21T10:00:00.000Z".parse().unwrap()
}

fn after(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

fn pod(desired: Desired, phase: PodPhase) -> PodRecord {
    let mut record = sample::pod();
    record.desired = desired;
    settle(&mut record, phase, None);
    record
}

fn judged(record: &PodRecord, found: Found) -> Verdict {
    judge(record, Facts { found, network_gone: false, rebooted: false }, RULES, now())
}

fn phase(verdict: &Verdict) -> Option<PodPhase> {
    if let Verdict::Record(phase, _) = verdict { Some(*phase) } else { None }
}

#[test]
fn a_record_that_is_true_is_left_alone() {
    for (desired, phase, found) in [
        (Desired::Running, PodPhase::Running, Found::Running),
        (Desired::Paused, PodPhase::Paused, Found::Paused),
        (Desired::Stopped, PodPhase::Stopped, exited(0)),
        (Desired::Stopped, PodPhase::Stopped, Found::Absent),
        // What failed for good waits for its owner.
        (Desired::Running, PodPhase::Failed, exited(1)),
        (Desired::Stopped, PodPhase::Failed, exited(1)),
        (Desired::Running, PodPhase::Stopped, exited(0)),
        // By hand, and told.
        (Desired::Running, PodPhase::Paused, Found::Paused),
        (Desired::Paused, PodPhase::Running, Found::Running),
    ] {
        assert_eq!(judged(&pod(desired, phase), found), Verdict::Nothing, "{desired:?} {phase:?} {found:?}");
    }
}

#[test]
fn what_happened_by_hand_or_while_nobody_knew_is_recorded() {
    for (desired, before, found, expected) in [
        (Desired::Running, PodPhase::Lost, Found::Running, PodPhase::Running),
        (Desired::Running, PodPhase::Failed, Found::Running, PodPhase::Running),
        (Desired::Running, PodPhase::Running, Found::Paused, PodPhase::Paused),
        (Desired::Running, PodPhase::Paused, Found::Running, PodPhase::Running),
        (Desired::Paused, PodPhase::Lost, Found::Paused, PodPhase::Paused),
        (Desired::Paused, PodPhase::Lost, exited(255), PodPhase::Stopped),
        (Desired::Stopped, PodPhase::Lost, exited(0), PodPhase::Stopped),
        (Desired::Stopped, PodPhase::Lost, Found::Absent, PodPhase::Stopped),
    ] {
        let verdict = judged(&pod(desired, before), found);
        assert_eq!(phase(&verdict), Some(expected), "{desired:?} {before:?} {found:?}: {verdict:?}");
    }
}

#[test]
fn what_should_not_run_is_stopped_and_what_should_be_gone_is_removed() {
    assert!(matches!(judged(&pod(Desired::Stopped, PodPhase::Stopped), Found::Running), Verdict::Ask(Verb::Stop, _)));
    assert!(matches!(judged(&pod(Desired::Deleted, PodPhase::Lost), Found::Absent), Verdict::Ask(Verb::Delete, _)));
    let mut failed = pod(Desired::Running, PodPhase::Failed);
    failed.residue = true;
    assert!(matches!(judged(&failed, Found::Absent), Verdict::Ask(Verb::Clean, _)));
}

#[test]
fn a_pod_that_ended_is_started_again_with_longer_and_longer_pauses_and_then_fails() {
    let mut record = pod(Desired::Running, PodPhase::Running);
    for (restarts, pause) in [(0, 1), (1, 2), (2, 3)] {
        record.restarts = restarts;
        let Verdict::Schedule(at, cause) = judged(&record, exited(3)) else { panic!("{restarts}") };
        assert_eq!(at, after(pause));
        assert!(cause.contains("exit code 3"), "{cause}");
    }
    record.restarts = 3;
    let Verdict::GiveUp(cause) = judged(&record, exited(3)) else { panic!() };
    assert!(cause.contains("exit code 3") && cause.contains("3 times"), "{cause}");
}

#[test]
fn a_start_is_asked_for_when_its_time_has_come_and_not_before() {
    let mut record = pod(Desired::Running, PodPhase::Starting);
    record.restart_at = Some(after(2));
    assert_eq!(judged(&record, exited(3)), Verdict::Wait(Duration::from_secs(2)));
    record.restart_at = Some(now());
    assert_eq!(judged(&record, exited(3)), Verdict::StartAgain { counted: true });
}

#[test]
fn a_pod_that_fails_while_it_is_started_again_is_one_that_ended_again() {
    let mut record = pod(Desired::Running, PodPhase::Failed);
    record.restarts = 1;
    assert!(matches!(judged(&record, exited(3)), Verdict::Schedule(..)));
    record.restarts = 3;
    assert_eq!(judged(&record, exited(3)), Verdict::Nothing);
}

#[test]
fn want_of_memory_is_named_as_such() {
    let killed = Found::Ended { exit_code: Some(137), out_of_memory: true };
    let Verdict::Schedule(_, cause) = judged(&pod(Desired::Running, PodPhase::Running), killed) else { panic!() };
    assert!(cause.contains("out of memory") && cause.contains("OOM"), "{cause}");
}

#[test]
fn the_restart_policy_says_which_ends_are_taken_for_good() {
    for (policy, found, expected) in [
        (RestartPolicy::Always, exited(0), "again"),
        (RestartPolicy::OnFailure, exited(0), "stopped"),
        (RestartPolicy::OnFailure, exited(1), "again"),
        (RestartPolicy::OnFailure, Found::Absent, "again"),
        (RestartPolicy::Never, exited(0), "stopped"),
        (RestartPolicy::Never, exited(1), "failed"),
        (RestartPolicy::Never, Found::Absent, "failed"),
    ] {
        let mut record = pod(Desired::Running, PodPhase::Running);
        record.spec.restart = policy;
        let came = match judged(&record, found) {
            Verdict::Schedule(..) => "again",
            Verdict::Record(PodPhase::Stopped, Some(_)) => "stopped",
            Verdict::GiveUp(_) => "failed",
            _ => "something else",
        };
        assert_eq!(came, expected, "{policy:?} {found:?}");
    }
}

#[test]
fn a_host_that_was_started_anew_is_not_held_against_its_pods() {
    let mut record = pod(Desired::Running, PodPhase::Lost);
    (record.spec.restart, record.restarts) = (RestartPolicy::Never, 3);
    let facts = Facts { found: exited(255), network_gone: false, rebooted: true };
    assert_eq!(judge(&record, facts, RULES, now()), Verdict::StartAgain { counted: false });
}

#[test]
fn a_network_that_is_gone_under_a_running_pod_is_made_anew() {
    let facts = Facts { found: Found::Running, network_gone: true, rebooted: false };
    let verdict = judge(&pod(Desired::Running, PodPhase::Running), facts, RULES, now());
    assert!(matches!(verdict, Verdict::Ask(Verb::Restart, _)), "{verdict:?}");
}

#[test]
fn a_pod_that_has_run_long_enough_counts_anew() {
    let mut record = pod(Desired::Running, PodPhase::Running);
    (record.restarts, record.restarted_at) = (2, Some(now().minus(RULES.settled)));
    assert_eq!(judged(&record, Found::Running), Verdict::CountAnew);
    record.restarted_at = Some(now());
    assert_eq!(judged(&record, Found::Running), Verdict::Nothing);
}
