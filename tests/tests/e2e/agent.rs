//! The agent as a real process, against a real server that comes and goes, on the machine that the test runs on.

mod docker;
mod fixture;

use std::{
    collections::BTreeSet,
    os::unix::net::UnixListener,
    path::Path,
    time::{Duration, SystemTime},
};

use pinacle_bus::{
    client::AskError,
    contract::{
        HostId, PodId, Subject,
        command::{FaultCode, Logs, Ping, RotateKey, Sample, SetInterval, TakeInventory, VERBS, Version},
        host::DockerState,
        metrics::Metrics,
        topology::StreamName,
    },
};
use pinacle_tests::{Proxy, Sandbox, User, eventually, process::ended_by};
use tokio::time::Instant;

use fixture::{Fixture, LONG, launch, samples};

fn proc(name: &str) -> String {
    std::fs::read_to_string(Path::new("/proc").join(name)).unwrap()
}

/// Busy and all ticks of all cores.
fn ticks() -> (f64, f64) {
    let text = proc("stat");
    let ticks: Vec<f64> =
        text.lines().next().unwrap().split_whitespace().skip(1).take(8).map(|word| word.parse().unwrap()).collect();
    let all: f64 = ticks.iter().sum();
    (all - ticks[3] - ticks[4], all)
}

#[track_caller]
fn close(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, but the machine says {expected} (± {tolerance})");
}

