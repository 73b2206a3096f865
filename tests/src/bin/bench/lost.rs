//! How long a lost host takes to be known as such.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use pinacle_bus::{
    client::{Bus, Reader, Start},
    contract::{
        HostId, Subject,
        event::{Event, HOST_STATE_CHANGED, HostStateChange},
        host::{HostState, StateCause},
        subject::filter,
        topology::StreamName,
    },
    settings::load,
};
use pinacle_orchestrator::settings::OrchestratorSettings;
use pinacle_tests::lab::Lab;
use rand::RngExt;

use crate::{
    report::{Report, quantile, rounds},
    usage::pass,
};

const HOSTS: usize = 3;
const ROUNDS: usize = 5;
/// Between two heartbeats, of which any moment is as good to be cut off.
const HEARTBEATS_MS: u64 = 5000;

pub async fn run() -> Report {
    let settings: OrchestratorSettings = load(None, []).unwrap();
    let lab = Lab::builder().hosts(HOSTS).orchestrators(1).start().await;
    let bus = lab.bus();
    let mut ages = Vec::new();
    for number in 1..=rounds(ROUNDS) {
        let mut events = bus.read(StreamName::Events, Start::New, Some(filter::events()));
        let mut hosts = Vec::new();
        for host in lab.hosts() {
            hosts.push(host.host_id().await);
        }
        let cuts = join_all(lab.hosts().iter().map(async |host| {
            pass(Duration::from_millis(rand::rng().random_range(0..HEARTBEATS_MS))).await;
            host.cut_off();
        }));
        let (found, _) = tokio::join!(offline(&bus, &mut events, &hosts), cuts);
        println!("round {number}: {:?} s", found.values().collect::<Vec<_>>());
        ages.extend(found.into_values());
        for host in lab.hosts() {
            host.reconnect();
        }
        for host in lab.hosts() {
            lab.online(host.name()).await;
        }
    }
    report(ages, settings.orchestrator.offline_after_ms)
}

/// Waits until each host is said to be offline; seconds from its last heartbeat to that, both as the bus took them in.
async fn offline(bus: &Bus, events: &mut Reader, hosts: &[HostId]) -> BTreeMap<HostId, f64> {
    let mut found = BTreeMap::new();
    while found.len() < hosts.len() {
        let stored = events.next().await.unwrap();
        let event: Event = stored.decode().unwrap();
        if event.what != HOST_STATE_CHANGED {
            continue;
        }
        let change: HostStateChange = serde_json::from_value(event.detail).unwrap();
        if change.to != HostState::Offline {
            continue;
        }
        assert_eq!(change.cause, StateCause::Silent, "{}", event.message);
        let last = bus.last(StreamName::Heartbeats, &Subject::Heartbeat(change.host_id)).await.unwrap().unwrap();
        let age = stored.published_at.as_millis() - last.published_at.as_millis();
        found.insert(change.host_id, age as f64 / 1000.0);
    }
    found
}

fn report(mut ages: Vec<f64>, after_ms: u64) -> Report {
    let after = after_ms as f64 / 1000.0;
    let mut report = Report::new(
        "A lost host",
        &format!(
            "{HOSTS} hosts whose links are cut, each at a moment of its own, {} times in all. From the last heartbeat to the event that \
             says the host is offline, both by the times at which JetStream took them in. The reference is the setting \
             `orchestrator.offline_after_ms`: silence of that length is what makes a host offline.",
            ages.len()
        ),
    );
    let rows = [("shortest", 0.0), ("median", 0.5), ("longest", 1.0)].map(|(name, share)| {
        let age = quantile(&mut ages, share);
        vec![name.to_owned(), format!("{age:.2} s"), format!("{after:.2} s"), format!("{:.2}", age / after)]
    });
    report.table(&["", "last heartbeat → offline", "setting", "ratio"], &rows);
    report.goal("longest, s", quantile(&mut ages, 1.0), 15.0, false);
    report
}
