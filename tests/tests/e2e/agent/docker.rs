//! The agent and real containers under runc and gVisor, with a Docker that comes and goes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use pinacle_bus::{
    client::AskError,
    contract::{
        PodId, Subject,
        command::{FaultCode, LogChunk, Logs, Ping, Sample, TakeInventory},
        host::DockerState,
        inventory::{ContainerEntry, Inventory},
        metrics::{Metrics, PodSample},
        topology::StreamName,
    },
};
use pinacle_tests::{Docker, Runtime, eventually};
use tokio::time::Instant;

use super::{
    close, fault,
    fixture::{Fixture, LONG},
};

const MIB: f64 = 1024.0 * 1024.0;
/// What CPU time is measured over.
const MEASURED: Duration = Duration::from_secs(2);
const BURN: &str = "while :; do :; done";

async fn start(settings: &[(&str, &str)]) -> (Fixture, Docker) {
    let docker = Docker::start().await;
    let socket = docker.socket();
    let mut all = vec![("DOCKER_SOCKET", socket.to_str().unwrap())];
    all.extend(settings);
    (Fixture::start(&all).await, docker)
}

fn run(docker: &Docker, runtime: Runtime, options: &[&str], script: &str) -> (PodId, String) {
    let pod = PodId::new();
    let labels = [("pinacle.pod", &*pod.to_string()), ("pinacle.owner", "somebody")];
    let container = docker.run_with(runtime, &labels, options, &["sh", "-c", script]);
    (pod, container)
}

/// What the kernel says of a container, read by the test itself.
#[derive(Debug, Clone, Copy)]
struct Truth {
    at: Instant,
    cpu_seconds: f64,
    memory_bytes: f64,
    pids: f64,
    rx_bytes: u64,
    block_write_bytes: u64,
}

fn truth(pid: u32) -> Truth {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let root = Path::new("/sys/fs/cgroup");
    let two = root.join("cgroup.controllers").exists();
    let folder = |controller: &str| -> PathBuf {
        let wanted = if two { "" } else { controller };
        let line = table.lines().find(|line| line.split(':').nth(1) == Some(wanted)).unwrap();
        let path = line.rsplit(':').next().unwrap().trim_start_matches('/');
        if two { root.join(path) } else { root.join(controller).join(path) }
    };
    let read = |controller: &str, file: &str| fs::read_to_string(folder(controller).join(file)).unwrap_or_default();
    let number = |text: String| text.trim().parse::<f64>().unwrap();
    let key = |text: &str, key: &str| -> f64 {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        found.unwrap_or(0.0)
    };
    let (cpu_seconds, memory, inactive) = if two {
        (key(&read("", "cpu.stat"), "usage_usec ") / 1e6, number(read("", "memory.current")), "inactive_file ")
    } else {
        let usage = number(read("cpuacct", "cpuacct.usage")) / 1e9;
        (usage, number(read("memory", "memory.usage_in_bytes")), "total_inactive_file ")
    };
    let network = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    let eth0 = network.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
    let blocks = read("blkio", if two { "io.stat" } else { "blkio.throttle.io_service_bytes" });
    let written = blocks.split_whitespace().collect::<Vec<_>>();
    let block_write_bytes = written
        .iter()
        .enumerate()
        .filter_map(|(position, word)| match word.strip_prefix("wbytes=") {
            Some(bytes) => bytes.parse::<u64>().ok(),
            None if *word == "Write" => written.get(position + 1)?.parse().ok(),
            None => None,
        })
        .sum();
    Truth {
        at: Instant::now(),
        cpu_seconds,
        memory_bytes: memory - key(&read("memory", "memory.stat"), inactive),
        pids: number(read("pids", "pids.current")),
        rx_bytes: eth0.split_whitespace().next().unwrap().parse().unwrap(),
        block_write_bytes,
    }
}

/// Version 1 of recent kernels counts block traffic only while there is a limit on it.
fn block_limit(folder: &Path) -> Option<String> {
    let device = nix::sys::stat::stat(folder).unwrap().st_dev;
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let path = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let disk = if path.join("partition").exists() { path.parent()?.to_owned() } else { path };
    Some(format!("--device-write-bps=/dev/{}:1gb", disk.file_name()?.to_str()?))
}

