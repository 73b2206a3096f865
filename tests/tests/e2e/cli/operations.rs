//! Pods and operations from the command line, against a real gateway and orchestrator without a host: what waits, says
//! why, and can be cancelled.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use pinacle_tests::{Sandbox, Stack, eventually, machine, stack::ADMIN_TOKEN};
use serde_json::Value;

use super::fixture::{Outcome, pinacle};

const PATIENCE: Duration = Duration::from_secs(30);

struct Cli {
    stack: Stack,
    folder: Sandbox,
}

impl Cli {
    async fn start() -> Self {
        let folder = Sandbox::new();
        std::fs::write(folder.path().join("token"), ADMIN_TOKEN).unwrap();
        let key = folder.path().join("key");
        let mut keygen = Command::new(machine::tool("ssh-keygen"));
        assert!(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap().success());
        let key = format!("file:{}", key.display());
        let stack = Stack::builder().orchestrator(1).ingest(1).gateway(1).set("orchestrator.ssh_key", &key);
        Self { stack: stack.start().await, folder }
    }

    fn arguments(&self) -> [String; 4] {
        let token = self.folder.path().join("token").display().to_string();
        ["--gateway".into(), format!("http://{}", self.stack.gateway(1)), "--token-file".into(), token]
    }

    fn ask(&self, arguments: &[&str]) -> Outcome {
        let own = self.arguments();
        let all: Vec<&str> = own.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        pinacle(&all, &[])
    }

    fn phase(&self, pod: &str) -> String {
        let outcome = self.ask(&["pod", "show", pod, "--json"]);
        serde_json::from_str::<Value>(&outcome.stdout)
            .map_or_else(|_| outcome.stderr.clone(), |pod| pod["phase"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn a_creation_says_what_it_waits_for_and_is_cancelled_from_another_terminal() {
    let cli = Cli::start().await;
    let mut first = tokio::process::Command::new(machine::service("pinacle"));
    first.args(cli.arguments()).args(["pod", "create", "web"]).current_dir("/").stdin(Stdio::null());
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();

    let id = eventually(PATIENCE, "the creation to wait and say why", async || {
        let operations = cli.ask(&["op", "ls", "--pod", "web", "--json"]);
        let operations: Value = serde_json::from_str(&operations.stdout).map_err(|_| operations.stderr.clone())?;
        let id = operations[0]["operation_id"].as_str().ok_or_else(|| operations.to_string())?.to_owned();
        let shown = cli.ask(&["op", "show", &id, "--json"]).json();
        if shown["steps"][0]["note"].is_string() { Ok(id) } else { Err(shown.to_string()) }
    })
    .await;
    let shown = cli.ask(&["op", "show", &id]).ok();
    assert!(shown.contains("place") && shown.contains("create pod web"), "{shown}");
    let pod = cli.ask(&["pod", "show", "web"]).ok();
    assert!(pod.contains("placing") && pod.contains("create is under way") && pod.contains(&id), "{pod}");

    assert!(cli.ask(&["op", "cancel", &id]).ok().contains("is cancelled"));
    let output = first.wait_with_output().await.unwrap();
    let (said, line) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    assert_eq!((output.status.code(), line.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("place: starting") && said.lines().last().unwrap().contains("was not created"), "{said}");
    assert_eq!(cli.ask(&["op", "ls", "--progress", "cancelled", "--json"]).json()[0]["operation_id"], id.as_str());
    // What has ended cannot be cancelled.
    cli.ask(&["op", "cancel", &id]).refused(1);
}

#[tokio::test]
async fn requests_are_taken_once_for_each_key_and_refused_with_the_reason() {
    let cli = Cli::start().await;
    let create = ["pod", "create", "web", "--no-wait", "--json", "--idempotency-key", "one"];
    let first = cli.ask(&create).json();
    let again = cli.ask(&create).json();
    assert_eq!((&first["operation_id"], &first["pod"]["pod_id"]), (&again["operation_id"], &again["pod"]["pod_id"]));
    assert_eq!(cli.ask(&["pod", "ls", "--json"]).json().as_array().unwrap().len(), 1);
    // The name is taken.
    cli.ask(&["pod", "create", "web", "--no-wait"]).refused_at_once(1);
    for (arguments, word) in [
        (&["pod", "create", "We b"][..], "a-z"),
        (&["pod", "create", "other", "--tier", "huge"], "dev.small"),
        (&["pod", "create", "other", "--image", "two words"], "image"),
    ] {
        let line = cli.ask(arguments).refused_at_once(2);
        assert!(line.contains(word), "{line}");
    }
    for arguments in [
        &["pod", "create", "other", "--host", "nowhere"][..],
        &["pod", "start", "nowhere"],
        &["pod", "rm", "nowhere", "--yes"],
        &["pod", "exec-log", "nowhere"],
        &["op", "show", "op_2NxnYz0Gk2pVq8uVb3oZcX7fFqD"],
        &["op", "cancel", "op_2NxnYz0Gk2pVq8uVb3oZcX7fFqD"],
        &["host", "cordon", "nowhere"],
        &["host", "label", "nowhere", "zone=north"],
        &["host", "exec-log", "nowhere"],
    ] {
        cli.ask(arguments).refused_at_once(1);
    }
    assert!(cli.ask(&["status", "--json"]).json().is_array());

    let id = first["operation_id"].as_str().unwrap();
    cli.ask(&["op", "cancel", id]).ok();
    let line = cli.ask(&["pod", "rm", "web", "--yes"]).ok();
    assert!(line.contains("web is deleted"), "{line}");
    eventually(PATIENCE, "the pod to be gone", async || match cli.phase("web") {
        phase if phase == "deleted" || phase.contains("pinacle: ") => Ok(()),
        other => Err(other),
    })
    .await;
}
