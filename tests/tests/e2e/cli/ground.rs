//! `pinacle up` on a machine that runs pods, and on one that cannot.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use pinacle_tests::{docker, eventually, machine, process::http_get};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::fixture::{FOR_PODS, Installation, kill9};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn without_gvisor_in_docker_one_line_says_so_and_the_machine_is_watched_all_the_same() {
    let installation = Installation::new();
    let socket = installation.sandbox.path().join("other.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"Runtimes\":{\"runc\":{\"path\":\"runc\"}}}");
        }
    });
    let installation =
        installation.with("PINACLE__UP__PODS", "true").with("PINACLE__UP__DOCKER_SOCKET", socket.to_str().unwrap());
    let mut up = installation.up().await;
    let log = up.log_text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("no pods on this machine")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    // What is missing is told to whom it concerns.
    let expected = if machine::is_root() { "no runtime runsc" } else { "takes root" };
    assert!(lines[0].contains(expected), "{log}");
    assert!(FOR_PODS.iter().all(|part| installation.pid(part).is_none()), "{log}");
    eventually(PATIENCE, "the host to be online", async || {
        let hosts = installation.ask(&["host", "ls", "--json"]).json();
        if hosts[0]["state"] == "online" { Ok(()) } else { Err(hosts) }
    })
    .await;
    installation.stop(&mut up, Signal::SIGINT).await;
}

#[tokio::test]
async fn a_second_installation_leaves_pods_and_docker_to_the_first() {
    assert!(machine::is_root(), "tests with Docker take root: run the tests with sudo");
    let _turn = docker::turn().await;
    let installation = Installation::new().with_pods();
    let first = Path::new("/run/pinacle/first");
    fs::create_dir_all(first).unwrap();
    let listener = UnixListener::bind(first.join("docker.sock"));
    let mut up = installation.up().await;
    fs::remove_dir_all(first).unwrap();
    drop(listener.unwrap());
    let log = up.log_text();
    assert!(log.contains("another Pinacle runs pods here, by /run/pinacle/first/docker.sock: stop that one"), "{log}");
    assert!(FOR_PODS.iter().all(|part| installation.pid(part).is_none()), "{log}");
    assert!(installation.ask(&["host", "ls", "--json"]).json()[0]["state"] == "online", "{log}");
    installation.stop(&mut up, Signal::SIGINT).await;
}

#[tokio::test]
async fn a_sample_pod_runs_in_docker_under_gvisor_and_every_later_start_finds_it_again() {
    assert!(machine::is_root(), "tests with Docker take root: run the tests with sudo");
    let _turn = docker::turn().await;
    let installation = Installation::new().with_pods();
    small_base_image(&installation.data().join("images"));
    let mut up = installation.up().await;
    let sample = installation.ask(&["pod", "show", "sample", "--json"]).json();
    assert_eq!(sample["phase"], "running", "{}", up.tail());
    let answer = answer_of(&sample).await;
    assert!(answer.contains("it answers"), "{answer}");
    assert!(up.log_text().contains(&format!("http://127.0.0.1:{}", sample["external_port"])), "{}", up.tail());
    let runtime = in_docker(&installation, &["inspect", "--format", "{{.HostConfig.Runtime}}", &container(&sample)]);
    assert_eq!(runtime, "runsc");
    what_was_done_is_on_record(&installation);

    let before = installation.pids();
    assert!(FOR_PODS.iter().all(|part| before.contains_key(*part)), "{before:?}");
    installation.stop(&mut up, Signal::SIGINT).await;
    assert!(!installation.run_folder().exists());

    // Its container has ended with Docker; the next start has it run again, the same one.
    up.restart().await;
    assert!(up.log_text().contains("answers at"), "{}", up.tail());
    let again = installation.ask(&["pod", "ls", "--json"]).json();
    assert_eq!((again.as_array().unwrap().len(), &again[0]["pod_id"]), (1, &sample["pod_id"]));
    assert!(answer_of(&again[0]).await.contains("it answers"));

    // Killed, it leaves nothing running either.
    let pids = installation.pids();
    up.kill9().await;
    installation.none_runs(&pids).await;
    up.restart().await;
    assert!(answer_of(&sample).await.contains("it answers"));

    // Once deleted it stays away.
    let line = installation.ask(&["pod", "rm", "sample"]).refused_at_once(2);
    assert!(line.contains("--yes") && line.contains("volumes"), "{line}");
    assert!(installation.ask(&["pod", "rm", "sample", "--yes"]).ok().contains("sample is deleted"));
    assert_eq!(in_docker(&installation, &["ps", "--all", "--quiet"]), "");
    installation.stop(&mut up, Signal::SIGTERM).await;
    up.restart().await;
    assert_eq!(in_docker(&installation, &["ps", "--all", "--quiet"]), "");
    installation.stop(&mut up, Signal::SIGINT).await;
}