fn pod(sample: &Metrics, pod: PodId) -> Option<&PodSample> {
    sample.pods.iter().find(|sample| sample.pod_id == pod)
}

/// A sample now that has all of these pods and the sizes of their disks.
async fn sample_of(fixture: &Fixture, pods: &[PodId]) -> Metrics {
    eventually(LONG, "a sample with all pods and their disks", async || {
        let sample = fixture.ask(&Sample {}).await.map_err(|error| format!("{error:?}"))?;
        let complete = pods.iter().all(|id| pod(&sample, *id).is_some_and(|found| found.disk_bytes.is_some()));
        if complete { Ok(sample) } else { Err(format!("{:?}", sample.pods)) }
    })
    .await
}

#[tokio::test]
async fn the_pods_figures_are_those_of_the_kernel_and_of_docker_under_runc_and_gvisor() {
    let (fixture, docker) = start(&[("INTERVAL_MS", "60000"), ("DISK_INTERVAL_SECONDS", "10")]).await;
    let limit = block_limit(docker.folder());
    let mut options = vec!["--cpus=0.3", "--memory=64m"];
    options.extend(limit.as_deref());
    let write = format!("dd if=/dev/zero of=/layer bs=1M count=8 oflag=direct; {BURN}");
    let (burner, burner_id) = run(&docker, Runtime::Runc, &options, &write);
    let hold = "dd if=/dev/zero of=/dev/shm/x bs=1M count=30; sleep 1000";
    let (holder, holder_id) = run(&docker, Runtime::Runc, &["--shm-size=64m"], hold);
    let gateway = docker.docker(&["inspect", "--format", "{{.NetworkSettings.Networks.lab.Gateway}}", &holder_id]);
    let talk = format!("while :; do ping -q -c 1 -s 1400 {gateway}; sleep 0.1; done");
    let (talker, talker_id) = run(&docker, Runtime::Runc, &[], &talk);
    let (sandbox, sandbox_id) = run(&docker, Runtime::Runsc, &["--cpus=0.3", "--memory=128m"], BURN);

    let pods = [(burner, burner_id), (holder, holder_id), (talker, talker_id), (sandbox, sandbox_id)];
    let ids = pods.each_ref().map(|(pod, _)| *pod);
    let pids = pods.each_ref().map(|(_, container)| docker.pid_of(container));
    sample_of(&fixture, &ids).await;
    // The agent measures from its sample before to this one: what the test reads just beside them is the same time.
    let earlier = fixture.ask(&Sample {}).await.unwrap();
    let before = pids.map(truth);
    tokio::time::sleep(MEASURED).await;
    let sample = fixture.ask(&Sample {}).await.unwrap();
    let after = pids.map(truth);

    for (((id, container), before), after) in pods.iter().zip(before).zip(after) {
        let figures = pod(&sample, *id).unwrap();
        let seconds = (after.at - before.at).as_secs_f64();
        let cpu = (after.cpu_seconds - before.cpu_seconds) / seconds * 100.0;
        close(&format!("CPU of {container}"), figures.cpu_percent, cpu, 6.0);
        close(&format!("memory of {container}"), figures.memory_bytes as f64, after.memory_bytes, 8.0 * MIB);
        close(&format!("pids of {container}"), figures.pids as f64, after.pids, 12.0);
        assert!((before.rx_bytes..=after.rx_bytes).contains(&figures.network_rx_bytes), "{figures:?} {after:?}");
        assert_eq!(figures.block_write_bytes, after.block_write_bytes, "of {container}");
        let shown = docker.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", container]);
        close(&format!("docker's memory of {container}"), figures.memory_bytes as f64, bytes(&shown), 8.0 * MIB);
    }
    let [burner, holder, talker, sandbox] = ids.map(|id| pod(&sample, id).unwrap());
    // A busy machine may not grant them all of their share.
    assert!((3.0..40.0).contains(&burner.cpu_percent) && (3.0..45.0).contains(&sandbox.cpu_percent));
    assert!(burner.throttled_ms > 0 && holder.throttled_ms == 0);
    assert_eq!((burner.memory_limit_bytes, holder.memory_limit_bytes), (Some(64 << 20), None));
    assert_eq!(sandbox.memory_limit_bytes, Some(128 << 20));
    assert!(holder.memory_bytes >= 30 << 20);
    assert!(talker.network_tx_bytes > pod(&earlier, talker.pod_id).unwrap().network_tx_bytes + 1400);
    assert!(burner.disk_bytes.unwrap() >= 8 << 20, "{burner:?}");
    assert!(limit.is_none() || burner.block_write_bytes >= 8 << 20, "{burner:?}");
}