#[tokio::test]
async fn the_hosts_figures_are_those_of_the_machine() {
    let fixture = Fixture::start(&[("INTERVAL_MS", "60000")]).await;
    // The agent measures from its sample before to this one: what the test reads just beside them is the same time.
    fixture.next_sample(None).await;
    fixture.ask(&Sample {}).await.unwrap();
    let (before, began) = (ticks(), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let second = fixture.ask(&Sample {}).await.unwrap();
    let after = ticks();

    assert_eq!(second.host_id, fixture.host);
    close("interval", second.interval_ms as f64, began.elapsed().as_millis() as f64, 500.0);
    let cores = second.host.cpu_cores_percent.len();
    assert_eq!(cores, std::thread::available_parallelism().unwrap().get());
    let busy = (after.0 - before.0) / (after.1 - before.1) * 100.0 * cores as f64;
    close("cpu_percent", second.host.cpu_percent, busy, 15.0);
    let per_core: f64 = second.host.cpu_cores_percent.iter().map(|core| f64::from(*core)).sum();
    close("sum of the cores", per_core, second.host.cpu_percent, 10.0);

    let host = &second.host;
    let kibibytes = |key: &str| {
        let text = proc("meminfo");
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
    };
    close("memory_total_bytes", host.memory_total_bytes as f64, kibibytes("MemTotal"), 0.0);
    close("memory_available_bytes", host.memory_available_bytes as f64, kibibytes("MemAvailable"), 512e6);
    assert_eq!(host.memory_used_bytes, host.memory_total_bytes - host.memory_available_bytes);
    let load: f64 = proc("loadavg").split(' ').next().unwrap().parse().unwrap();
    close("load_1", host.load_1, load, 1.0);

    let root = host.disks.iter().find(|disk| disk.mount == "/").expect("the root file system");
    let statvfs = nix::sys::statvfs::statvfs("/").unwrap();
    close("size of /", root.total_bytes as f64, (statvfs.blocks() * statvfs.fragment_size()) as f64, 0.0);
    let used = (statvfs.blocks() - statvfs.blocks_free()) * statvfs.fragment_size();
    close("used of /", root.used_bytes as f64, used as f64, 1e9);
    close("inodes of /", root.inodes_total as f64, statvfs.files() as f64, 0.0);
    let devices: BTreeSet<_> = host.disks.iter().map(|disk| &disk.device).collect();
    assert_eq!(devices.len(), host.disks.len(), "each disk once");

    assert!(!host.networks.is_empty() && host.networks.iter().all(|network| network.name != "lo"));
    for network in &host.networks {
        let path = format!("/sys/class/net/{}/statistics/rx_bytes", network.name);
        let now: u64 = std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
        assert!(network.rx_bytes <= now && network.rx_bytes > 0);
    }
    assert_eq!(host.pressure.is_some(), Path::new("/proc/pressure/cpu").exists());
}

#[tokio::test]
async fn heartbeats_tell_how_the_machine_is_and_a_stop_says_farewell() {
    let mut fixture = Fixture::start(&[]).await;
    let heartbeat = fixture.next_heartbeat().await;
    assert_eq!(heartbeat.boot_id, proc("sys/kernel/random/boot_id").trim());
    let uptime: f64 = proc("uptime").split(' ').next().unwrap().parse().unwrap();
    close("uptime_seconds", heartbeat.uptime_seconds as f64, uptime, 10.0);
    assert_eq!(heartbeat.docker, DockerState::Absent);
    assert!(!heartbeat.stopping);

    let status = fixture.agent.sigterm(LONG).await;
    assert!(status.success(), "{status}");
    let mut last = fixture.next_heartbeat().await;
    while !last.stopping {
        last = fixture.next_heartbeat().await;
    }
    assert_eq!(last.agent_version, heartbeat.agent_version);
    let stored = fixture.bus.last(StreamName::Heartbeats, &Subject::Heartbeat(fixture.host)).await.unwrap().unwrap();
    assert!(
        stored.decode::<pinacle_bus::contract::host::Heartbeat>().unwrap().stopping,
        "the farewell is the last word"
    );
}

#[tokio::test]
async fn a_host_keeps_its_id_over_starts_and_its_state_belongs_to_one_agent() {
    let mut fixture = Fixture::start(&[]).await;
    let mut second =
        launch(&fixture.nats.env(User::Host(fixture.host)), &fixture.state_dir(), &[]).named("second").spawn();
    let status = second.wait(LONG).await;
    assert_eq!(status.code(), Some(1));
    assert!(second.log_text().contains("another agent runs with"), "{}", second.tail());

    fixture.agent.kill9().await;
    fixture.agent.restart().await;
    let pong = fixture.ask(&Ping {}).await.unwrap();
    assert_eq!(pong.host_id, fixture.host);
}

#[tokio::test]
async fn a_host_whose_docker_does_not_answer_is_watched_all_the_same() {
    let sandbox = Sandbox::new();
    let socket = sandbox.path().join("docker.sock");
    // Takes connections into its queue, and never says a word.
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut fixture = Fixture::start(&[("DOCKER_SOCKET", socket.to_str().unwrap())]).await;
    fixture.next_sample(None).await;
    eventually(LONG, "the heartbeat to say that docker is down", async || {
        let heartbeat = fixture.next_heartbeat().await;
        match &heartbeat.docker {
            DockerState::Down { reason } if reason.contains("did not answer") => Ok(()),
            other => Err(other.clone()),
        }
    })
    .await;
}

/// Every sample between the first and the last, by the samples' own intervals.
#[track_caller]
fn assert_no_gap(samples: &[Metrics], interval: Duration) {
    for pair in samples.windows(2) {
        let [earlier, later] = pair else { unreachable!() };
        let gap = later.sampled_at.as_millis() - earlier.sampled_at.as_millis();
        assert!(gap > 0, "times ascend");
        let most = 2 * i64::try_from(interval.as_millis()).unwrap() - 100;
        assert!(gap < most, "{gap} ms without a sample after {}", earlier.sampled_at);
    }
}

fn in_order_of_time(mut samples: Vec<Metrics>) -> Vec<Metrics> {
    samples.sort_by_key(|sample| sample.sampled_at);
    samples
}

#[tokio::test]
async fn samples_taken_while_the_bus_is_away_arrive_later_with_their_own_times_and_none_is_missing() {
    let mut fixture = Fixture::start(&[("INTERVAL_MS", "1000")]).await;
    fixture.samples(2).await;
    fixture.nats.kill9().await;
    eventually(LONG, "four samples to wait in the spool", async || match fixture.spooled() {
        4.. => Ok(()),
        few => Err(few),
    })
    .await;
    fixture.nats.restart().await;
    eventually(LONG, "the spool to empty", async || match fixture.spooled() {
        0 => Ok(()),
        some => Err(some),
    })
    .await;
    let before = samples(&fixture.bus).await.len();
    fixture.samples(before + 2).await;

    let arrived = samples(&fixture.bus).await;
    let late: Vec<_> = arrived.iter().filter(|sample| sample.late).cloned().collect();
    assert!(late.len() >= 4, "{}", late.len());
    let times: Vec<_> = late.iter().map(|sample| sample.sampled_at).collect();
    assert!(times.is_sorted(), "late samples come oldest first: {times:?}");
    let ordered = in_order_of_time(arrived);
    assert_no_gap(&ordered, Duration::from_secs(1));
    assert_eq!(ordered.iter().map(Metrics::message_id).collect::<BTreeSet<_>>().len(), ordered.len());
}

#[tokio::test]
async fn a_network_that_swallows_everything_costs_no_sample_either() {
    let nats = pinacle_tests::Nats::start().await;
    let proxy = Proxy::start(nats.address()).await;
    let environment = nats.env_at(User::host(), &format!("nats://{}", proxy.address()));
    let fixture = Fixture::start_at(nats, environment, &[("INTERVAL_MS", "1000")]).await;
    fixture.samples(2).await;
    proxy.stall();
    eventually(LONG, "three samples to wait in the spool", async || match fixture.spooled() {
        3.. => Ok(()),
        few => Err(few),
    })
    .await;
    proxy.heal();
    eventually(LONG, "the spool to empty", async || match fixture.spooled() {
        0 => Ok(()),
        some => Err(some),
    })
    .await;
    let ordered = in_order_of_time(samples(&fixture.bus).await);
    assert_no_gap(&ordered, Duration::from_secs(1));
}

#[tokio::test]
async fn a_full_spool_drops_the_oldest_and_counts_them() {
    // Room for four small samples; each takes at least a block of 4 KiB.
    let fixture = Fixture::without_bus(&[("INTERVAL_MS", "1000"), ("SPOOL_MAX_BYTES", "65536")]).await;
    let first = eventually(LONG, "the first sample in the spool", async || {
        fixture.spool_names().first().cloned().ok_or("none yet")
    })
    .await;
    // Sixteen blocks: the seventeenth sample pushes the first one out.
    eventually(Duration::from_secs(40), "the first sample to be dropped", async || {
        let names = fixture.spool_names();
        if names.contains(&first) { Err(names.len()) } else { Ok(()) }
    })
    .await;
    assert!(fixture.spooled() <= 16);
    eventually(LONG, "the drop to be counted", async || {
        let dropped = fixture.agent.metric("pinacle_agent_spool_dropped_total", &["oldest"]).await;
        dropped.filter(|count| *count >= 1.0).ok_or(dropped)
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_killed_loses_at_most_the_sample_under_way() {
    let mut fixture = Fixture::start(&[("INTERVAL_MS", "1000")]).await;
    fixture.samples(2).await;
    fixture.nats.kill9().await;
    for round in 0..3 {
        let before = fixture.spooled();
        eventually(LONG, "more samples in the spool", async || match fixture.spooled() {
            now if now >= before + 2 => Ok(()),
            now => Err(now),
        })
        .await;
        let names = fixture.spool_names();
        fixture.agent.kill9().await;
        let kept = fixture.spool_names();
        assert!(names.iter().all(|name| kept.contains(name)), "round {round}: what was in the spool is there");
        fixture.agent.restart_unready();
    }
    let waiting = fixture.spooled();
    fixture.nats.restart().await;
    fixture.agent.ready(LONG).await;
    eventually(LONG, "the spool to empty", async || match fixture.spooled() {
        0 => Ok(()),
        some => Err(some),
    })
    .await;
    let late = samples(&fixture.bus).await.into_iter().filter(|sample| sample.late).count();
    assert!(late >= waiting, "{late} late samples of {waiting} that waited");
}

#[tokio::test]
async fn a_broken_file_in_the_spool_harms_nothing_but_itself() {
    let mut fixture = Fixture::without_bus(&[("INTERVAL_MS", "1000")]).await;
    eventually(LONG, "three samples to wait in the spool", async || match fixture.spooled() {
        3.. => Ok(()),
        few => Err(few),
    })
    .await;
    fixture.agent.kill9().await;
    let broken = fixture.spool_names().remove(0);
    let path = fixture.state_dir().join("spool").join(&broken);
    let half = std::fs::read(&path).unwrap();
    std::fs::write(&path, half.split_at(half.len() / 2).0).unwrap();
    fixture.agent.restart_unready();
    fixture.nats.restart().await;
    fixture.bus.connected(LONG).await.unwrap();
    eventually(LONG, "the spool to empty", async || match fixture.spooled() {
        0 => Ok(()),
        some => Err(some),
    })
    .await;
    let arrived: BTreeSet<_> = samples(&fixture.bus)
        .await
        .iter()
        .map(|sample| format!("{:015}.json", sample.sampled_at.as_millis()))
        .collect();
    assert!(arrived.len() >= 2 && !arrived.contains(&broken));
    assert!(fixture.agent.log_text().contains("is broken; removed"), "{}", fixture.agent.tail());
}

#[tokio::test]
async fn every_command_is_answered() {
    let fixture = Fixture::start(&[]).await;
    let mut tried = BTreeSet::new();

    tried.insert("ping");
    assert_eq!(fixture.ask(&Ping {}).await.unwrap().host_id, fixture.host);

    tried.insert("version");
    let version = fixture.ask(&Version {}).await.unwrap();
    assert_eq!(version.verbs, VERBS);
    assert!(!version.agent_version.is_empty() && version.schema >= 1);

    tried.insert("sample");
    let sample = fixture.ask(&Sample {}).await.unwrap();
    eventually(LONG, "the sample to be published like any other", async || {
        let all = samples(&fixture.bus).await;
        if all.contains(&sample) { Ok(()) } else { Err(all.len()) }
    })
    .await;

    tried.insert("inventory");
    let inventory = fixture.ask(&TakeInventory {}).await.unwrap();
    assert_eq!(inventory.facts.kernel, proc("sys/kernel/osrelease").trim());
    assert_eq!(inventory.hostname, proc("sys/kernel/hostname").trim());
    let nats_port = fixture.nats.port();
    assert!(inventory.ports.iter().any(|port| port.port == nats_port && port.protocol == "tcp"), "NATS listens");
    assert!(inventory.facts.memory_total_bytes > 0 && inventory.facts.disk_total_bytes > 0);
    assert!(!inventory.facts.addresses.iter().any(|address| address.starts_with("127.")));

    tried.insert("set-interval");
    assert_eq!(fixture.ask(&SetInterval { interval_ms: 1000 }).await.unwrap().interval_ms, 1000);
    eventually(LONG, "samples at the new interval", async || {
        let last = samples(&fixture.bus).await.last().map(|sample| sample.interval_ms);
        if last.is_some_and(|interval| (900..1200).contains(&interval)) { Ok(()) } else { Err(last) }
    })
    .await;
    let refused = fixture.ask(&SetInterval { interval_ms: 10 }).await;
    assert_eq!(fault(refused), FaultCode::BadRequest);

    tried.insert("logs");
    let logs = Logs { pod_id: PodId::new(), tail: 10, since: None, follow_seconds: 0 };
    assert_eq!(fault(fixture.ask(&logs).await), FaultCode::Unavailable, "there is no docker here");

    tried.insert("rotate-key");
    assert_eq!(fault(fixture.ask(&RotateKey {}).await), FaultCode::Unavailable, "its key comes from its settings");

    assert_eq!(tried, VERBS.iter().copied().collect(), "every command that there is");
}

fn fault(result: Result<impl std::fmt::Debug, AskError>) -> FaultCode {
    match result {
        Err(AskError::Fault(fault)) => fault.code,
        other => panic!("expected a fault, got {other:?}"),
    }
}

#[tokio::test]
async fn what_no_agent_knows_is_answered_with_a_fault() {
    let fixture = Fixture::start(&[]).await;
    let raw = fixture.nats.client().await;
    for (verb, payload, code) in [
        ("self-destruct", "{}", "unknown_command"),
        ("ping", "not json", "bad_request"),
        ("set-interval", "{}", "bad_request"),
        ("logs", "{\"pod_id\":\"pod_1\"}", "bad_request"),
    ] {
        let subject = Subject::Command { host: fixture.host, verb: verb.into() }.to_string();
        let answer = tokio::time::timeout(LONG, raw.request(subject, payload.into())).await.unwrap().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["fault"]["code"], code, "{verb}: {answer}");
    }
    let nobody: Result<_, AskError> = fixture.bus.ask(HostId::new(), &Ping {}, LONG).await;
    assert!(matches!(nobody, Err(AskError::NoAgent)), "{nobody:?}");
}

#[tokio::test]
async fn an_agent_that_starts_before_its_server_finds_it_and_asks_for_admission() {
    let mut fixture = Fixture::without_bus(&[]).await;
    let began = SystemTime::now();
    fixture.nats.restart().await;
    fixture.bus.connected(LONG).await.unwrap();
    let subject = Subject::Inventory(fixture.host);
    eventually(LONG, "the first inventory", async || {
        fixture
            .bus
            .last(StreamName::Inventory, &subject)
            .await
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "none".to_owned())
    })
    .await;
    assert!(began.elapsed().unwrap() < LONG);
    fixture.agent.kill9().await;
}

#[tokio::test]
async fn a_stop_without_a_bus_is_in_time_and_loses_nothing() {
    let mut fixture = Fixture::without_bus(&[("INTERVAL_MS", "1000")]).await;
    eventually(LONG, "a sample in the spool", async || match fixture.spooled() {
        1.. => Ok(()),
        few => Err(few),
    })
    .await;
    let names = fixture.spool_names();
    let status = fixture.agent.sigterm(Duration::from_secs(10)).await;
    assert!(status.success() && !ended_by(status, nix::sys::signal::Signal::SIGKILL), "{status}");
    assert!(names.iter().all(|name| fixture.spool_names().contains(name)));
}
