//! The WebSocket: what it says, and what it does not put up with.

use std::{collections::BTreeMap, time::Duration};

use pinacle_bus::contract::{HostId, PodId, Subject, host::HostState};
use pinacle_tests::eventually;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::{
    socket::{self, Gone, Socket},
    stage::{SOON, Stage, TOKEN, sample},
};

#[tokio::test]
async fn a_topic_gives_all_there_is_and_then_each_change_until_it_is_given_up() {
    let stage = Stage::start().await;
    let alpha = stage.host("alpha").await;
    let beta = stage.host("beta").await;
    let mut socket = stage.socket().await;
    socket.subscribe("hosts").await;
    let first = socket.next().await;
    assert_eq!((&first["op"], &first["topic"], &first["reset"]), (&json!("state"), &json!("hosts"), &json!(true)));
    assert_eq!(first["items"].as_array().unwrap().len(), 2);

    let sampled = stage.sample(alpha, 33.0, &[]).await;
    let pushed = socket.next().await;
    assert_eq!(pushed["reset"], false);
    let items = pushed["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "only what changed comes: {pushed}");
    assert_eq!(items[0]["host_id"], alpha.to_string());
    assert_eq!(items[0]["metrics"]["cpu_percent"], 33.0);
    assert_eq!(items[0]["metrics"]["sampled_at"], sampled.sampled_at.to_string());

    stage.host_becomes(beta, HostState::Offline).await;
    let pushed = socket.next().await;
    assert_eq!(pushed["items"][0]["state"], "offline");

    socket.say(json!({ "op": "unsubscribe", "topic": "hosts" })).await;
    assert_eq!(socket.next().await, json!({ "op": "unsubscribed", "topic": "hosts" }));
    stage.sample(alpha, 34.0, &[]).await;
    assert!(socket.is_silent_for(Duration::from_millis(700)).await);
    socket.say(json!({ "op": "ping" })).await;
    assert_eq!(socket.next().await, json!({ "op": "pong" }));
}

#[tokio::test]
async fn single_hosts_and_pods_come_in_full_and_say_when_they_are_gone() {
    let stage = Stage::start().await;
    let host = stage.host("alpha").await;
    let (pod, missing) = (PodId::new(), PodId::new());
    stage.sample(host, 1.0, &[pod]).await;
    eventually(SOON, "the pod", async || stage.get(&format!("/pods/{pod}")).await.status == 200).await;

    let mut socket = stage.socket().await;
    socket.subscribe(&format!("pod:{missing}")).await;
    let state = socket.next().await;
    assert_eq!((&state["items"], &state["removed"]), (&json!([]), &json!([missing.to_string()])));

    let topic = format!("pod:{pod}");
    socket.subscribe(&topic).await;
    let (known, _) = socket.state_until(&topic, |known| known.len() == 1).await;
    assert_eq!(known[&pod.to_string()]["metrics"]["cpu_percent"], 1.0);
    let of_host = format!("host:{host}");
    socket.subscribe(&of_host).await;
    let (known, _) = socket.state_until(&of_host, |known| known.len() == 1).await;
    assert_eq!(known[&host.to_string()]["pod_ids"], json!([pod.to_string()]));
    assert!(known[&host.to_string()]["sample"]["disks"].is_array());

    // The host samples it no more, and it has no record.
    stage.sample(host, 2.0, &[]).await;
    let gone = socket.until(|message| message["topic"] == topic.as_str()).await;
    assert_eq!((&gone["items"], &gone["removed"]), (&json!([]), &json!([pod.to_string()])));
    stage.sample(host, 3.0, &[pod]).await;
    let back = socket.until(|message| message["topic"] == topic.as_str()).await;
    assert_eq!(back["items"][0]["metrics"]["cpu_percent"], 3.0);

    socket.subscribe("pods").await;
    let (known, _) = socket.state_until("pods", |known| known.len() == 1).await;
    assert_eq!(known.keys().next(), Some(&pod.to_string()));
}

#[tokio::test]
async fn a_message_that_makes_no_sense_is_answered_and_the_rest_goes_on() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_MAX_SUBSCRIPTIONS", "3")]).await;
    let host = stage.host("alpha").await;
    let mut socket = stage.socket().await;
    let long = json!({ "op": "ping", "padding": "x".repeat(5000) }).to_string();
    for text in [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"op":"shout"}"#,
        r#"{"op":"subscribe"}"#,
        r#"{"op":"subscribe","topic":"everything"}"#,
        r#"{"op":"subscribe","topic":"host:\"}],"}"#,
        r#"{"op":"subscribe","topic":"events","after":-1}"#,
        r#"{"op":"subscribe","topic":"events","after":"x"}"#,
        r#"{"op":"subscribe","topic":"hosts","after":"1"}"#,
        r#"{"op":"ping","extra":1}"#,
        long.as_str(),
    ] {
        socket.say_text(text).await;
        let said = socket.next().await;
        assert_eq!(said["op"], "error", "{text}: {said}");
        assert!(said["code"].is_string() && said["detail"].is_string(), "{text}: {said}");
    }
    socket.say_binary(b"\0\xff").await;
    assert_eq!(socket.next().await["code"], "invalid_body");

    for topic in ["hosts".to_owned(), "pods".to_owned(), format!("host:{host}")] {
        socket.subscribe(&topic).await;
    }
    socket.say(json!({ "op": "subscribe", "topic": "events" })).await;
    let said = socket.until(|message| message["op"] == "error").await;
    assert_eq!(said["code"], "overloaded");
    // The same once more is no further one.
    socket.subscribe("hosts").await;
    socket.say(json!({ "op": "unsubscribe", "topic": "pods" })).await;
    socket.subscribe("events").await;
}