/// `29.5MiB / 64MiB`
fn bytes(shown: &str) -> f64 {
    let used = shown.split(' ').next().unwrap();
    let digits = used.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match used.strip_prefix(digits).unwrap() {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => MIB,
        "GiB" => 1024.0 * MIB,
        other => panic!("unit {other:?} in {shown:?}"),
    };
    digits.parse::<f64>().unwrap() * unit
}

async fn inventory(fixture: &Fixture) -> Result<Inventory, String> {
    let subject = Subject::Inventory(fixture.host);
    let stored = fixture.bus.last(StreamName::Inventory, &subject).await.map_err(|error| error.to_string())?;
    stored.ok_or("none yet")?.decode().map_err(|error| error.to_string())
}

/// Waits for an inventory of which `wanted` is true.
async fn inventory_with(fixture: &Fixture, what: &str, wanted: impl Fn(&Inventory) -> bool) -> Inventory {
    eventually(LONG, what, async || {
        let inventory = inventory(fixture).await?;
        if wanted(&inventory) { Ok(inventory) } else { Err(format!("{:#?}", inventory.containers)) }
    })
    .await
}

fn entry<'a>(inventory: &'a Inventory, container: &str) -> Option<&'a ContainerEntry> {
    inventory.containers.iter().find(|entry| entry.container_id == container)
}

#[tokio::test]
async fn what_happens_to_containers_shows_in_the_inventory_at_once() {
    let (fixture, docker) = start(&[]).await;
    let state = |container: &str, state: &'static str| {
        let container = container.to_owned();
        move |inventory: &Inventory| entry(inventory, &container).is_some_and(|entry| entry.state == state)
    };
    let (pod, container) = run(&docker, Runtime::Runsc, &["--name=pinacle-pod-1"], "sleep 1000");
    let shown = inventory_with(&fixture, "the container to run", state(&container, "running")).await;
    let running = entry(&shown, &container).unwrap();
    assert_eq!((running.pod_id, running.owner.as_deref()), (Some(pod), Some("somebody")));
    assert_eq!((running.name.as_str(), running.runtime.as_deref()), ("pinacle-pod-1", Some("runsc")));
    assert!(running.started_at.is_some() && running.exit_code.is_none());
    assert!(shown.facts.docker_version.is_some());
    assert!(shown.facts.runtimes.iter().any(|runtime| runtime == "runsc"), "{:?}", shown.facts.runtimes);
    let network = shown.networks.iter().find(|network| network.name == "lab").unwrap();
    assert_eq!((network.driver.as_str(), network.subnets.len()), ("bridge", 1));
    assert!(shown.images.iter().any(|image| image.tags.contains(&pinacle_tests::docker::IMAGE.to_owned())));

    docker.docker(&["kill", &container]);
    let shown = inventory_with(&fixture, "the container to have ended", state(&container, "exited")).await;
    assert_eq!(entry(&shown, &container).unwrap().exit_code, Some(137));

    let (_, hungry) = run(&docker, Runtime::Runc, &["--memory=16m", "--memory-swap=16m"], "tail /dev/zero");
    let shown = inventory_with(&fixture, "the hungry one to have ended", state(&hungry, "exited")).await;
    assert!(entry(&shown, &hungry).unwrap().oom_killed);

    docker.remove(&[&container]);
    inventory_with(&fixture, "the container to be gone", |inventory| entry(inventory, &container).is_none()).await;
    docker.docker(&["tag", pinacle_tests::docker::IMAGE, "another:1"]);
    inventory_with(&fixture, "the new tag", |inventory| {
        inventory.images.iter().any(|image| image.tags.contains(&"another:1".to_owned()))
    })
    .await;
    docker.docker(&[
        "network",
        "create",
        "--subnet",
        "10.214.3.0/24",
        "--label",
        &format!("pinacle.pod={pod}"),
        "mine",
    ]);
    let shown = inventory_with(&fixture, "the new network", |inventory| {
        inventory.networks.iter().any(|network| network.name == "mine")
    })
    .await;
    let network = shown.networks.iter().find(|network| network.name == "mine").unwrap();
    assert_eq!((network.pod_id, network.subnets.as_slice()), (Some(pod), &["10.214.3.0/24".to_owned()][..]));
    docker.docker(&["network", "rm", "mine"]);
}

