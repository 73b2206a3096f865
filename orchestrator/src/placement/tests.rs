use std::collections::BTreeMap;

use pinacle_bus::contract::{PodId, ledger::HostLedger, message::Message};
use proptest::prelude::*;

use super::*;
use crate::sample;

const RULES: Rules = Rules {
    placement: Placement::Spread,
    cpu_overcommit: 2.0,
    memory_overcommit: 1.0,
    disk_overcommit: 1.0,
    memory_reserve_bytes: 1 << 29,
};

fn host(cores: u32, gib: u64) -> HostRecord {
    let mut host = sample::record("alpha");
    host.state = HostState::Online;
    host.facts.cpu_count = cores;
    host.facts.memory_total_bytes = gib << 30;
    host.facts.disk_total_bytes = 1 << 42;
    host.facts.docker_version = Some("20.10".into());
    host.facts.runtimes = vec!["runc".into(), "runsc".into()];
    host.facts.ssh = Some(pinacle_bus::contract::inventory::SshEndpoint {
        address: Some("10.0.0.1".into()),
        port: 22,
        user: None,
        host_keys: vec!["ssh-ed25519 AAAA".into()],
    });
    host.pinned_host_keys = vec!["ssh-ed25519 AAAA".into()];
    host
}

fn pod(tier: &'static Tier) -> PodRecord {
    let mut pod = sample::pod();
    (pod.pod_id, pod.spec.tier, pod.host_id) = (PodId::new(), tier.name.into(), None);
    pod
}

fn small() -> &'static Tier {
    Tier::find("dev.small").unwrap()
}

fn refusal(change: impl FnOnce(&mut HostRecord, &mut PodRecord)) -> String {
    let (mut host, mut pod) = (host(8, 32), pod(small()));
    change(&mut host, &mut pod);
    let demand = Demand { pod: &pod, tier: small() };
    let candidate = Candidate { host: &host, taken: Taken::default(), load: None };
    match choose(&demand, [candidate].into_iter(), &RULES, &BTreeSet::new()) {
        Ok(_) => "taken".into(),
        Err(refusals) => refusals[0].why.clone(),
    }
}

#[test]
fn each_reason_not_to_take_a_pod_is_named() {
    assert_eq!(refusal(|_, _| {}), "taken");
    let cases: Vec<(&str, String)> = vec![
        ("is offline", refusal(|host, _| host.state = HostState::Offline)),
        ("is degraded", refusal(|host, _| host.state = HostState::Degraded)),
        ("is cordoned", refusal(|host, _| host.cordoned = true)),
        ("has no Docker that answers", refusal(|host, _| host.facts.docker_version = None)),
        ("has no runtime runsc", refusal(|host, _| host.facts.runtimes = vec!["runc".into()])),
        ("does not take pods of anna", refusal(|host, _| host.allowed_owners = ["bert".into()].into())),
        (
            "lacks the label zone=moon",
            refusal(|_, pod| drop(pod.spec.host_labels.insert("zone".into(), "moon".into()))),
        ),
        ("is not the host that was asked for", refusal(|_, pod| pod.spec.only_host = Some(HostId::new()))),
        ("has 0.0 cores left, 1.0 are needed", refusal(|host, _| host.facts.cpu_count = 0)),
        ("has 1.5 GiB of memory left, 2.0 GiB are needed", refusal(|host, _| host.facts.memory_total_bytes = 2 << 30)),
        ("has 1.0 GiB of disk left, 20.0 GiB are needed", refusal(|host, _| host.facts.disk_total_bytes = 1 << 30)),
    ];
    for (expected, told) in cases {
        assert_eq!(told, expected);
    }
    let ssh = refusal(|host, _| host.pinned_host_keys.clear());
    assert!(ssh.contains("SSH"), "{ssh}");
}

#[test]
fn spread_takes_the_emptiest_host_and_pack_the_fullest_that_has_room() {
    let hosts = [host(8, 32), host(8, 32), host(8, 32)];
    let taken = |cores: u64| Taken { pods: 1, cpu_millis: cores * 1000, memory_bytes: cores << 30, disk_bytes: 0 };
    let all = [taken(8), taken(2), taken(16)];
    let pod = pod(small());
    let demand = Demand { pod: &pod, tier: small() };
    let candidates =
        hosts.iter().zip(all).map(|(host, taken)| Candidate { host, taken, load: Some(0.1) }).collect::<Vec<_>>();
    let chosen = |placement| {
        let rules = Rules { placement, ..RULES };
        choose(&demand, candidates.iter().copied(), &rules, &BTreeSet::new()).unwrap()
    };
    assert_eq!(chosen(Placement::Spread), hosts[1].host_id);
    assert_eq!(chosen(Placement::Pack), hosts[0].host_id, "the third is full");
}

#[test]
fn of_hosts_with_the_same_promises_the_less_busy_is_taken() {
    let hosts = [host(8, 32), host(8, 32)];
    let pod = pod(small());
    let demand = Demand { pod: &pod, tier: small() };
    let candidates =
        hosts.iter().zip([0.9, 0.2]).map(|(host, load)| Candidate { host, taken: Taken::default(), load: Some(load) });
    assert_eq!(choose(&demand, candidates, &RULES, &BTreeSet::new()), Ok(hosts[1].host_id));
}

