use pinacle_bus::contract::{SCHEMA_VERSION, decode};

use super::*;

const GOLDEN: &str = include_str!("../../../../bus/golden/v1/metrics.json");
const LIMITS: Limits = Limits {
    future: Duration::from_secs(7200),
    kept: Duration::from_secs(7 * 24 * 60 * 60),
    grace: Duration::from_secs(60),
};

fn sample() -> Metrics {
    decode(SCHEMA_VERSION, GOLDEN.as_bytes()).unwrap()
}

fn judged(sample: &Metrics, known: &Facts, now: Timestamp) -> Verdict {
    judge(&Subject::Metrics(sample.host_id).to_string(), sample, known, now, &LIMITS)
}

fn reason(verdict: Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Refuse(refusal) => Some(refusal.reason),
        _ => None,
    }
}

#[test]
fn a_sample_of_an_admitted_host_is_kept_with_pods_that_have_no_record() {
    let sample = sample();
    assert_eq!(judged(&sample, &Facts::of(&[sample.host_id], &[]), sample.sampled_at), Verdict::Keep);
}

#[test]
fn a_sample_of_an_unknown_host_waits() {
    let sample = sample();
    assert_eq!(judged(&sample, &Facts::default(), sample.sampled_at), Verdict::UnknownHost(sample.host_id));
}

#[test]
fn a_pod_that_runs_elsewhere_is_singled_out() {
    let sample = sample();
    let pod = sample.pods[0].pod_id;
    let known = Facts::of(&[sample.host_id], &[(pod, HostId::new())]);
    assert_eq!(judged(&sample, &known, sample.sampled_at), Verdict::PodsElsewhere(vec![pod]));
    let known = Facts::of(&[sample.host_id], &[(pod, sample.host_id)]);
    assert_eq!(judged(&sample, &known, sample.sampled_at), Verdict::Keep);
}

#[test]
fn times_are_bounded_on_both_sides() {
    let sample = sample();
    let known = Facts::of(&[sample.host_id], &[]);
    let at = |now| reason(judged(&sample, &known, now));
    let second = Duration::from_secs(1);
    assert_eq!(at(sample.sampled_at.minus(LIMITS.future)), None);
    assert_eq!(at(sample.sampled_at.minus(LIMITS.future + second)), Some(Reason::Future));
    assert_eq!(at(sample.sampled_at.plus(LIMITS.kept)), None);
    assert_eq!(at(sample.sampled_at.plus(LIMITS.kept + second)), Some(Reason::TooOld));
}

#[test]
fn another_hosts_subject_is_refused() {
    let sample = sample();
    let known = Facts::of(&[sample.host_id], &[]);
    for subject in [Subject::Metrics(HostId::new()), Subject::Heartbeat(sample.host_id)] {
        let verdict = judge(&subject.to_string(), &sample, &known, sample.sampled_at, &LIMITS);
        assert_eq!(reason(verdict), Some(Reason::WrongSubject));
    }
}

#[test]
fn what_cannot_be_decoded_is_told_apart() {
    let refused = |schema, bytes: &[u8]| undecodable(&decode::<Metrics>(schema, bytes).unwrap_err()).reason;
    assert_eq!(refused(SCHEMA_VERSION, b"{"), Reason::Malformed);
    assert_eq!(refused(SCHEMA_VERSION + 1, GOLDEN.as_bytes()), Reason::NewerSchema);
    assert_eq!(refused(SCHEMA_VERSION, &vec![b' '; 1 << 20]), Reason::TooLarge);
    let mut spoilt: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    spoilt["host"]["cpu_percent"] = (-1.0).into();
    assert_eq!(refused(SCHEMA_VERSION, spoilt.to_string().as_bytes()), Reason::OutOfRange);
}