#[tokio::test]
async fn only_who_may_gets_in_and_no_more_than_there_is_room_for() {
    let stage = Stage::start_with(&[
        ("PINACLE__GATEWAY__LIVE_MAX_CLIENTS", "2"),
        ("PINACLE__GATEWAY__ALLOWED_ORIGINS", "https://console.example.org"),
    ])
    .await;
    let address = stage.address;
    let open = async |request| socket::open(address, request, None).await.map(drop);
    assert_eq!(open(socket::request(address)).await, Err(401));
    assert_eq!(open(socket::with_token(address, "wrong")).await, Err(401));
    let mut in_the_address = socket::request(address);
    *in_the_address.uri_mut() = format!("ws://{address}/api/v1/live?token={TOKEN}").parse().unwrap();
    assert_eq!(open(in_the_address).await, Err(401));
    let page = |origin: &'static str, token: &str| {
        let mut request = socket::request(address);
        let offered = format!("pinacle.v1, bearer.{token}");
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(&offered).unwrap());
        request.headers_mut().insert("origin", HeaderValue::from_static(origin));
        request
    };
    assert_eq!(open(page("http://evil.example", TOKEN)).await, Err(403));
    assert_eq!(open(page("https://console.example.org", "wrong")).await, Err(401));
    assert_eq!(open(page("https://console.example.org", TOKEN)).await, Ok(()));

    eventually(SOON, "the places to be free", async || {
        stage.gateway.metric("pinacle_gateway_live_clients", &[]).await == Some(0.0)
    })
    .await;
    let first = stage.socket().await;
    let _second = stage.socket().await;
    assert_eq!(open(socket::with_token(address, TOKEN)).await, Err(503));
    drop(first);
    eventually(SOON, "a place", async || open(socket::with_token(address, TOKEN)).await).await;
    assert!(!stage.gateway.log_text().contains(TOKEN));
}

