//! What the agent costs a host, beside prometheus-node-exporter on the same machine at the same time.
//!
//! The exporter is scraped as often as the agent samples, since it works only when asked. It knows nothing of
//! containers, so that it does less.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use pinacle_bus::{
    client::{Bus, Start},
    contract::{PodId, metrics::Metrics, topology::StreamName},
};
use pinacle_tests::{Docker, Launch, Nats, Process, Runtime, Sandbox, User, eventually, machine, process::http_get};
use tokio::time::{Instant, interval};

use crate::{
    report::Report,
    usage::{Usage, resident_mib},
};

const CONTAINERS: usize = 50;
/// How long to measure, in seconds; otherwise ten minutes, after which memory has settled.
const SECONDS: &str = "BENCH_AGENT_SECONDS";
const TEN_MINUTES: u64 = 600;
/// The agent's interval, and the exporter's scrapes.
const EVERY: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(120);

pub async fn run() -> Report {
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(TEN_MINUTES);
    let program = build();
    let exporter_program = machine::tool("prometheus-node-exporter");
    let nats = Nats::start().await;
    let bus = nats.bus_with_topology().await;
    let docker = Docker::start().await;
    for _ in 0..CONTAINERS {
        docker.run(Runtime::Runc, &[("pinacle.pod", &PodId::new().to_string())], &["sleep", "1000000"]);
    }
    println!("{CONTAINERS} containers run");

    let state = Sandbox::new();
    let agent = start_agent(&program, &nats, &docker, &state);
    let address = machine::free_address();
    let exporter = Launch::program(&exporter_program).arg(format!("--web.listen-address={address}")).spawn();
    eventually(LONG, "the exporter to answer", async || match http_get(address, "/metrics").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}").chars().take(200).collect::<String>()),
    })
    .await;
    eventually(LONG, "a sample of all containers", async || match newest_pods(&bus).await {
        CONTAINERS => Ok(()),
        few => Err(few),
    })
    .await;

    let (agent_usage, exporter_usage) = (Usage::begin(agent.pid()), Usage::begin(exporter.pid()));
    let (_, first) = bus.stream_bounds(StreamName::Metrics).await.unwrap();
    println!("measuring for {seconds} s");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut scrapes = interval(EVERY);
    while Instant::now() < end {
        scrapes.tick().await;
        http_get(address, "/metrics").await.unwrap();
    }
    let cpu = [agent_usage.cpu_percent(), exporter_usage.cpu_percent()];
    let memory = [resident_mib(agent.pid()), resident_mib(exporter.pid())];
    let (_, last) = bus.stream_bounds(StreamName::Metrics).await.unwrap();
    assert_eq!(newest_pods(&bus).await, CONTAINERS, "it samples all of them to the end");
    report(seconds, last - first, memory, cpu, [size_mib(&program), size_mib(&exporter_program)])
}

/// The static program, as it goes to hosts.
fn build() -> PathBuf {
    println!("building the static agent");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new(machine::tool("cargo"))
        .current_dir(machine::repository())
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--quiet", "--locked", "--profile", "agent", "-p", "pinacle-agent", "--target", &triple])
        .status()
        .unwrap();
    assert!(status.success(), "cargo cannot build the agent");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| machine::repository().join("target"), PathBuf::from);
    target.join(triple).join("agent/pinacle-agent")
}

fn start_agent(program: &Path, nats: &Nats, docker: &Docker, state: &Sandbox) -> Process {
    Launch::program(program)
        .envs(nats.env(User::host()))
        .env("PINACLE__AGENT__STATE_DIR", state.path().join("state"))
        .env("PINACLE__AGENT__DOCKER_SOCKET", docker.socket())
        .spawn()
}

/// How many pods the newest sample has.
async fn newest_pods(bus: &Bus) -> usize {
    let (first, last) = bus.stream_bounds(StreamName::Metrics).await.unwrap();
    if last < first {
        return 0;
    }
    let stored = bus.read(StreamName::Metrics, Start::Sequence(last), None).next().await.unwrap();
    stored.decode::<Metrics>().unwrap().pods.len()
}

fn size_mib(program: &Path) -> f64 {
    std::fs::metadata(program).unwrap().len() as f64 / 1024.0 / 1024.0
}

fn report(seconds: u64, samples: u64, memory: [f64; 2], cpu: [f64; 2], size: [f64; 2]) -> Report {
    let mut report = Report::new(
        "What the agent costs a host",
        &format!(
            "{CONTAINERS} containers run; the agent samples each {} s, and prometheus-node-exporter, which knows nothing of \
             containers, is scraped as often beside it. After {seconds} s and {samples} samples, each with all containers:",
            EVERY.as_secs()
        ),
    );
    let rows = [("resident memory, MiB", memory), ("CPU, percent of a core", cpu), ("program, MiB", size)];
    let rows = rows.map(|(what, [agent, exporter])| {
        vec![what.to_owned(), format!("{agent:.2}"), format!("{exporter:.2}"), format!("{:.2}", agent / exporter)]
    });
    report.table(&["", "agent", "node-exporter", "ratio"], &rows);
    report.goal("resident memory, MiB", memory[0], 8.0, false);
    report.goal("CPU, percent of a core", cpu[0], 0.2, false);
    report.goal("one static program, MiB", size[0], 8.0, false);
    report
}