async fn docker_is(fixture: &mut Fixture, what: &str, wanted: impl Fn(&DockerState) -> bool) {
    eventually(LONG, what, async || {
        let heartbeat = fixture.next_heartbeat().await;
        if wanted(&heartbeat.docker) { Ok(()) } else { Err(heartbeat.docker) }
    })
    .await;
}

#[tokio::test]
async fn a_docker_that_dies_is_told_while_its_pods_are_sampled_on_and_found_again() {
    let (mut fixture, mut docker) = start(&[("INTERVAL_MS", "1000")]).await;
    let (pod_id, container) = run(&docker, Runtime::Runc, &[], "sleep 1000");
    sample_of(&fixture, &[pod_id]).await;
    docker_is(&mut fixture, "docker to be up", |state| matches!(state, DockerState::Up { .. })).await;

    docker.kill9().await;
    docker_is(&mut fixture, "docker to be down", |state| matches!(state, DockerState::Down { .. })).await;
    let last = fixture.next_sample(None).await;
    let after = fixture.next_sample(Some(&last)).await;
    assert!(pod(&after, pod_id).is_some(), "its container runs on, and is sampled on");

    docker.restart().await;
    docker_is(&mut fixture, "docker to be up again", |state| matches!(state, DockerState::Up { .. })).await;
    docker.docker(&["restart", "--time=0", &container]);
    let pid = docker.pid_of(&container);
    sample_of(&fixture, &[pod_id]).await;
    let now = truth(pid);
    let sample = sample_of(&fixture, &[pod_id]).await;
    close("memory of the new process", pod(&sample, pod_id).unwrap().memory_bytes as f64, now.memory_bytes, MIB);
}

#[tokio::test]
async fn logs_are_read_from_the_end_from_a_time_and_as_they_come() {
    let (fixture, docker) = start(&[]).await;
    let script = "for i in 1 2 3 4 5; do echo line $i; done; echo wrong >&2; while ! [ -e /go ]; do sleep 0.1; done; \
        echo later; exit 3";
    let (pod_id, container) = run(&docker, Runtime::Runc, &[], script);
    let logs = |tail, since, follow_seconds| Logs { pod_id, tail, since, follow_seconds };
    let read = async |wanted: Logs| -> LogChunk { fixture.ask(&wanted).await.unwrap() };
    let texts = |chunk: &LogChunk| chunk.lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>();

    let all = eventually(LONG, "six lines", async || {
        let chunk = fixture.ask(&logs(100, None, 0)).await.map_err(|error| format!("{error:?}"))?;
        if chunk.lines.len() == 6 { Ok(chunk) } else { Err(format!("{:?}", chunk.lines)) }
    })
    .await;
    assert!(all.end && !all.truncated);
    let streams: BTreeMap<_, _> = all.lines.iter().map(|line| (line.text.as_str(), line.stream.as_str())).collect();
    assert_eq!((streams["line 1"], streams["wrong"]), ("stdout", "stderr"));
    assert_eq!(read(logs(2, None, 0)).await.lines.len(), 2);
    let since = all.lines.last().unwrap().at;
    assert!(read(logs(100, since, 0)).await.lines.iter().all(|line| line.at >= since));

    let mut replies = fixture.bus.ask_for_many(fixture.host, &logs(1, None, 60)).await.unwrap();
    let first = replies.next(LONG).await.unwrap();
    assert_eq!((first.sequence, first.lines.len(), first.end), (0, 1, false));
    docker.exec(&container, &["touch", "/go"]);
    let mut seen = Vec::new();
    for sequence in 1.. {
        let chunk = replies.next(LONG).await.unwrap();
        assert_eq!(chunk.sequence, sequence);
        seen.extend(texts(&chunk));
        if chunk.end {
            break;
        }
    }
    assert_eq!(seen, ["later"], "and the end of the container ends it");
    assert_eq!(read(logs(1, None, 0)).await.lines[0].text, "later", "what a container said last can be read later");

    let other = Logs { pod_id: PodId::new(), ..logs(1, None, 0) };
    assert_eq!(fault(fixture.ask(&other).await), FaultCode::NotFound);
}

