//! Events over the WebSocket: each once, in order, whatever stops and starts.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt;
use parking_lot::Mutex;
use pinacle_bus::contract::{EventId, Subject, Timestamp, event::Event, subject::EventKind, topology::StreamName};
use pinacle_tests::eventually;
use rand::RngExt;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    socket::{self, Socket, events_of},
    stage::{SOON, Stage, TOKEN, golden, publish_event},
    tenants::text,
};

/// A client that comes back behind the last event that it has.
pub async fn count(address: SocketAddr, token: &str, seen: Arc<Mutex<Vec<(u64, String)>>>, connects: Arc<Mutex<u32>>) {
    loop {
        let Ok(mut socket) = socket::open(address, socket::with_token(address, token), None).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        *connects.lock() += 1;
        let after = seen.lock().last().map_or(0, |(sequence, _)| *sequence).to_string();
        socket.say(json!({ "op": "subscribe", "topic": "events", "after": after })).await;
        // A message that hangs longer than a bus is away means a new attempt.
        while let Ok(Ok(message)) = timeout(Duration::from_secs(60), socket.heard_whenever()).await {
            match message["op"].as_str() {
                Some("events") => seen.lock().extend(events_of(&message)),
                Some("subscribed") => {}
                other => panic!("{other:?}: {message}"),
            }
        }
    }
}

#[tokio::test]
async fn a_client_counts_events_without_a_gap_while_gateway_and_nats_are_killed() {
    let mut stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_RECENT_EVENTS", "16")]).await;
    let host = stage.host("alpha").await;
    let (seen, connects) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let mut tasks = JoinSet::new();
    tasks.spawn(count(stage.address, TOKEN, seen.clone(), connects.clone()));
    let published = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let (bus, told, until) = (stage.bus.clone(), published.clone(), stop.clone());
    tasks.spawn(async move {
        while !until.load(Ordering::Relaxed) {
            // Without an acknowledgement nobody knows whether the stream has it; the stream itself says in the end.
            if let Ok(sequence) = publish_event(&bus, host, &EventId::new().to_string()).await {
                told.lock().push(sequence);
            }
            sleep(Duration::from_millis(2)).await;
        }
    });
    let mut kills = 0;
    for round in 0..6 {
        let pause = rand::rng().random_range(100..600);
        sleep(Duration::from_millis(pause)).await;
        if round % 3 == 2 {
            stage.nats.kill9().await;
            stage.nats.restart().await;
            eventually(SOON, "the bus", async || stage.bus.is_connected()).await;
        } else {
            stage.gateway.kill9().await;
            stage.gateway.restart().await;
            kills += 1;
        }
        let before = published.lock().len();
        eventually(SOON, "more events", async || published.lock().len() > before + 20).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (first, last) = stage.bus.stream_bounds(StreamName::Events).await.unwrap();
    let expected: Vec<u64> = (first..=last).collect();
    eventually(SOON, "all events", async || {
        let newest = seen.lock().last().map(|(sequence, _)| *sequence);
        if newest == Some(last) { Ok(()) } else { Err((newest, last)) }
    })
    .await;
    // A panic of the client must not pass for silence.
    while let Some(Some(ended)) = tasks.join_next().now_or_never() {
        ended.unwrap();
    }
    let sequences: Vec<u64> = seen.lock().iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, expected, "each event once and in order");
    assert!(*connects.lock() > kills, "it came back {} times for {kills} kills", *connects.lock());
    assert!(published.lock().len() > 100);
}

#[tokio::test]
async fn who_is_far_behind_is_served_from_the_bus_and_then_live() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_RECENT_EVENTS", "16")]).await;
    let host = stage.host("alpha").await;
    for index in 0..300 {
        stage.event(host, &format!("{index}")).await;
    }
    for after in [0u64, 100, 284, 299, 300] {
        let mut socket = stage.socket().await;
        socket.say(json!({ "op": "subscribe", "topic": "events", "after": after.to_string() })).await;
        let answer = json!({ "op": "subscribed", "topic": "events", "after": after.to_string() });
        assert_eq!(socket.next().await, answer);
        let mut seen: Vec<u64> = Vec::new();
        let wanted = usize::try_from(300 - after).unwrap();
        while seen.len() < wanted {
            seen.extend(socket.events().await.into_iter().map(|(sequence, _)| sequence));
        }
        assert_eq!(seen, (after + 1..=300).collect::<Vec<_>>());
        socket.say(json!({ "op": "unsubscribe", "topic": "events" })).await;
        socket.until(|message| message["op"] == "unsubscribed").await;
    }
    let mut from_now = stage.socket().await;
    assert_eq!(from_now.subscribe("events").await["after"], "300");
    let sequence = stage.event(host, "new").await;
    assert_eq!(from_now.events().await, [(sequence, "new".to_owned())]);
}

