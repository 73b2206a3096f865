//! `pinacle replay`, straight from the bus.

use std::time::{Duration, Instant};

use pinacle_bus::{
    client::Bus,
    contract::{EventId, HostId, Subject, Timestamp, event::Event, subject::EventKind},
};
use pinacle_tests::{Nats, User};
use serde_json::{Value, json};

use super::fixture::{Outcome, pinacle};

const GAP: Duration = Duration::from_millis(1500);

fn replay(nats: &Nats, arguments: &[&str]) -> Outcome {
    let environment = nats.env(User::OPERATOR);
    let mut environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    environment.push(("PINACLE_DATA_DIR", "/nonexistent"));
    pinacle(&[&["replay"], arguments].concat(), &environment)
}

fn event(number: u32) -> Event {
    Event {
        event_id: EventId::new(),
        at: Timestamp::now(),
        kind: EventKind::Host,
        target_id: HostId::new().to_string(),
        what: "tested".into(),
        message: format!("number {number}\u{1b}[2J"),
        detail: json!({ "number": number }),
    }
}

async fn publish(bus: &Bus, event: &Event) {
    let subject = Subject::Event { kind: event.kind, id: event.target_id.clone(), what: event.what.clone() };
    bus.publish(&subject, &event.event_id.to_string(), event).await.unwrap();
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["payload"]["detail"]["number"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_is_replayed_whole_in_order_and_at_its_own_pace_or_another() {
    let nats = Nats::start().await;
    let bus = nats.bus_with_topology().await;
    let empty = replay(&nats, &["events", "--speed", "0"]);
    assert!(empty.stderr.contains("is empty") && empty.stdout.is_empty(), "{empty:?}");

    let events: Vec<Event> = (1..=3).map(event).collect();
    publish(&bus, &events[0]).await;
    publish(&bus, &events[1]).await;
    // The pace that the replay is to keep.
    tokio::time::sleep(GAP).await;
    let between = Timestamp::now().minus(GAP / 2);
    publish(&bus, &events[2]).await;

    let timed = |arguments: &[&str]| {
        let began = Instant::now();
        let lines = replay(&nats, &[&["events", "--json"], arguments].concat()).json_lines();
        (numbers(&lines), began.elapsed())
    };
    let (all, _) = timed(&["--speed", "0"]);
    assert_eq!(all, [1, 2, 3]);
    let (all, took) = timed(&[]);
    assert!(all == [1, 2, 3] && took >= GAP, "{all:?} in {took:?}");
    let (all, took) = timed(&["--speed", "0.5"]);
    assert!(all == [1, 2, 3] && took >= 2 * GAP, "{all:?} in {took:?}");

    let middle = between.to_string();
    assert_eq!(timed(&["--speed", "0", "--since", &middle]).0, [3]);
    assert_eq!(timed(&["--speed", "0", "--until", &middle]).0, [1, 2]);
    let second = format!("evt.host.{}.*", events[1].target_id);
    assert_eq!(timed(&["--speed", "0", "--subject", &second]).0, [2]);
    let nothing = replay(&nats, &["events", "--speed", "0", "--subject", "evt.pod.>"]);
    assert!(nothing.stderr.contains("--subject") && nothing.stdout.is_empty(), "{nothing:?}");

    let first = &replay(&nats, &["events", "--speed", "0", "--json"]).json_lines()[0];
    assert_eq!(first["payload"], serde_json::to_value(&events[0]).unwrap());
    assert_eq!((first["sequence"].as_u64(), first["stream"].as_str()), (Some(1), Some("EVENTS")));
    let shown = replay(&nats, &["events", "--speed", "0"]).ok();
    assert!(shown.contains("number 1") && !shown.contains('\u{1b}'), "{shown:?}");
}

#[tokio::test]
async fn a_replay_leaves_nothing_on_the_bus() {
    let nats = Nats::start().await;
    let bus = nats.bus_with_topology().await;
    publish(&bus, &event(1)).await;
    replay(&nats, &["events", "--speed", "0"]).ok();
    let bounds = bus.stream_bounds(pinacle_bus::contract::topology::StreamName::Events).await.unwrap();
    assert_eq!(bounds, (1, 1));
}
