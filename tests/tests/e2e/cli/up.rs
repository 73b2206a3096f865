//! `pinacle up`: from the first start to the last process that is gone.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, time::Duration};

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use pinacle_tests::{Nats, Postgres, Process, User, eventually};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::fixture::{Installation, PARTS, kill9, runs};

const PATIENCE: Duration = Duration::from_secs(40);

async fn count(installation: &Installation, query: &'static str) -> i64 {
    let mut database = PgConnection::connect(&installation.secret("database_url")).await.unwrap();
    sqlx::query_scalar(query).fetch_one(&mut database).await.unwrap()
}

fn hosts(installation: &Installation) -> Vec<Value> {
    installation.ask(&["host", "ls", "--json"]).json().as_array().unwrap().clone()
}

async fn host_with_figures(installation: &Installation) -> Value {
    eventually(PATIENCE, "the host to be online with figures", async || match hosts(installation).as_slice() {
        [host] if host["state"] == "online" && host["metrics"]["memory_total_bytes"].as_u64() > Some(0) => {
            Ok(host.clone())
        }
        other => Err(other.to_vec()),
    })
    .await
}

async fn http(installation: &Installation, path: &str, token: Option<&str>) -> (u16, Value) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut request = reqwest::Client::new().get(format!("http://{}{path}", installation.listen));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.timeout(Duration::from_secs(10)).send().await.unwrap();
    (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

/// A sample that comes over the WebSocket, newer than the first one told.
async fn live_sample(installation: &Installation) -> Value {
    let mut request = format!("ws://{}/api/v1/live", installation.listen).into_client_request().unwrap();
    let bearer = format!("Bearer {}", installation.token());
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    socket.send(Message::text(json!({ "op": "subscribe", "topic": "hosts" }).to_string())).await.unwrap();
    let mut first: Option<Value> = None;
    timeout(PATIENCE, async {
        loop {
            let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
            let said: Value = serde_json::from_str(&text).unwrap();
            let Some(host) = said["items"].as_array().and_then(|items| items.first()) else { continue };
            let at = host["metrics"]["sampled_at"].clone();
            if at.is_string() && *first.get_or_insert_with(|| at.clone()) != at {
                return host.clone();
            }
        }
    })
    .await
    .unwrap()
}

fn secrets_are_kept(installation: &Installation) {
    let folder = installation.data().join("secrets");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let mut secrets = Vec::new();
    for entry in fs::read_dir(&folder).unwrap().flatten() {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        secrets.push(fs::read_to_string(entry.path()).unwrap().trim().to_owned());
    }
    assert!(secrets.len() >= 5, "{}", secrets.len());
    for (part, pid) in installation.pids() {
        let line = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).replace('\0', " ");
        let told = secrets.iter().any(|secret| line.contains(secret.as_str()));
        assert!(!told, "{part} has a secret among its arguments");
    }
    for entry in fs::read_dir(installation.data().join("logs")).unwrap().flatten() {
        let log = fs::read_to_string(entry.path()).unwrap_or_default();
        assert!(!secrets.iter().any(|secret| log.contains(secret.as_str())), "{entry:?} has a secret");
    }
}

/// Where each part's line of its stop stands.
fn stop_order(up: &Process) -> Vec<&'static str> {
    let log = up.log_text();
    let at = |part: &str| log.find(&format!("  {part:<12} stopped in")).unwrap_or_else(|| panic!("{part}\n{log}"));
    let mut order = PARTS;
    order.sort_by_key(|part| at(part));
    order.to_vec()
}

#[tokio::test]
async fn one_command_brings_a_host_with_live_figures_and_a_second_start_finds_all_of_it() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let host = host_with_figures(&installation).await;
    secrets_are_kept(&installation);
    assert_eq!(installation.pids().len(), PARTS.len());
    // Looking whether a part is ready is no fault to it.
    assert!(!up.log_text().contains("error"), "{}", up.tail());
    let enrol = installation.ask(&["host", "enrol"]);
    assert!(enrol.stderr.contains("other machines do not reach that address"), "{enrol:?}");

    // In a terminal, over HTTP, over WebSocket.
    let name = host["name"].as_str().unwrap();
    let shown = installation.ask(&["host", "ls"]).ok();
    assert!(shown.contains(name) && shown.contains("online"), "{shown}");
    let (status, answer) = http(&installation, "/api/v1/hosts", Some(&installation.token())).await;
    assert_eq!((status, &answer["items"][0]["host_id"]), (200, &host["host_id"]));
    assert_eq!(http(&installation, "/api/v1/hosts", None).await.0, 401);
    assert_eq!(live_sample(&installation).await["host_id"], host["host_id"]);
    every_command_speaks_json_and_words(&installation, &host);

    let second = installation.up_to_the_end(&[]).refused_at_once(1);
    assert!(second.contains("another pinacle up") && second.contains(&up.pid().to_string()), "{second}");

    let token = installation.token();
    installation.stop(&mut up, Signal::SIGINT).await;
    assert_eq!(stop_order(&up), PARTS);

    up.restart().await;
    let again = host_with_figures(&installation).await;
    assert_eq!((&again["host_id"], &again["name"]), (&host["host_id"], &host["name"]));
    assert_eq!(installation.token(), token);
    assert_eq!(count(&installation, "SELECT count(*) FROM host").await, 1);
    assert_eq!(count(&installation, "SELECT count(*) FROM host_event WHERE what = 'admitted'").await, 1);
    let farewell = installation.ask(&["events", "--json"]).json_lines();
    let stopped = |event: &&Value| event["detail"]["cause"] == "stopped";
    assert_eq!(farewell.iter().filter(stopped).count(), 1, "{farewell:?}");

    // Killed itself, it leaves nothing behind either, and the next start finds all of it once more.
    let pids = installation.pids();
    up.kill9().await;
    installation.none_runs(&pids).await;
    up.restart().await;
    assert_eq!(host_with_figures(&installation).await["host_id"], host["host_id"]);
    installation.stop(&mut up, Signal::SIGTERM).await;
}

