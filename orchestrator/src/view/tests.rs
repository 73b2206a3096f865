use pinacle_bus::contract::{
    Timestamp,
    host::HostState,
    inventory::SshEndpoint,
    ledger::Reservation,
    pod::{PodRecord, Tier},
};

use super::*;
use crate::{sample, settings::Placement};

const RULES: Rules = Rules {
    placement: Placement::Spread,
    cpu_overcommit: 1.0,
    memory_overcommit: 1.0,
    disk_overcommit: 1.0,
    memory_reserve_bytes: 0,
};

fn put<T>(key: HostId, record: T) -> Change<T> {
    let entry = Entry { revision: 1, written_at: Timestamp::now(), record };
    Change::Put { key: key.to_string(), entry }
}

/// With room for one large pod.
fn host(name: &str) -> HostRecord {
    let mut host = sample::record(name);
    let tier = Tier::find("dev.large").unwrap();
    host.state = HostState::Online;
    let facts = &mut host.facts;
    facts.cpu_count = tier.cpu_millis / 1000;
    (facts.memory_total_bytes, facts.disk_total_bytes) = (tier.memory_bytes, tier.disk_bytes);
    (facts.docker_version, facts.runtimes) = (Some("20.10".into()), vec!["runsc".into()]);
    facts.ssh = Some(SshEndpoint { address: None, port: 22, user: None, host_keys: Vec::new() });
    host.pinned_host_keys = vec!["ssh-ed25519 AAAA".into()];
    host
}

fn ledger(host_id: HostId, pods: &[PodId]) -> HostLedger {
    let tier = Tier::find("dev.large").unwrap();
    let reservation = |subnet: usize| Reservation {
        cpu_millis: tier.cpu_millis,
        memory_bytes: tier.memory_bytes,
        disk_bytes: tier.disk_bytes,
        external_port: 30_000,
        subnet: u8::try_from(subnet).unwrap(),
        reserved_at: Timestamp::now(),
    };
    HostLedger { host_id, reservations: pods.iter().copied().zip((1..).map(reservation)).collect() }
}

fn choice(view: &View) -> Option<HostId> {
    let pod: PodRecord = sample::pod();
    let demand = Demand { pod: &pod, tier: Tier::find("dev.small").unwrap() };
    view.choose(&demand, &RULES, &BTreeSet::new()).ok()
}

#[test]
fn what_is_taken_of_a_host_counts_whichever_is_heard_of_first() {
    let (view, full, free) = (View::default(), host("full"), host("free"));
    view.ledger_changed(put(full.host_id, ledger(full.host_id, &[PodId::new()])));
    view.host_changed(put(full.host_id, full.clone()));
    assert_eq!(choice(&view), None, "the ledger came first");
    view.host_changed(put(free.host_id, free.clone()));
    assert_eq!(choice(&view), Some(free.host_id));
    view.ledger_changed(put(free.host_id, ledger(free.host_id, &[PodId::new()])));
    assert_eq!(choice(&view), None, "the host came first");
    view.host_changed(put(free.host_id, HostRecord { cordoned: false, ..free.clone() }));
    assert_eq!(choice(&view), None, "a change of the host changes nothing about its ledger");
    view.ledger_changed(put(full.host_id, ledger(full.host_id, &[])));
    assert_eq!(choice(&view), Some(full.host_id));
    view.ledger_changed(Change::Deleted { key: free.host_id.to_string(), revision: 2 });
    view.host_changed(Change::Deleted { key: full.host_id.to_string(), revision: 2 });
    assert_eq!(choice(&view), Some(free.host_id));
}

#[test]
fn a_pod_is_found_where_a_ledger_has_it_and_nowhere_else() {
    let (view, one, other) = (View::default(), HostId::new(), HostId::new());
    let (pod, neighbour) = (PodId::new(), PodId::new());
    assert_eq!(view.reserved_on(pod), None);
    view.ledger_changed(put(one, ledger(one, &[pod, neighbour])));
    view.ledger_changed(put(other, ledger(other, &[pod])));
    view.ledger_changed(put(one, ledger(one, &[neighbour])));
    assert_eq!((view.reserved_on(pod), view.reserved_on(neighbour)), (Some(other), Some(one)));
    view.ledger_changed(Change::Deleted { key: other.to_string(), revision: 2 });
    assert_eq!((view.reserved_on(pod), view.reserved_on(neighbour)), (None, Some(one)));
}