#[tokio::test]
async fn its_own_docker_and_ssh_server_end_with_it_whatever_way_it_ends() {
    assert!(machine::is_root(), "tests with Docker take root: run the tests with sudo");
    let _turn = docker::turn().await;
    let installation = Installation::new().with_pods();
    small_base_image(&installation.data().join("images"));
    // Of another installation that was killed and never came back.
    let other = Path::new("/run/pinacle/killed");
    fs::create_dir_all(other).unwrap();
    fs::write(other.join("filter-was-clear"), "").unwrap();
    assert!(Command::new(machine::tool("iptables")).args(["-N", "DOCKER-USER"]).status().unwrap().success());
    // As after a sample pod that was deleted.
    let sample = json!({ "key": "one", "pod_id": "pod_2NxnYz0Gk2pVq8uVb3oZcX7fFqD" });
    fs::write(installation.data().join("sample.json"), sample.to_string()).unwrap();
    let mut up = installation.up().await;
    assert!(installation.ask(&["host", "ls", "--json"]).json()[0]["state"] == "online", "{}", up.tail());

    // The very way to a host: the orchestrator's key, commands and nothing else, and Docker at hand.
    let let_in = installation.run_folder().join("authorized_keys");
    let shown = installation.ask(&["ssh-key", "show", "--json"]).json();
    let line = format!("restrict {}\n", shown["public_key"].as_str().unwrap());
    assert_eq!(fs::read_to_string(&let_in).unwrap(), line);
    let mine = installation.data().join("secrets/mine");
    let made =
        Command::new(machine::tool("ssh-keygen")).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&mine).status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(mine.with_extension("pub")).unwrap();
    fs::write(&let_in, format!("{line}restrict {public}")).unwrap();
    assert_eq!(ssh(&installation, "mine", &["docker", "info", "--format", "{{.ServerVersion}}"]).0, Some(0));
    assert_eq!(ssh(&installation, "ssh_host_key", &["true"]).0, Some(255), "another key is let in");
    let forwarding = ssh(&installation, "mine", &["-W", "127.0.0.1:1"]);
    assert!(forwarding.0 != Some(0) && forwarding.1.contains("prohibited"), "{forwarding:?}");

    let image = installation.data().join("images/base.tar");
    in_docker(&installation, &["load", "--input", image.to_str().unwrap()]);
    let run = ["run", "--detach", "--runtime", "runsc", "--network", "none", "pinacle/base:1"];
    let bridge = ["-o", "com.docker.network.bridge.name=pinacle247", "--subnet", "10.249.247.0/24"];
    in_docker(&installation, &[&["network", "create"][..], &bridge, &["pinacle-net-test"]].concat());
    assert!(rules().contains("pinacle247"));
    for ending in [Some(Signal::SIGINT), None] {
        in_docker(&installation, &run);
        let pids = installation.pids();
        assert!(FOR_PODS.iter().all(|part| pids.contains_key(*part)), "{pids:?}");
        match ending {
            Some(signal) => installation.stop(&mut up, signal).await,
            None => {
                up.kill9().await;
                installation.none_runs(&pids).await;
            }
        }
        up.restart().await;
        // The containers are there, and have ended.
        assert!(!in_docker(&installation, &["ps", "--all", "--quiet"]).is_empty());
        assert_eq!(in_docker(&installation, &["ps", "--quiet"]), "");
    }
    // Docker killed by itself comes back, and ends what it had left running.
    in_docker(&installation, &run);
    kill9(installation.pid("docker").unwrap());
    eventually(PATIENCE, "docker to be back", async || up.log_text().contains("docker is back")).await;
    assert_eq!(in_docker(&installation, &["ps", "--quiet"]), "");
    in_docker(&installation, &run);
    installation.stop(&mut up, Signal::SIGTERM).await;
    fs::remove_dir_all(other).unwrap();
    assert!(!installation.run_folder().exists());
    assert!(!Path::new("/sys/class/net/pinacle247").exists());
    let left = rules();
    assert!(!left.contains("DOCKER") && !left.contains("pinacle"), "{left}");
}

