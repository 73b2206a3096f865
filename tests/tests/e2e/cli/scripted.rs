//! The command line against a gateway that is made to lose connections and has no WebSocket: what a person sees, and what
//! is asked for twice.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use parking_lot::Mutex;
use pinacle_tests::{Sandbox, eventually, machine};
use serde_json::{Value, json};

use super::fixture::{Outcome, pinacle};

const OPERATION: &str = "op_2NxnYz0Gk2pVq8uVb3oZcX7fFqD";
const POD: &str = "pod_2NxnYz0Gk2pVq8uVb3oZcX7fFqD";
const HOST: &str = "host_2NxnYz0Gk2pVq8uVb3oZcX7fFqD";

/// What came in: the line of the request, its headers in lower case, its body.
type Asked = (String, BTreeMap<String, String>, String);

struct Scripted {
    address: SocketAddr,
    folder: Sandbox,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    /// Answers each request as `answer` says, which is told how many such requests came before; nothing = the connection
    /// is lost.
    fn start(answer: impl Fn(&str, usize) -> Option<(u16, Value)> + Send + 'static) -> Self {
        let folder = Sandbox::new();
        std::fs::write(folder.path().join("token"), "t".repeat(40)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let seen = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read(&stream);
                let before = seen.lock().iter().filter(|(line, ..): &&Asked| *line == request.0).count();
                let answer = answer(&request.0, before);
                seen.lock().push(request);
                let Some((status, body)) = answer else { continue };
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { address, folder, asked }
    }

    fn arguments(&self) -> [String; 4] {
        let token = self.folder.path().join("token").display().to_string();
        ["--gateway".into(), format!("http://{}", self.address), "--token-file".into(), token]
    }

    fn ask(&self, arguments: &[&str]) -> Outcome {
        let own = self.arguments();
        let all: Vec<&str> = own.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        pinacle(&all, &[])
    }

    fn in_background(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(machine::service("pinacle"));
        command.args(self.arguments()).args(arguments).current_dir("/");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
    }

    fn asked(&self, line: &str) -> Vec<Asked> {
        self.asked.lock().iter().filter(|(asked, ..)| asked.starts_with(line)).cloned().collect()
    }
}

fn read(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    (line, headers, String::from_utf8(body).unwrap())
}

fn step(label: &str, progress: &str, note: Option<&str>, cause: Option<&str>) -> Value {
    let ended = (progress != "running").then_some("2026-11-21T09:15:41.500Z");
    json!({ "label": label, "progress": progress, "note": note, "cause": cause,
            "started_at": "2026-11-21T09:15:40.000Z", "ended_at": ended })
}

fn operation(verb: &str, progress: &str, cause: Option<&str>, steps: Vec<Value>) -> Value {
    json!({ "operation_id": OPERATION, "kind": "pod", "target_id": POD, "verb": verb, "progress": progress,
            "cause": cause, "started_at": "2026-11-21T09:15:40.000Z", "steps": steps })
}

/// What every such gateway has: a pod on a host, and no WebSocket.
fn usual(line: &str) -> Option<(u16, Value)> {
    let pod = json!({ "pod_id": POD, "name": "web", "host_id": HOST, "phase": "running", "external_port": 30007 });
    let host = json!({ "host_id": HOST, "name": "alpha", "state": "online", "cause": "started", "cordoned": false,
                       "state_since": "2026-11-21T09:00:00Z", "admitted_at": "2026-11-21T09:00:00Z",
                       "facts": { "agent_version": "0.1.0", "os": "Debian", "kernel": "6", "architecture": "x86_64",
                                  "cpu_model": "x", "cpu_count": 2, "addresses": ["192.0.2.7"] } });
    match line {
        "POST /api/v1/pods" => Some((201, json!({ "operation_id": OPERATION, "request_id": "req_1", "pod": pod }))),
        line if line.starts_with("GET /api/v1/pods/") => Some((200, pod)),
        line if line.starts_with("GET /api/v1/hosts/") => Some((200, host)),
        _ => Some((404, json!({ "detail": "There is no such thing." }))),
    }
}

#[test]
fn a_creation_whose_answer_is_lost_is_asked_for_again_with_the_same_key() {
    let gateway = Scripted::start(|line, before| match line {
        "POST /api/v1/pods" if before < 2 => None,
        line => usual(line),
    });
    let answer = gateway.ask(&["pod", "create", "web", "--env", "A=1", "--no-wait", "--json"]).json();
    assert_eq!(answer["operation_id"], OPERATION);
    let asked = gateway.asked("POST /api/v1/pods");
    assert_eq!(asked.len(), 3);
    let key = &asked[0].1["idempotency-key"];
    assert!(key.len() > 30 && asked.iter().all(|(_, headers, _)| headers["idempotency-key"] == *key), "{asked:?}");
    let body: Value = serde_json::from_str(&asked[2].2).unwrap();
    assert_eq!(body, json!({ "name": "web", "tier": "dev.small", "restart": "always", "environment": { "A": "1" } }));
    // Another time it is another request, unless a person says that it is not.
    gateway.ask(&["pod", "create", "web", "--no-wait"]).ok();
    gateway.ask(&["pod", "create", "web", "--no-wait", "--idempotency-key", "mine"]).ok();
    let asked = gateway.asked("POST /api/v1/pods");
    assert!(asked[3].1["idempotency-key"] != *key && asked[4].1["idempotency-key"] == "mine", "{asked:?}");
}

#[test]
fn steps_are_told_as_they_happen_with_what_they_wait_for_and_at_the_end_where_the_pod_answers() {
    let waits = "waits: beta has 1.0 GiB of memory left, 2.0 GiB are needed";
    let gateway = Scripted::start(move |line, before| match line {
        "GET /api/v1/operations/op_2NxnYz0Gk2pVq8uVb3oZcX7fFqD" => Some((
            200,
            match before {
                0 => operation("create", "waiting", None, Vec::new()),
                1 => operation("create", "running", None, vec![step("place", "running", Some(waits), None)]),
                // Lost on the way, which is no reason to give up.
                2 => return None,
                3 => {
                    let steps = vec![step("place", "succeeded", None, None), step("container", "running", None, None)];
                    operation("create", "running", None, steps)
                }
                _ => {
                    let steps = ["place", "container", "answer"].map(|label| step(label, "succeeded", None, None));
                    operation("create", "succeeded", None, steps.into())
                }
            },
        )),
        line => usual(line),
    });
    let outcome = gateway.ask(&["pod", "create", "web"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(
        outcome.stdout.starts_with("web runs on alpha after ")
            && outcome.stdout.ends_with(": http://192.0.2.7:30007\n")
    );
    let told: Vec<&str> = outcome.stderr.lines().collect();
    let expected = [
        "waiting: starting",
        "place: starting",
        &format!("  place: {waits}"),
        "✔ place",
        "container: starting",
        "✔ container",
        "✔ answer",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    assert!(told.iter().zip(expected).all(|(told, expected)| told.starts_with(expected)), "{told:#?}");
    assert!(told[3].contains("1.5s"), "{told:#?}");
    // For programs: one object, and nothing else on standard output.
    let json = gateway.ask(&["pod", "create", "web", "--json"]).json();
    assert_eq!((&json["operation"]["progress"], &json["pod"]["external_port"]), (&json!("succeeded"), &json!(30007)));
}

#[test]
fn what_failed_is_told_with_its_cause_and_what_to_do() {
    let gateway = Scripted::start(|line, _| match line {
        "GET /api/v1/operations/op_2NxnYz0Gk2pVq8uVb3oZcX7fFqD" => {
            let cause = "alpha has no image debian:99 and could not pull it: manifest unknown";
            let steps = vec![step("place", "succeeded", None, None), step("image", "failed", None, Some(cause))];
            Some((200, operation("create", "failed", Some(cause), steps)))
        }
        line => usual(line),
    });
    let outcome = gateway.ask(&["pod", "create", "web", "--image", "debian:99"]);
    assert!(outcome.stderr.contains("✘ image"), "{outcome:?}");
    let line = outcome.refused(1);
    for part in ["web could not be created", "manifest unknown", "pinacle pod exec-log web --op op_"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    let outcome = gateway.ask(&["op", "show", OPERATION, "--follow", "--json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let told: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(told["operation"]["steps"][1]["progress"], "failed");
}

#[tokio::test]
async fn ctrl_c_ends_the_following_alone_and_says_how_to_come_back() {
    let gateway = Scripted::start(|line, _| match line {
        "GET /api/v1/operations/op_2NxnYz0Gk2pVq8uVb3oZcX7fFqD" => {
            Some((200, operation("create", "running", None, vec![step("place", "running", Some("waits"), None)])))
        }
        line => usual(line),
    });
    let child = gateway.in_background(&["pod", "create", "web"]);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    eventually(Duration::from_secs(20), "the operation to be followed", async || {
        if gateway.asked("GET /api/v1/operations/").len() > 2 { Ok(()) } else { Err(gateway.asked.lock().len()) }
    })
    .await;
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap().lines().last().unwrap().to_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{line}");
    assert!(line.contains(&format!("pinacle op cancel {OPERATION}")) && line.contains("goes on"), "{line}");
    assert!(gateway.asked("POST /api/v1/operations").is_empty());
}
