//! Each role has what it needs and nothing else: in a flow through all services the server refuses nothing, and every
//! subject of every grant is used.

use std::collections::{BTreeMap, BTreeSet};

use pinacle_bus::contract::{HostId, Subject, grant::Role};
use pinacle_tests::{Launch, Stack, User, eventually, stack::ADMIN_TOKEN};
use reqwest::Method;
use serde_json::{Value, json};

use super::LONG;

/// What clients said, by the name of their connection: publications and subscriptions.
type Said = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

fn read(log: &str) -> Said {
    let mut said = Said::new();
    for line in log.lines() {
        let Some((head, operation)) = line.split_once("<<- [") else { continue };
        let Some(name) = head.split_once(":rust:").and_then(|(_, rest)| rest.split('"').next()) else { continue };
        let mut words = operation.trim_end_matches(']').split_whitespace();
        let (Some(verb), Some(subject)) = (words.next(), words.next()) else { continue };
        let (published, subscribed) = said.entry(name.to_owned()).or_default();
        match verb {
            "PUB" | "HPUB" => published.insert(subject.to_owned()),
            "SUB" => subscribed.insert(subject.to_owned()),
            _ => false,
        };
    }
    said
}

fn covers(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

/// Whether this flow cannot bring about the use of it. Each has a reason.
fn is_for_other_days(subject: &str) -> bool {
    // Pods that run take hosts with SSH; tests in the lab go there with the same grants.
    let of_pods = ["pinacle.v1.exec.", "pinacle.v1.cmd.*.logs", "EXEC", "$KV.ledger.", "DIRECT.GET.KV_ledger"];
    // A flow that broke off is made anew; what is there already is changed rather than made.
    let when_broken = ["CONSUMER.CREATE.", "CONSUMER.DELETE.", "STREAM.CREATE.", "STREAM.UPDATE."];
    // Asked for when another copy left something behind, or a person sets a host's terms or removes it.
    let when_asked = ["GET.HEARTBEATS", "GET.INVENTORY", "GET.REQUESTS", "STREAM.PURGE.", "pinacle.v1.cmd.*.inventory"];
    // Asked for when a sample names a pod before its record has come.
    let when_early = ["DIRECT.GET.KV_pods"];
    // One kind of message that nobody can read stands for all.
    let bad_messages = ["pinacle.v1.dead.", "pinacle.v1.host.*.inventory"];
    of_pods
        .iter()
        .chain(&when_broken)
        .chain(&when_asked)
        .chain(&when_early)
        .chain(&bad_messages)
        .any(|part| subject.contains(part))
}

/// What is granted and was not used.
fn unused(granted: &[String], said: &BTreeSet<String>) -> Vec<String> {
    let is_used = |filter: &String| said.iter().any(|subject| covers(filter, subject));
    granted.iter().filter(|filter| !is_used(filter) && !is_for_other_days(filter)).cloned().collect()
}

async fn ask(stack: &Stack, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
    // Already installed is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut request = reqwest::Client::new()
        .request(method, format!("http://{}/api/v1{path}", stack.gateway(1)))
        .bearer_auth(ADMIN_TOKEN);
    if let Some(body) = body {
        request = request.json(&body).header("idempotency-key", "used");
    }
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if status.is_success() { Ok(serde_json::from_str(&text).unwrap()) } else { Err(format!("{status}: {text}")) }
}

/// What people do with one host that runs no pods, and what goes wrong meanwhile.
async fn live_a_little(stack: &Stack) {
    let host = eventually(LONG, "a host that is online", async || {
        let hosts = ask(stack, Method::GET, "/hosts", None).await?;
        let host = &hosts["items"][0];
        if host["state"] == "online" {
            Ok(host["host_id"].as_str().unwrap().to_owned())
        } else {
            Err(hosts.to_string())
        }
    })
    .await;
    ask(stack, Method::POST, &format!("/hosts/{host}/commands/ping"), None).await.unwrap();
    ask(stack, Method::POST, "/pods", Some(json!({ "name": "waits" }))).await.unwrap();
    eventually(LONG, "what the reconcilers say", async || {
        let found = ask(stack, Method::GET, "/reconcilers", None).await?;
        if found.as_object().is_some_and(|found| !found.is_empty()) { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    eventually(LONG, "the key that hosts are logged in to with", async || {
        ask(stack, Method::GET, "/ssh-key", None).await.map(drop)
    })
    .await;
    let tester = stack.nats.bus(User::Tester, "test").await;
    let subject = Subject::Metrics(HostId::new()).to_string();
    tester.publish_bytes(&subject, "unreadable", "{".into()).await.unwrap();
    let letter = eventually(LONG, "a dead letter", async || {
        let letters = ask(stack, Method::GET, "/dead-letters", None).await?;
        letters["items"][0]["dead_letter_id"].as_str().map(str::to_owned).ok_or_else(|| letters.to_string())
    })
    .await;
    ask(stack, Method::POST, &format!("/dead-letters/{letter}/resend"), None).await.unwrap();
}

/// A command of `pinacle`, to its end.
async fn pinacle(stack: &Stack, user: User, arguments: &[&str]) {
    let mut process = Launch::service("pinacle")
        .named(arguments[0])
        .in_sandbox(stack.sandbox())
        .envs(stack.nats.env(user))
        .env("PINACLE_DATA_DIR", "/nonexistent")
        .args(arguments)
        .spawn();
    let status = process.wait(LONG * 3).await;
    assert!(status.success(), "{arguments:?}: {}", process.tail());
}

#[tokio::test]
async fn what_is_granted_is_used_and_what_is_used_is_granted() {
    let stack = Stack::builder().orchestrator(1).ingest(1).gateway(1).agent(1).traced();
    let mut stack = stack.set("agent.interval_ms", "1000").set("ingest.unknown_host_grace_s", "2").start().await;
    live_a_little(&stack).await;
    // One that comes later has to learn what was said before.
    stack.restart("gateway-1").await;
    let streams =
        ["heartbeats", "metrics", "inventory", "requests", "events", "exec", "dead", "host-records", "pod-records"];
    for stream in streams {
        pinacle(&stack, User::OPERATOR, &["replay", stream, "--speed", "0"]).await;
    }
    pinacle(&stack, User::OPERATOR, &["audit", "verify", "--database", &stack.database]).await;
    pinacle(&stack, User::SIMULATOR, &["sim", "--hosts", "2", "--duration", "6s", "--interval", "1s"]).await;

    let log = stack.nats.process().log_text();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(refused.is_empty(), "the server refused what a service needs:\n{}", refused.join("\n"));
    let said = read(&log);
    let names = |role| match role {
        Role::Orchestrator => &["pinacle-orchestrator"][..],
        Role::Ingest => &["ingest"],
        Role::Gateway => &["gateway"],
        Role::Operator => &["pinacle replay", "pinacle audit"],
        Role::Simulator => &["pinacle sim"],
    };
    let idle: Vec<(Role, Vec<String>)> = Role::ALL
        .into_iter()
        .map(|role| {
            let grant = role.grant();
            let (mut published, mut subscribed) = (BTreeSet::new(), BTreeSet::new());
            for name in names(role) {
                published.extend(said[*name].0.iter().cloned());
                subscribed.extend(said[*name].1.iter().cloned());
            }
            (role, [unused(&grant.publish, &published), unused(&grant.subscribe, &subscribed)].concat())
        })
        .filter(|(_, idle)| !idle.is_empty())
        .collect();
    assert!(idle.is_empty(), "granted and not used: {idle:#?}");
}