/// The machine's packet filter.
fn rules() -> String {
    let output = Command::new(machine::tool("iptables-save")).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command through the installation's SSH server: its exit code, and what went wrong.
fn ssh(installation: &Installation, key: &str, command: &[&str]) -> (Option<i32>, String) {
    let port = fs::read_to_string(installation.data().join("run/ssh.port")).unwrap();
    let output = Command::new(machine::tool("ssh"))
        .args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-p", port.trim(), "-l", "root", "-i"])
        .arg(installation.data().join("secrets").join(key))
        .args(if command[0] == "-W" { command } else { &[] })
        .arg("127.0.0.1")
        .args(if command[0] == "-W" { &[] } else { command })
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn container(pod: &serde_json::Value) -> String {
    format!("pinacle-pod-{}", pod["pod_id"].as_str().unwrap())
}

async fn answer_of(pod: &serde_json::Value) -> String {
    let address = format!("127.0.0.1:{}", pod["external_port"]).parse().unwrap();
    eventually(PATIENCE, "the pod to answer", async || match http_get(address, "/").await {
        Ok((200, body)) => Ok(body),
        other => Err(other),
    })
    .await
}

fn in_docker(installation: &Installation, arguments: &[&str]) -> String {
    let host = format!("unix://{}", installation.run_folder().join("docker.sock").display());
    let output = Command::new(machine::tool("docker")).env("DOCKER_HOST", host).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn what_was_done_is_on_record(installation: &Installation) {
    let commands = installation.ask(&["pod", "exec-log", "sample", "--json"]).json_lines();
    assert!(commands.iter().any(|command| command["exit_code"] == 0 && command["step"] == "container"), "{commands:?}");
    assert!(installation.ask(&["pod", "exec-log", "sample"]).ok().contains("docker"));
    a_command_leads_back_to_the_click_and_the_click_to_every_command(installation, &commands);
    assert!(installation.ask(&["pod", "events", "sample"]).ok().contains("running"));
    assert!(installation.ask(&["pod", "logs", "sample"]).ok().contains("the first word"));
    for follow in [&["pod", "logs", "sample", "-f"][..], &["pod", "exec-log", "sample", "-f", "--limit", "1"]] {
        let mut child = installation.in_background(follow);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(line.contains("the first word") || line.contains("answer: "), "{follow:?}: {line}");
    }
    let operations = installation.ask(&["op", "ls", "--pod", "sample", "--json"]).json();
    assert_eq!(operations[0]["progress"], "succeeded");
}

/// An archive as `docker save` writes one, of busybox and a page, under the base image's name.
fn small_base_image(images: &Path) {
    let root = images.join("root");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "run", "www"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    fs::write(root.join("www/index.html"), "it answers\n").unwrap();
    fs::copy(machine::tool("busybox"), root.join("bin/busybox")).unwrap();
    for applet in ["sh", "httpd", "true", "wget", "echo", "cat", "sleep"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    pack(&root, &images.join("layer.tar"), &["."]);
    let layer = fs::read(images.join("layer.tar")).unwrap();
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "echo the first word; exec httpd -f -p 80 -h /www"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    fs::write(images.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["pinacle/base:1"], "Layers": ["layer.tar"] }]);
    fs::write(images.join("manifest.json"), manifest.to_string()).unwrap();
    pack(images, &images.join("base.tar"), &["manifest.json", "config.json", "layer.tar"]);
}

fn pack(folder: &Path, archive: &Path, files: &[&str]) {
    let status =
        Command::new(machine::tool("tar")).arg("-C").arg(folder).arg("-cf").arg(archive).args(files).status().unwrap();
    assert!(status.success());
}

/// From a command that ran on the host: its operation, its request, the entry of the audit log, the click; and back.
fn a_command_leads_back_to_the_click_and_the_click_to_every_command(installation: &Installation, commands: &[Value]) {
    let command = commands.iter().find(|command| command["step"] == "container").unwrap();
    let operation = command["operation_id"].as_str().unwrap();
    let request = installation.ask(&["op", "show", operation, "--json"]).json()["request_id"].clone();
    let request = request.as_str().unwrap().to_owned();
    let by_operation = installation.ask(&["audit", "trace", operation, "--json"]).json();
    let entry = by_operation["entries"][0].clone();
    assert_eq!((&entry["action"], &entry["actor"]), (&json!("pod_create"), &json!("installation")), "{entry}");
    assert_eq!(
        (&entry["operation_id"], &entry["bus_request_id"], &entry["outcome"]),
        (&json!(operation), &json!(request), &json!("accepted")),
    );
    let click = entry["request_id"].as_str().unwrap();
    let of_operation: Vec<&Value> = commands.iter().filter(|it| it["operation_id"] == operation).collect();
    for from in [click, &request, entry["audit_id"].as_str().unwrap(), operation] {
        let trail = installation.ask(&["audit", "trace", from, "--json"]).json();
        assert_eq!(trail["entries"], by_operation["entries"], "from {from}");
        let mut ran: Vec<&Value> = trail["operations"][0]["commands"].as_array().unwrap().iter().collect();
        assert_eq!(ran.len(), of_operation.len(), "from {from}");
        ran.retain(|it| it["sequence"] == command["sequence"]);
        assert_eq!(ran[0]["command"], command["command"], "from {from}");
    }
    let tree = installation.ask(&["audit", "trace", click]).ok();
    for part in [click, operation, &request, "docker create", "container succeeded"] {
        assert!(tree.contains(part), "no {part} in {tree}");
    }
    assert!(installation.ask(&["audit", "verify"]).ok().contains("each as it was written"));
}