/// Resident memory in bytes.
fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_slow_reader_costs_no_memory_and_sees_the_newest_state() {
    const HOSTS: usize = 40;
    const ROUNDS: u32 = 200;
    let stage = Stage::start_with(&[
        ("PINACLE__GATEWAY__LIVE_PUSH_INTERVAL_MS", "0"),
        ("PINACLE__GATEWAY__LIVE_WRITE_TIMEOUT_MS", "120000"),
        ("PINACLE__GATEWAY__LIVE_PING_MS", "120000"),
    ])
    .await;
    let mut hosts = Vec::new();
    for index in 0..HOSTS {
        hosts.push(stage.host_unseen(&format!("host-{index}")).await);
    }
    eventually(SOON, "all hosts", async || {
        stage.get("/hosts?limit=1000").await.body["items"].as_array().unwrap().len() == HOSTS
    })
    .await;
    let mut slow = socket::open(stage.address, socket::with_token(stage.address, TOKEN), Some(4096)).await.unwrap();
    slow.subscribe("hosts").await;
    let before = memory_of(stage.gateway.pid());
    for round in 1..=ROUNDS {
        for host in &hosts {
            stage.bus.publish_unacked(&Subject::Metrics(*host), &sample(*host, f64::from(round), &[])).await.unwrap();
        }
        // Not faster than the gateway takes it in, so that all rounds are rounds.
        let last = hosts.last().unwrap();
        eventually(SOON, "the round", async || {
            let answer = stage.get(&format!("/hosts/{last}")).await;
            answer.body["metrics"]["cpu_percent"] == f64::from(round)
        })
        .await;
    }
    let grown = memory_of(stage.gateway.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    let newest = |known: &BTreeMap<String, Value>| {
        known.len() == HOSTS && known.values().all(|host| host["metrics"]["cpu_percent"] == f64::from(ROUNDS))
    };
    let (_, items) = slow.state_until("hosts", newest).await;
    let published = HOSTS * usize::try_from(ROUNDS).unwrap();
    assert!(items < published / 2, "{items} items of {published} were kept for a reader that did not read");
}

#[tokio::test]
async fn who_takes_or_says_nothing_is_let_go() {
    let stage = Stage::start_with(&[
        ("PINACLE__GATEWAY__LIVE_PUSH_INTERVAL_MS", "0"),
        ("PINACLE__GATEWAY__LIVE_WRITE_TIMEOUT_MS", "500"),
        ("PINACLE__GATEWAY__LIVE_PING_MS", "400"),
    ])
    .await;
    let hosts = vec![stage.host("alpha").await, stage.host("beta").await];
    let mut stuck = socket::open(stage.address, socket::with_token(stage.address, TOKEN), Some(4096)).await.unwrap();
    let topics: Vec<String> = hosts.iter().map(|host| format!("host:{host}")).collect();
    for topic in &topics {
        stuck.subscribe(topic).await;
    }
    // It neither reads nor answers pings from here on; one of the two limits ends it.
    eventually(SOON, "the WebSocket to be let go", async || {
        for host in &hosts {
            stage.sample(*host, 1.0, &[]).await;
        }
        let closed = async |reason| {
            stage.gateway.metric("pinacle_gateway_live_closed_total", &[reason]).await.unwrap_or_default()
        };
        closed("reason=\"too_slow\"").await + closed("reason=\"silent\"").await >= 1.0
    })
    .await;
    eventually(SOON, "its place to be free", async || {
        stage.gateway.metric("pinacle_gateway_live_clients", &[]).await == Some(0.0)
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_messages_ends_with_a_reason() {
    let stage = Stage::start().await;
    let mut socket = stage.socket().await;
    socket.say_many(&json!({ "op": "ping" }).to_string(), 150).await;
    let end = loop {
        if let Err(end) = socket.heard().await {
            break end;
        }
    };
    assert_eq!(end, Gone::Closed(Some(1008)));
}

#[tokio::test]
async fn a_stop_tells_websockets_to_connect_again() {
    let mut stage = Stage::start().await;
    stage.host("alpha").await;
    let mut sockets: Vec<Socket> = Vec::new();
    for _ in 0..5 {
        let mut socket = stage.socket().await;
        socket.subscribe("hosts").await;
        sockets.push(socket);
    }
    let ends = async {
        let mut ends = Vec::new();
        for socket in &mut sockets {
            ends.push(loop {
                if let Err(end) = socket.heard().await {
                    break end;
                }
            });
        }
        ends
    };
    let (status, ends) = tokio::join!(stage.gateway.sigterm(Duration::from_secs(8)), ends);
    assert_eq!(status.code(), Some(0), "{}", stage.gateway.tail());
    assert_eq!(ends, [const { Gone::Closed(Some(1001)) }; 5]);
}

#[tokio::test]
async fn what_the_bus_brings_is_not_believed() {
    let stage = Stage::start().await;
    let host = stage.host("alpha").await;
    let other = stage.host("beta").await;
    let client = stage.nats.client().await;
    let subject = Subject::Metrics(host).to_string();
    let huge = vec![b' '; 600 * 1024];
    let foreign = serde_json::to_vec(&sample(other, 99.0, &[])).unwrap();
    let unknown = HostId::new();
    for (subject, payload) in [
        (subject.clone(), b"\xff\0{".to_vec()),
        (subject.clone(), b"{}".to_vec()),
        (subject.clone(), huge),
        (subject.clone(), foreign),
        (Subject::Heartbeat(host).to_string(), b"[]".to_vec()),
        (Subject::Metrics(unknown).to_string(), serde_json::to_vec(&sample(unknown, 1.0, &[PodId::new()])).unwrap()),
    ] {
        client.publish(subject, payload.into()).await.unwrap();
    }
    client.flush().await.unwrap();
    // A key of the bucket that is not its record's, and one that is no record at all.
    let store = stage.nats.jetstream().await.get_key_value("hosts").await.unwrap();
    store.put(HostId::new().to_string(), b"{}".to_vec().into()).await.unwrap();
    let own = store.get(host.to_string()).await.unwrap().unwrap();
    store.put(HostId::new().to_string(), own).await.unwrap();

    eventually(SOON, "all to be skipped", async || {
        let skipped = async |reason: &str| {
            stage.gateway.metric("pinacle_gateway_live_skipped_total", &[reason]).await.unwrap_or_default()
        };
        let seen = [
            skipped("reason=\"malformed\"").await,
            skipped("reason=\"foreign_subject\"").await,
            skipped("reason=\"foreign_key\"").await,
            skipped("reason=\"unknown_host\"").await,
        ];
        if seen == [5.0, 1.0, 1.0, 1.0] { Ok(()) } else { Err(seen) }
    })
    .await;
    stage.sample(host, 5.0, &[]).await;
    eventually(SOON, "the true sample", async || stage.get("/hosts/alpha").await.body["metrics"]["cpu_percent"] == 5.0)
        .await;
    assert!(stage.get("/hosts/beta").await.body["metrics"].is_null());
    assert_eq!(stage.get("/hosts").await.body["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_gateway_that_starts_anew_knows_the_newest_samples_at_once() {
    let mut stage = Stage::start().await;
    let host = stage.host("alpha").await;
    stage.sample(host, 61.0, &[]).await;
    stage.gateway.restart().await;
    let seen = eventually(SOON, "the sample from before", async || {
        let answer = stage.get("/hosts/alpha").await;
        if answer.body["metrics"].is_object() { Ok(answer.body) } else { Err(answer) }
    })
    .await;
    assert_eq!(seen["metrics"]["cpu_percent"], 61.0);
}