/// What several copies do to one bucket of ledgers, with views that may be old.
#[derive(Debug, Clone)]
enum Act {
    /// A copy places a pod of this tier by what it knew so many writes ago.
    Place { tier: usize, age: usize },
    /// The pod of this number is removed.
    Release { pod: usize },
    /// A copy places a pod again, as one does that took it over.
    Again { pod: usize },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..pinacle_bus::contract::pod::TIERS.len(), 0..6_usize).prop_map(|(tier, age)| Act::Place { tier, age }),
        2 => (0..64_usize).prop_map(|pod| Act::Release { pod }),
        1 => (0..64_usize).prop_map(|pod| Act::Again { pod }),
    ];
    prop::collection::vec(act, 1..80)
}

type Bucket = BTreeMap<HostId, (u64, HostLedger)>;

/// One compare-and-set, as the bucket does it.
fn write(bucket: &mut Bucket, revision: u64, ledger: HostLedger) -> bool {
    let held = bucket.get(&ledger.host_id).map_or(0, |(revision, _)| *revision);
    if held != revision {
        return false;
    }
    bucket.insert(ledger.host_id, (revision + 1, ledger));
    true
}

/// As `Ledgers::place` does it: by an old view first, then by what is there.
fn place(bucket: &mut Bucket, view: &Bucket, hosts: &[HostRecord], pod: &PodRecord) -> Option<HostId> {
    let demand = Demand { pod, tier: Tier::find(&pod.spec.tier).unwrap() };
    let held = bucket.iter().find(|(_, (_, ledger))| ledger.reservations.contains_key(&pod.pod_id));
    if let Some((host, _)) = held {
        return Some(*host);
    }
    let mut passed_over = BTreeSet::new();
    loop {
        let candidates = hosts.iter().map(|host| Candidate {
            host,
            taken: view.get(&host.host_id).map(|(_, ledger)| Taken::from(ledger)).unwrap_or_default(),
            load: None,
        });
        let chosen = choose(&demand, candidates, &RULES, &passed_over).ok()?;
        let host = hosts.iter().find(|host| host.host_id == chosen).unwrap();
        let mut known = view.get(&chosen).cloned();
        loop {
            let (revision, mut ledger) =
                known.clone().unwrap_or_else(|| (0, HostLedger { host_id: chosen, reservations: BTreeMap::new() }));
            if reserve(&mut ledger, &demand, host, None, &RULES, Timestamp::now()).is_err() {
                passed_over.insert(chosen);
                break;
            }
            if write(bucket, revision, ledger) {
                return Some(chosen);
            }
            known = bucket.get(&chosen).cloned();
        }
    }
}

proptest! {
    #[test]
    fn no_host_is_over_capacity_and_no_port_or_network_is_given_twice(
        sizes in prop::collection::vec((1..6_u32, 2..24_u64), 1..4),
        acts in acts(),
    ) {
        let hosts: Vec<HostRecord> = sizes.into_iter().map(|(cores, gib)| host(cores, gib)).collect();
        let mut bucket = Bucket::new();
        let mut history = vec![bucket.clone()];
        let mut pods: Vec<(PodRecord, Option<HostId>)> = Vec::new();
        for act in acts {
            match act {
                Act::Place { tier, age } => {
                    let pod = pod(&pinacle_bus::contract::pod::TIERS[tier]);
                    let view = history[history.len().saturating_sub(age + 1)].clone();
                    let chosen = place(&mut bucket, &view, &hosts, &pod);
                    if chosen.is_none() && age == 0 {
                        // Whoever knows all finds room where there is some.
                        let demand = Demand { pod: &pod, tier: Tier::find(&pod.spec.tier).unwrap() };
                        for host in &hosts {
                            let mut ledger = bucket.get(&host.host_id).map(|(_, ledger)| ledger.clone())
                                .unwrap_or_else(|| HostLedger { host_id: host.host_id, reservations: BTreeMap::new() });
                            prop_assert!(reserve(&mut ledger, &demand, host, None, &RULES, Timestamp::now()).is_err());
                        }
                    }
                    pods.push((pod, chosen));
                }
                Act::Release { pod } => {
                    if let Some((pod, place)) = pods.get_mut(pod)
                        && let Some((revision, ledger)) = place.take().and_then(|host| bucket.get(&host).cloned())
                    {
                        let mut ledger = ledger;
                        prop_assert!(ledger.reservations.remove(&pod.pod_id).is_some());
                        prop_assert!(write(&mut bucket, revision, ledger));
                    }
                }
                Act::Again { pod } => {
                    if let Some((pod, Some(host))) = pods.get(pod) {
                        let view = bucket.clone();
                        prop_assert_eq!(place(&mut bucket, &view, &hosts, pod), Some(*host));
                    }
                }
            }
            history.push(bucket.clone());
            for host in &hosts {
                let Some((_, ledger)) = bucket.get(&host.host_id) else { continue };
                // Ports and networks twice are what the contract refuses to write.
                prop_assert!(ledger.check().is_ok());
                let taken = Taken::from(ledger);
                prop_assert!(taken.cpu_millis <= u64::from(host.facts.cpu_count) * 2000);
                prop_assert!(taken.memory_bytes + RULES.memory_reserve_bytes <= host.facts.memory_total_bytes);
                prop_assert!(taken.disk_bytes <= host.facts.disk_total_bytes);
            }
            for (pod, placed) in &pods {
                let held: Vec<HostId> = bucket.iter()
                    .filter(|(_, (_, ledger))| ledger.reservations.contains_key(&pod.pod_id))
                    .map(|(host, _)| *host).collect();
                prop_assert_eq!(held, placed.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
