use serde_json::Value;

use super::*;

fn golden<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../bus/golden/v1");
    serde_json::from_str(&std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap()).unwrap()
}

fn host_record(host: HostId) -> HostRecord {
    HostRecord { host_id: host, ..golden("host_record") }
}

fn pod_record(pod: PodId, host: Option<HostId>) -> PodRecord {
    PodRecord { pod_id: pod, host_id: host, ..golden("pod_record") }
}

fn received<T>(value: T) -> Received<T> {
    Received { received_at: Timestamp::now(), value }
}

/// A sample of a host with these pods; its CPU figure tells samples apart.
fn sample(host: HostId, cpu_percent: f64, late: bool, pods: &[PodId]) -> Received<Metrics> {
    let mut metrics: Metrics = golden("metrics");
    let pod = metrics.pods[0].clone();
    metrics.host_id = host;
    metrics.late = late;
    metrics.host.cpu_percent = cpu_percent;
    metrics.pods = pods.iter().map(|pod_id| PodSample { pod_id: *pod_id, ..pod.clone() }).collect();
    received(metrics)
}

fn cpu(fleet: &Fleet, host: HostId) -> f64 {
    fleet.hosts.get(&host).unwrap().sample.as_ref().unwrap().value.host.cpu_percent
}

#[test]
fn what_belongs_to_no_admitted_host_is_not_kept() {
    let fleet = Fleet::default();
    let taken = fleet.metrics(sample(HostId::new(), 1.0, false, &[PodId::new()]), Arrival::Live);
    assert_eq!(taken, Taken::UnknownHost);
    assert_eq!(fleet.heartbeat(received(golden::<Heartbeat>("heartbeat")), Arrival::Live), Taken::UnknownHost);
    assert_eq!((fleet.hosts.count(), fleet.pods.count()), (0, 0));
}

#[test]
fn late_and_stored_samples_never_replace_a_live_one() {
    let fleet = Fleet::default();
    let host = HostId::new();
    fleet.host_put(host_record(host));
    assert_eq!(fleet.metrics(sample(host, 1.0, true, &[]), Arrival::Live), Taken::Yes);
    assert_eq!(fleet.metrics(sample(host, 2.0, false, &[]), Arrival::Live), Taken::Yes);
    assert_eq!(fleet.metrics(sample(host, 3.0, true, &[]), Arrival::Live), Taken::Older);
    assert_eq!(fleet.metrics(sample(host, 4.0, false, &[]), Arrival::Stored), Taken::Older);
    assert_eq!(cpu(&fleet, host), 2.0);
}

#[test]
fn only_the_pods_of_the_newest_sample_are_kept() {
    let fleet = Fleet::default();
    let host = HostId::new();
    fleet.host_put(host_record(host));
    let recorded = PodId::new();
    fleet.pod_put(pod_record(recorded, Some(host)));
    for _ in 0..100 {
        let pods = [PodId::new(), PodId::new(), recorded];
        fleet.metrics(sample(host, 1.0, false, &pods), Arrival::Live);
        assert_eq!(fleet.pods.count(), 3);
    }
    fleet.metrics(sample(host, 1.0, false, &[]), Arrival::Live);
    assert!(fleet.pods.get(&recorded).unwrap().sample.is_none());
    assert_eq!(fleet.pods.count(), 1, "a pod with a record stays");
}

#[test]
fn a_sample_from_another_host_than_the_pods_own_is_not_the_pods() {
    let fleet = Fleet::default();
    let (own, other) = (HostId::new(), HostId::new());
    fleet.host_put(host_record(own));
    fleet.host_put(host_record(other));
    let pod = PodId::new();
    fleet.metrics(sample(other, 1.0, false, &[pod]), Arrival::Live);
    assert_eq!(fleet.pods.get(&pod).unwrap().host_id(), Some(other), "without a record the sample is all there is");
    fleet.pod_put(pod_record(pod, Some(own)));
    assert!(fleet.pods.get(&pod).unwrap().sample.is_none());
    fleet.metrics(sample(other, 1.0, false, &[pod]), Arrival::Live);
    assert!(fleet.pods.get(&pod).unwrap().sample.is_none());
    fleet.metrics(sample(own, 1.0, false, &[pod]), Arrival::Live);
    assert_eq!(fleet.pods.get(&pod).unwrap().sample.as_ref().unwrap().host_id, own);
}

#[test]
fn a_removed_host_takes_its_samples_along() {
    let fleet = Fleet::default();
    let host = HostId::new();
    let (loose, recorded) = (PodId::new(), PodId::new());
    fleet.host_put(host_record(host));
    fleet.pod_put(pod_record(recorded, Some(host)));
    fleet.metrics(sample(host, 1.0, false, &[loose, recorded]), Arrival::Live);
    fleet.host_removed(host);
    assert!(fleet.hosts.get(&host).is_none());
    assert!(fleet.pods.get(&loose).is_none());
    assert!(fleet.pods.get(&recorded).unwrap().sample.is_none());
}

#[test]
fn a_record_that_changes_keeps_heartbeat_and_sample_and_json_is_written_anew() {
    let fleet = Fleet::default();
    let host = HostId::new();
    fleet.host_put(host_record(host));
    fleet.heartbeat(received(Heartbeat { host_id: host, ..golden("heartbeat") }), Arrival::Live);
    fleet.metrics(sample(host, 42.0, false, &[]), Arrival::Live);
    let before = fleet.hosts.get(&host).unwrap();
    assert_eq!(before.brief(), before.brief());
    fleet.host_put(HostRecord { name: "renamed".into(), ..host_record(host) });
    let brief: Value = serde_json::from_slice(&fleet.hosts.get(&host).unwrap().brief()).unwrap();
    assert_eq!((&brief["name"], &brief["metrics"]["cpu_percent"]), (&"renamed".into(), &42.0.into()));
    assert!(brief["heartbeat_at"].is_string());
}