fn every_command_speaks_json_and_words(installation: &Installation, host: &Value) {
    let (name, id) = (host["name"].as_str().unwrap(), host["host_id"].as_str().unwrap());
    for either in [name, id] {
        assert_eq!(installation.ask(&["host", "show", either, "--json"]).json()["host_id"], host["host_id"]);
        assert!(installation.ask(&["host", "show", either]).ok().contains("memory"));
        assert_eq!(installation.ask(&["host", "top", either, "--json"]).json()["host"]["host_id"], host["host_id"]);
    }
    assert!(installation.ask(&["host", "top"]).ok().contains("cpu"), "one picture where nobody watches");
    assert_eq!(installation.ask(&["host", "ls", "--state", "offline", "--json"]).json(), json!([]));
    assert_eq!(installation.ask(&["pod", "ls", "--json"]).json(), json!([]));
    assert_eq!(installation.ask(&["dead", "ls", "--json"]).json(), json!([]));
    for (arguments, hint) in [
        (&["host", "ls", "--state", "offline"][..], "pinacle host ls"),
        (&["pod", "ls"], "there are no pods yet"),
        (&["pod", "ls", "--host", name], "no pods on this host"),
        (&["dead", "ls"], "every message could be handled"),
    ] {
        let outcome = installation.ask(arguments);
        assert!(outcome.stderr.contains(hint) && outcome.stdout.is_empty(), "{outcome:?}");
    }
    let events = installation.ask(&["events", "--since", "1h", "--host", name, "--json"]).json_lines();
    assert_eq!(events[0]["what"], "admitted");
    assert_eq!(installation.ask(&["events", "--limit", "1", "--json"]).json_lines().len(), 1);
    let watched = installation.ask(&["watch", "--for", "2s", "--json"]).json_lines();
    assert_eq!(watched[0]["item"]["host_id"], host["host_id"]);
    assert!(installation.ask(&["watch", "--for", "2s", "--host", name]).ok().contains("online"));
    let beats = installation.ask(&["replay", "heartbeats", "--speed", "0", "--json"]).json_lines();
    assert_eq!(beats[0]["payload"]["host_id"], host["host_id"]);
    assert!(installation.ask(&["replay", "host-records", "--speed", "0"]).ok().contains("online"));
    assert!(installation.ask(&["migrate", "status"]).ok().contains("applied"));
    let missing = "dead_2NxnYz0Gk2pVq8uVb3oZcX7fFqD";
    for arguments in [
        &["host", "show", "nowhere"][..],
        &["pod", "show", "../hosts"],
        &["pod", "ls", "--host", "nowhere"],
        &["events", "--host", "nowhere"],
        &["watch", "--host", "nowhere"],
        &["dead", "show", missing],
        &["dead", "resend", missing],
        &["dead", "drop", missing, "--yes"],
    ] {
        installation.ask(arguments).refused_at_once(1);
    }
    let wrong = installation.sandbox.path().join("wrong");
    fs::write(&wrong, "w".repeat(40)).unwrap();
    for command in [&["host", "ls"][..], &["watch"]] {
        let line = installation.ask(&[command, &["--token-file", wrong.to_str().unwrap()]].concat()).refused_at_once(1);
        assert!(line.contains("--token-file"), "{line}");
    }
}

