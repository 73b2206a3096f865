//! `pinacle sim`: what it says it published is what the bus holds, whatever happens to the bus meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nix::sys::signal::Signal;
use pinacle_bus::{
    client::{Bus, Start, Stored},
    contract::{HostId, Timestamp, host::Heartbeat, inventory::Inventory, metrics::Metrics, topology::StreamName},
};
use pinacle_tests::{Launch, Nats, Process, User, eventually};
use serde_json::Value;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(90);

fn sim(nats: &Nats, arguments: &[&str]) -> Process {
    Launch::service("pinacle")
        .named("sim")
        .in_sandbox(nats.sandbox())
        .envs(nats.env(User::SIMULATOR))
        .args(["sim", "--json"])
        .args(arguments)
        .spawn()
}

async fn report(process: &mut Process) -> Result<BTreeMap<String, Value>, String> {
    let status = process.wait(LONG).await;
    let text = process.log_text();
    match text.find('{').map(|start| serde_json::from_str(text.split_at(start).1)) {
        Some(Ok(report)) if status.success() => Ok(report),
        _ => Err(format!("{status}: {text}")),
    }
}

async fn read_all(bus: &Bus, stream: StreamName) -> Result<Vec<Stored>, String> {
    let (first, last) = bus.stream_bounds(stream).await.map_err(|error| error.to_string())?;
    let mut reader = bus.read(stream, Start::Beginning, None);
    let mut all: Vec<Stored> = Vec::new();
    while first <= last && all.last().is_none_or(|stored| stored.sequence < last) {
        let stored = timeout(LONG, reader.next()).await.map_err(|error| error.to_string())?;
        all.push(stored.map_err(|error| error.to_string())?);
    }
    Ok(all)
}

/// The samples that a stream holds: how often each, and how many messages are none.
fn samples(stored: &[Stored]) -> (BTreeMap<(HostId, Timestamp), usize>, usize, usize) {
    let (mut samples, mut broken, mut late) = (BTreeMap::new(), 0, 0);
    let tomorrow = Timestamp::now().plus(Duration::from_secs(86_400));
    for stored in stored {
        match stored.decode::<Metrics>() {
            Ok(sample) if sample.sampled_at < tomorrow => {
                late += usize::from(sample.late);
                *samples.entry((sample.host_id, sample.sampled_at)).or_default() += 1;
            }
            _ => broken += 1,
        }
    }
    (samples, broken, late)
}

#[tokio::test]
async fn what_it_counts_is_what_the_bus_holds_fault_by_fault() {
    let nats = Nats::start().await;
    let bus = nats.bus_with_topology().await;
    let arguments =
        ["--hosts", "40", "--pods", "5", "--interval", "1s", "--duration", "14s", "--connections", "3", "--faults"];
    let faults = "late=10,duplicate=10,malformed=5,gone=10";
    let mut process = sim(&nats, &[&arguments[..], &[faults]].concat());
    let report = report(&mut process).await.unwrap();
    let said = |key: &str| usize::try_from(report[key].as_u64().unwrap()).unwrap();

    let stored = read_all(&bus, StreamName::Metrics).await.unwrap();
    let (samples, broken, late) = samples(&stored);
    assert!(samples.len() > 300, "{report:?}");
    assert_eq!(samples.len(), said("samples"));
    assert_eq!(said("pod_samples"), 5 * samples.len());
    assert_eq!(broken, said("malformed"));
    let again: usize = samples.values().map(|times| times - 1).sum();
    assert_eq!(again, said("duplicates_other_id"));
    assert_eq!(stored.len() + said("duplicates_same_id"), said("metrics_messages"));
    assert_eq!(late, said("late"));
    for fault in ["late", "duplicates_same_id", "duplicates_other_id", "malformed"] {
        assert!(said(fault) > 0, "{fault}: {report:?}");
    }
    assert_eq!((said("gone_hosts"), said("farewells"), said("lost_samples")), (4, 36, 0));

    let heartbeats = read_all(&bus, StreamName::Heartbeats).await.unwrap();
    let stopping = heartbeats.iter().filter(|stored| stored.decode::<Heartbeat>().unwrap().stopping).count();
    assert_eq!((heartbeats.len(), stopping), (40, 36));
    let inventories = read_all(&bus, StreamName::Inventory).await.unwrap();
    assert_eq!(inventories.len(), 40);
    assert!(inventories.iter().all(|stored| stored.decode::<Inventory>().unwrap().containers.len() == 5));
}

#[tokio::test]
async fn a_bus_that_is_killed_and_comes_back_loses_none_of_its_samples() {
    let mut nats = Nats::start().await;
    let bus = nats.bus_with_topology().await;
    let mut process = sim(&nats, &["--hosts", "50", "--pods", "2", "--interval", "500ms", "--duration", "15s"]);
    for round in 1..=2_u64 {
        eventually(LONG, "samples to flow", async || {
            let (_, last) = bus.stream_bounds(StreamName::Metrics).await.map_err(|error| error.to_string())?;
            if last > 400 * round { Ok(()) } else { Err(last.to_string()) }
        })
        .await;
        nats.kill9().await;
        nats.restart().await;
    }
    let report = report(&mut process).await.unwrap();
    let (samples, broken, _) = samples(&read_all(&bus, StreamName::Metrics).await.unwrap());
    assert_eq!(Some(samples.len() as u64), report["samples"].as_u64());
    assert_eq!((broken, report["lost_samples"].as_u64()), (0, Some(0)));
}

#[tokio::test]
async fn the_same_seed_is_the_same_fleet_and_an_interrupt_says_farewell() {
    let nats = Nats::start().await;
    let bus = nats.bus_with_topology().await;
    let mut hosts = BTreeSet::new();
    for (run, seed) in ["7", "7", "8"].into_iter().enumerate() {
        let mut process = sim(&nats, &["--hosts", "12", "--seed", seed, "--interval", "1s"]);
        eventually(LONG, "every host's sample", async || {
            let (_, last) = bus.stream_bounds(StreamName::Metrics).await.map_err(|error| error.to_string())?;
            let heartbeats = read_all(&bus, StreamName::Heartbeats).await?;
            let alive = heartbeats.iter().filter(|stored| !stored.decode::<Heartbeat>().unwrap().stopping).count();
            if last >= 24 * (run as u64 + 1) && alive == 12 { Ok(()) } else { Err(format!("{last}, {alive}")) }
        })
        .await;
        process.signal(Signal::SIGINT);
        let report = report(&mut process).await.unwrap();
        assert_eq!((report["interrupted"].as_bool(), report["farewells"].as_u64()), (Some(true), Some(12)));
        for stored in read_all(&bus, StreamName::Metrics).await.unwrap() {
            hosts.insert(stored.decode::<Metrics>().unwrap().host_id);
        }
        assert_eq!(hosts.len(), if seed == "7" { 12 } else { 24 });
    }
}