#[tokio::test]
async fn a_log_that_is_too_long_is_cut_at_its_beginning() {
    let (fixture, docker) = start(&[]).await;
    let (pod_id, container) =
        run(&docker, Runtime::Runc, &[], "yes 0123456789abcdef0123456789abcdef | head -n 20000; echo over");
    docker.docker(&["wait", &container]);
    let wanted = Logs { pod_id, tail: 10_000, since: None, follow_seconds: 0 };
    let chunk = eventually(LONG, "the whole log", async || {
        let chunk = fixture.ask(&wanted).await.map_err(|error| format!("{error:?}"))?;
        let last = chunk.lines.last().map(|line| line.text.clone());
        if last.as_deref() == Some("over") { Ok(chunk) } else { Err(format!("{last:?}")) }
    })
    .await;
    assert!(chunk.truncated && chunk.lines.len() > 1000 && chunk.lines.len() < 10_000, "{}", chunk.lines.len());
}

#[tokio::test]
async fn an_inventory_that_is_asked_for_is_no_older_than_the_question() {
    let (fixture, docker) = start(&[]).await;
    let (_, container) = run(&docker, Runtime::Runc, &[], BURN);
    for (command, state) in [("pause", "paused"), ("unpause", "running"), ("kill", "exited"), ("start", "running")] {
        docker.docker(&[command, &container]);
        let inventory = fixture.ask(&TakeInventory {}).await.unwrap();
        let entry = entry(&inventory, &container).unwrap_or_else(|| panic!("{inventory:#?}"));
        assert_eq!(entry.state, state, "after {command}");
    }
    docker.docker(&["rm", "--force", &container]);
    let inventory = fixture.ask(&TakeInventory {}).await.unwrap();
    assert_eq!(entry(&inventory, &container), None);
}

#[tokio::test]
async fn commands_that_last_delay_neither_heartbeats_nor_other_commands() {
    let (mut fixture, mut docker) = start(&[]).await;
    let (pod_id, container) = run(&docker, Runtime::Runc, &[], "while :; do echo busy; sleep 0.01; done");
    inventory_with(&fixture, "the container to show", |inventory| entry(inventory, &container).is_some()).await;
    let wanted = Logs { pod_id, tail: 1, since: None, follow_seconds: 60 };
    let mut followed = Vec::new();
    for _ in 0..8 {
        let mut replies = fixture.bus.ask_for_many(fixture.host, &wanted).await.unwrap();
        replies.next(LONG).await.unwrap();
        followed.push(replies);
    }
    let ninth: Result<_, AskError> = fixture.ask(&wanted).await;
    assert_eq!(fault(ninth), FaultCode::Busy);

    let mut last = (fixture.next_heartbeat().await, Instant::now());
    for _ in 0..3 {
        assert_eq!(fixture.ask(&Ping {}).await.unwrap().host_id, fixture.host);
        let next = fixture.next_heartbeat().await;
        assert_eq!(next.sequence, last.0.sequence + 1);
        let gap = last.1.elapsed();
        assert!(gap < Duration::from_millis(6500), "{gap:?} between two heartbeats");
        last = (next, Instant::now());
    }

    // A stop ends them all, even when Docker hangs just then.
    docker.process().signal(Signal::SIGSTOP);
    let hung = fixture.bus.ask_for_many(fixture.host, &Logs { follow_seconds: 0, ..wanted }).await.unwrap();
    let looking = fixture.bus.ask_for_many(fixture.host, &TakeInventory {}).await.unwrap();
    let status = fixture.agent.sigterm(Duration::from_secs(10)).await;
    docker.process().signal(Signal::SIGCONT);
    assert!(status.success(), "{status}");
    drop((hung, looking));
    for mut replies in followed {
        while !replies.next(LONG).await.unwrap().end {}
    }
}