#[tokio::test]
async fn a_part_that_is_killed_is_started_again_and_nothing_is_lost() {
    let installation = Installation::new().with("PINACLE__AGENT__INTERVAL_MS", "1000");
    let mut up = installation.up().await;
    let host = host_with_figures(&installation).await;
    for part in ["ingest", "nats", "agent", "postgres", "gateway", "orchestrator"] {
        let before = installation.pid(part).unwrap();
        kill9(before);
        eventually(PATIENCE, &format!("{part} to be back"), async || match installation.pid(part) {
            Some(pid) if pid != before && runs(pid) && up.log_text().contains(&format!("{part} is back")) => Ok(()),
            other => Err(other),
        })
        .await;
        assert!(up.log_text().contains(&format!("{part} was killed by SIGKILL")), "{}", up.tail());
    }
    let after = eventually(PATIENCE, "new samples after all of that", async || {
        let host = hosts(&installation).first().cloned().unwrap_or_default();
        let at = host["metrics"]["sampled_at"].as_str().unwrap_or_default().to_owned();
        if host["state"] == "online" && at.as_str() > host["state_since"].as_str().unwrap() {
            Ok(host)
        } else {
            Err(host)
        }
    })
    .await;
    assert_eq!(after["host_id"], host["host_id"]);

    // What the bus took is in the database, once each.
    let samples = installation.ask(&["replay", "metrics", "--speed", "0", "--json"]).json_lines();
    let mut published: BTreeMap<&str, usize> = BTreeMap::new();
    for sample in &samples {
        *published.entry(sample["payload"]["sampled_at"].as_str().unwrap()).or_default() += 1;
    }
    let newest = samples.last().unwrap()["sequence"].as_i64().unwrap();
    let expected = i64::try_from(published.len()).unwrap();
    assert!(expected > 1, "{expected}");
    let query = "SELECT count(*) FROM host_metrics WHERE stream_sequence <= $1";
    eventually(PATIENCE, "every sample in the database", async || {
        let mut database =
            PgConnection::connect(&installation.secret("database_url")).await.map_err(|error| error.to_string())?;
        let rows: Result<i64, _> = sqlx::query_scalar(query).bind(newest).fetch_one(&mut database).await;
        match rows {
            Ok(rows) if rows == expected => Ok(()),
            other => Err(format!("{other:?} rows of {expected}")),
        }
    })
    .await;
    assert_eq!(count(&installation, "SELECT count(*) FROM dead_letter").await, 0);
    installation.stop(&mut up, Signal::SIGINT).await;
}

#[tokio::test]
async fn a_signal_during_the_start_leaves_nothing_behind() {
    let installation = Installation::new();
    let mut up = installation.launch().spawn();
    eventually(PATIENCE, "the first part", async || installation.pid("nats").is_some()).await;
    installation.stop(&mut up, Signal::SIGINT).await;
    assert!(up.log_text().contains("before everything has started"), "{}", up.tail());
    // And the next start makes whole what was half made.
    up.restart().await;
    host_with_figures(&installation).await;
    installation.stop(&mut up, Signal::SIGHUP).await;
}

#[tokio::test]
async fn existing_servers_are_used_and_left_alone() {
    let mut nats = Nats::start().await;
    let mut postgres = Postgres::start().await;
    let database = postgres.empty_database().await;
    for user in [User::ORCHESTRATOR, User::INGEST, User::GATEWAY] {
        nats.trust().credentials_file(user);
    }
    fs::rename(nats.trust().credentials_file(User::host()), nats.trust().folder().join("agent.creds")).unwrap();
    let installation = Installation::new()
        .with("PINACLE__UP__NATS", &nats.url())
        .with("PINACLE__UP__DATABASE", &database)
        .with("PINACLE__UP__NATS_CREDENTIALS", nats.trust().folder().to_str().unwrap())
        .with("PINACLE__BUS__CA_FILE", nats.trust().ca_file().to_str().unwrap());
    let mut up = installation.up().await;
    host_with_figures(&installation).await;
    assert_eq!(installation.pids().into_keys().collect::<Vec<_>>(), ["agent", "gateway", "ingest", "orchestrator"]);
    assert!(!installation.data().join("postgres").exists() && !installation.data().join("nats").exists());
    installation.stop(&mut up, Signal::SIGINT).await;
    assert!(nats.process().is_running() && postgres.process().is_running());
}

#[tokio::test]
async fn a_machine_can_run_everything_without_being_a_host() {
    let installation = Installation::new();
    let mut up = installation.launch().arg("--no-agent").start().await;
    assert!(!installation.pids().contains_key("agent"));
    let outcome = installation.ask(&["host", "ls"]);
    assert!(outcome.stderr.contains("there are no hosts yet"), "{outcome:?}");
    assert!(installation.ask(&["host", "top"]).refused_at_once(1).contains("there are no hosts yet"));
    installation.stop(&mut up, Signal::SIGTERM).await;
}

#[tokio::test]
async fn a_folder_that_only_root_may_enter_is_no_obstacle() {
    let installation = Installation::new();
    let closed = installation.sandbox.path();
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).unwrap();
    let mut up = installation.launch().arg("--no-agent").start().await;
    assert_eq!(count(&installation, "SELECT count(*) FROM host").await, 0);
    kill9(installation.pid("postgres").unwrap());
    eventually(PATIENCE, "postgres to be back", async || up.log_text().contains("postgres is back")).await;
    installation.stop(&mut up, Signal::SIGINT).await;
    up.restart().await;
    installation.stop(&mut up, Signal::SIGINT).await;
}