#[tokio::test]
async fn what_the_bus_has_forgotten_is_said_once() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_RECENT_EVENTS", "16")]).await;
    let host = stage.host("alpha").await;
    for index in 0..100 {
        stage.event(host, &format!("{index}")).await;
    }
    let stream = stage.nats.jetstream().await.get_stream(StreamName::Events.as_str()).await.unwrap();
    stream.purge().sequence(51).await.unwrap();
    let mut socket = stage.socket().await;
    socket.say(json!({ "op": "subscribe", "topic": "events", "after": "10" })).await;
    assert_eq!(socket.next().await["op"], "subscribed");
    assert_eq!(socket.next().await, json!({ "op": "reset", "topic": "events", "after": "50" }));
    let mut seen: Vec<u64> = Vec::new();
    while seen.len() < 50 {
        seen.extend(socket.events().await.into_iter().map(|(sequence, _)| sequence));
    }
    assert_eq!(seen, (51..=100).collect::<Vec<_>>());

    // A sequence that the stream has not reached: it is another stream than the client knew.
    let mut ahead = stage.socket().await;
    ahead.say(json!({ "op": "subscribe", "topic": "events", "after": "1000000" })).await;
    assert_eq!(ahead.until(|message| message["op"] != "subscribed").await["op"], "reset");
    assert_eq!(ahead.events().await[0].0, 51);
}

#[tokio::test]
async fn events_that_cannot_be_read_are_skipped_and_hold_up_nothing() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_RECENT_EVENTS", "16")]).await;
    let host = stage.host("alpha").await;
    let mut live = stage.socket().await;
    live.subscribe("events").await;
    let jetstream = stage.nats.jetstream().await;
    let mut wanted = Vec::new();
    for index in 0..60 {
        if index % 3 == 0 {
            let subject = format!("pinacle.v1.evt.host.{host}.nonsense");
            jetstream.publish(subject, b"{\"no\":\"event\"}".to_vec().into()).await.unwrap().await.unwrap();
        } else {
            wanted.push(stage.event(host, "well").await);
        }
    }
    let mut late = stage.socket().await;
    late.say(json!({ "op": "subscribe", "topic": "events", "after": "0" })).await;
    for socket in [&mut live, &mut late] {
        let mut seen: Vec<u64> = Vec::new();
        while seen.len() < wanted.len() {
            seen.extend(socket.events().await.into_iter().map(|(sequence, _)| sequence));
        }
        assert_eq!(seen, wanted);
    }
}

#[tokio::test]
async fn a_persons_places_among_events_lead_back_and_tell_nothing_of_other_peoples() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let host = stage.host("alpha").await;
    let ann = stage.person("ann", false).await;
    let pod = stage.pod("web", &ann.user_id, None).await;
    eventually(SOON, "the pod", async || stage.look(&ann, &format!("/pods/{pod}")).await.status == 200).await;
    let mut socket = Socket::open(stage.address, &ann.token).await;
    let began = socket.subscribe("events").await["after"].as_str().unwrap().to_owned();
    for message in ["one", "two"] {
        for _ in 0..20 {
            stage.event(host, "somebody else's").await;
        }
        let event = Event { kind: EventKind::Pod, target_id: pod.to_string(), message: message.into(), ..event() };
        let subject = Subject::Event { kind: event.kind, id: event.target_id.clone(), what: event.what.clone() };
        stage.bus.publish(&subject, &event.event_id.to_string(), &event).await.unwrap();
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    while seen.len() < 2 {
        let said = socket.until(|said| said["op"] == "events").await;
        seen.extend(said["items"].as_array().unwrap().iter().map(|it| (text(it, "position"), text(it, "message"))));
    }
    let messages: Vec<&str> = seen.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(messages, ["one", "two"]);
    let one = seen[0].0.as_str();
    for place in [&began, one, &seen[1].0] {
        let bytes = URL_SAFE_NO_PAD.decode(place).unwrap();
        assert!(place.parse::<u64>().is_err() && bytes.len() > 40, "{place}");
    }

    let mut back = Socket::open(stage.address, &ann.token).await;
    back.say(json!({ "op": "subscribe", "topic": "events", "after": one })).await;
    let said = back.until(|said| said["op"] == "events").await;
    assert_eq!(text(&said["items"][0], "message"), "two");
    let listed = async |query: &str| stage.look(&ann, &format!("/events{query}")).await;
    eventually(SOON, "the history", async || {
        let answer = listed("").await;
        if answer.body["items"].as_array().is_some_and(|items| items.len() == 2) { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(text(&listed(&format!("?after={one}")).await.body["items"][0], "message"), "two");
    let page = listed("?limit=1").await.body;
    let next = listed(&format!("?limit=1&cursor={}", text(&page, "next_cursor"))).await.body;
    assert_eq!((text(&page["items"][0], "message"), text(&next["items"][0], "message")), ("one".into(), "two".into()));

    // Neither a number nor what was altered is a place.
    let altered = format!("{}{}", if one.starts_with('B') { 'C' } else { 'B' }, &one[1..]);
    for wrong in ["0", "41", "", &altered, &one[1..]] {
        assert_eq!(listed(&format!("?after={wrong}")).await.body["code"], "invalid_cursor", "{wrong}");
        assert_eq!(listed(&format!("?cursor={wrong}")).await.body["code"], "invalid_cursor", "{wrong}");
        back.say(json!({ "op": "subscribe", "topic": "events", "after": wrong })).await;
        assert_eq!(back.until(|said| said["op"] == "error").await["code"], "invalid_cursor", "{wrong}");
    }
}

/// One that nothing else is said of.
fn event() -> Event {
    Event { event_id: EventId::new(), at: Timestamp::now(), ..golden("event") }
}
