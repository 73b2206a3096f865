//! The client of the bus against a real server that is killed, restarted and asked too much.

mod commands;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use pinacle_bus::{
    client::{
        Bus, BusErrorKind, Change, MessageContext, Outcome, ResendingPublisher, Start, TraceParent, consume,
        current_context, in_context,
    },
    contract::{
        EventId, HostId, Message, OperationId, PodId, RequestId, Subject, Timestamp,
        dead::DeadLetter,
        event::Event,
        metrics::Metrics,
        pod::PodRecord,
        request::Request,
        subject::{EventKind, filter},
        topology::{INGEST_EVENTS, INGEST_REQUESTS, PODS, StreamName},
    },
};
use pinacle_tests::{Nats, eventually};
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(20);

/// For [`eventually`]: what is waited for is a plain condition.
fn holds(condition: bool) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err("not yet") }
}

async fn start() -> (Nats, Bus) {
    let nats = Nats::start().await;
    let bus = connect(&nats).await;
    (nats, bus)
}

async fn connect(nats: &Nats) -> Bus {
    let bus = Bus::connect(&nats.settings(), "test").await.unwrap();
    bus.await_topology(LONG).await.unwrap();
    bus
}

fn request() -> (Subject, Request) {
    let target = PodId::new().to_string();
    let request = Request {
        request_id: RequestId::new(),
        operation_id: OperationId::new(),
        kind: "pod".into(),
        target_id: target.clone(),
        verb: "start".into(),
        requested_by: "somebody".into(),
        requested_at: Timestamp::now(),
        deadline_at: None,
        parameters: json!({}),
    };
    (Subject::Request { kind: "pod".into(), id: target, verb: "start".into() }, request)
}

async fn publish_request(bus: &Bus) -> RequestId {
    let (subject, request) = request();
    bus.publish(&subject, &request.request_id.to_string(), &request).await.unwrap();
    request.request_id
}

async fn publish_event(bus: &Bus, number: usize) -> u64 {
    let event = Event {
        event_id: EventId::new(),
        at: Timestamp::now(),
        kind: EventKind::Pod,
        target_id: "pod_1".into(),
        what: "counted".into(),
        message: number.to_string(),
        detail: json!({}),
    };
    let subject = Subject::Event { kind: EventKind::Pod, id: "pod_1".into(), what: "counted".into() };
    bus.publish(&subject, &event.event_id.to_string(), &event).await.unwrap().sequence
}

fn pod_record(name: &str) -> PodRecord {
    let golden: PodRecord = serde_json::from_str(include_str!("../../../bus/golden/v1/pod_record.json")).unwrap();
    PodRecord { pod_id: PodId::new(), name: name.into(), ..golden }
}

fn golden_metrics() -> Metrics {
    serde_json::from_str(include_str!("../../../bus/golden/v1/metrics.json")).unwrap()
}

#[tokio::test]
async fn a_publication_is_kept_once_however_often_it_is_sent() {
    let (_nats, bus) = start().await;
    let (subject, request) = request();
    let first = bus.publish(&subject, "one", &request).await.unwrap();
    let second = bus.publish(&subject, "one", &request).await.unwrap();
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(first.sequence, second.sequence);
    assert_eq!(bus.stream_bounds(StreamName::Requests).await.unwrap(), (1, 1));
}

#[tokio::test]
async fn without_a_server_publishing_fails_at_once_and_the_connection_comes_back_by_itself() {
    let (mut nats, bus) = start().await;
    nats.kill9().await;
    let mut connection = bus.connection();
    connection.wait_for(|state| !state.connected).await.unwrap();
    let (subject, request) = request();
    let began = Instant::now();
    let error = bus.publish(&subject, "one", &request).await.unwrap_err();
    assert_eq!(error.kind(), BusErrorKind::NotConnected);
    assert!(began.elapsed() < Duration::from_secs(1), "it must not wait for a server that is away");

    nats.restart().await;
    bus.connected(LONG).await.unwrap();
    assert_eq!(connection.borrow_and_update().connects, 2);
    bus.publish(&subject, "one", &request).await.unwrap();
}

#[tokio::test]
async fn a_client_that_starts_before_its_server_connects_when_that_comes() {
    let mut nats = Nats::start().await;
    nats.kill9().await;
    let bus = Bus::connect(&nats.settings(), "early").await.unwrap();
    assert!(!bus.is_connected());
    nats.restart().await;
    bus.connected(LONG).await.unwrap();
}

#[tokio::test]
async fn the_topology_is_applied_again_without_effect_and_changed_limits_in_place() {
    let (nats, bus) = start().await;
    publish_request(&bus).await;
    bus.apply_topology().await.unwrap();
    let mut settings = nats.settings();
    settings.storage_bytes /= 2;
    let other = Bus::connect(&settings, "other limits").await.unwrap();
    other.await_topology(LONG).await.unwrap();
    let jetstream = nats.jetstream().await;
    let info = jetstream.get_stream("REQUESTS").await.unwrap();
    assert_eq!(info.cached_info().config.max_bytes, i64::try_from(settings.storage_bytes / 100 * 8).unwrap());
    assert_eq!(info.cached_info().state.messages, 1, "what it held must stay");
}

#[tokio::test]
async fn a_message_carries_its_trace_and_cause_to_whoever_handles_it() {
    let (_nats, bus) = start().await;
    let context = MessageContext { trace: TraceParent::root(), cause: Some(RequestId::new()) };
    in_context(context, publish_request(&bus)).await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (consumer_bus, stop) = (bus.clone(), shutdown.clone());
    tasks.spawn(async move {
        consume(&consumer_bus, &INGEST_REQUESTS, 1, stop, move |_| {
            let sender = sender.clone();
            async move {
                sender.send(current_context()).await.unwrap();
                Outcome::Done
            }
        })
        .await;
    });
    let seen = tokio::time::timeout(LONG, receiver.recv()).await.unwrap().unwrap();
    assert_eq!(seen.trace.trace_id(), context.trace.trace_id());
    assert_eq!(seen.cause, context.cause);
    shutdown.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn no_more_messages_than_allowed_are_handled_at_once() {
    let (_nats, bus) = start().await;
    for _ in 0..8 {
        publish_request(&bus).await;
    }
    let gate = Arc::new(Semaphore::new(0));
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let done = Arc::new(AtomicUsize::new(0));
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    {
        let (bus, stop, gate, inside, most, done) =
            (bus.clone(), shutdown.clone(), gate.clone(), inside.clone(), most.clone(), done.clone());
        tasks.spawn(async move {
            consume(&bus, &INGEST_REQUESTS, 3, stop, move |_| {
                let (gate, inside, most, done) = (gate.clone(), inside.clone(), most.clone(), done.clone());
                async move {
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                    Outcome::Done
                }
            })
            .await;
        });
    }
    eventually(LONG, "three handlers run", async || holds(inside.load(Ordering::SeqCst) == 3)).await;
    gate.add_permits(8);
    eventually(LONG, "all eight are done", async || holds(done.load(Ordering::SeqCst) == 8)).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    shutdown.cancel();
    tasks.join_all().await;
}

/// Handles requests by their number: panics on the first, rejects the second, and does the third.
#[tokio::test]
async fn a_panic_and_a_poisoned_message_harm_only_themselves_and_end_as_dead_letters_with_their_reasons() {
    let (_nats, bus) = start().await;
    let mut spec = INGEST_REQUESTS;
    spec.max_tries = 2;
    let panicking = publish_request(&bus).await;
    let poisoned = publish_request(&bus).await;
    let good = publish_request(&bus).await;
    let done = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    {
        let (bus, stop, done) = (bus.clone(), shutdown.clone(), done.clone());
        tasks.spawn(async move {
            consume(&bus, &spec, 4, stop, move |delivered| {
                let done = done.clone();
                async move {
                    let request: Request = delivered.decode().unwrap();
                    assert!(request.request_id != panicking, "this one panics");
                    if request.request_id == poisoned {
                        return Outcome::Reject { reason: "it is poisoned".into() };
                    }
                    done.lock().push(request.request_id);
                    Outcome::Done
                }
            })
            .await;
        });
    }
    let mut reader = bus.read(StreamName::Dead, Start::Beginning, None);
    let mut reasons = BTreeMap::new();
    while reasons.len() < 2 {
        let stored = tokio::time::timeout(LONG, reader.next()).await.unwrap().unwrap();
        let letter: DeadLetter = stored.decode().unwrap();
        let payload = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &letter.payload_base64).unwrap();
        let request: Request = serde_json::from_slice(&payload).unwrap();
        reasons.insert(request.request_id, (letter.reason, letter.tries));
    }
    assert_eq!(reasons[&poisoned], ("it is poisoned".to_owned(), 1));
    assert_eq!(reasons[&panicking].1, 2, "it is tried as often as the consumer says");
    assert_eq!(*done.lock(), [good]);
    shutdown.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn consumption_goes_on_behind_a_killed_server_and_forgets_nothing() {
    let (mut nats, bus) = start().await;
    let seen = Arc::new(parking_lot::Mutex::new(BTreeMap::<RequestId, usize>::new()));
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    {
        let (bus, stop, seen) = (bus.clone(), shutdown.clone(), seen.clone());
        tasks.spawn(async move {
            consume(&bus, &INGEST_REQUESTS, 8, stop, move |delivered| {
                let seen = seen.clone();
                async move {
                    *seen.lock().entry(delivered.decode::<Request>().unwrap().request_id).or_default() += 1;
                    Outcome::Done
                }
            })
            .await;
        });
    }
    let mut published = Vec::new();
    for round in 0..3 {
        for _ in 0..20 {
            published.push(publish_request(&bus).await);
        }
        if round < 2 {
            nats.kill9().await;
            nats.restart().await;
            bus.connected(LONG).await.unwrap();
        }
    }
    // A killed server may hand out what was just acknowledged once more; it must not swallow anything.
    eventually(Duration::from_secs(60), "every request is seen", async || {
        holds(published.iter().all(|id| seen.lock().contains_key(id)))
    })
    .await;
    shutdown.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn samples_that_a_killed_server_had_acknowledged_are_sent_again() {
    let (mut nats, bus) = start().await;
    let mut publisher = ResendingPublisher::new(&bus);
    let mut expected = 0;
    for _ in 0..4 {
        for _ in 0..300 {
            let metrics = Metrics { host_id: HostId::new(), ..golden_metrics() };
            publisher.publish(&Subject::Metrics(metrics.host_id), &metrics.message_id(), &metrics).await.unwrap();
            expected += 1;
        }
        nats.kill9().await;
        let mut connection = bus.connection();
        connection.wait_for(|state| !state.connected).await.unwrap();
        nats.restart().await;
        bus.connected(LONG).await.unwrap();
        publisher.catch_up().await.unwrap();
        assert_eq!(bus.stream_bounds(StreamName::Metrics).await.unwrap(), (1, expected));
    }
}

#[tokio::test]
async fn a_record_is_written_by_compare_and_set_only() {
    let (_nats, bus) = start().await;
    let bucket = bus.bucket::<PodRecord>(&PODS).await.unwrap();
    let record = pod_record("first");
    let revision = bucket.create("pod_1", &record).await.unwrap();
    assert_eq!(bucket.create("pod_1", &record).await.unwrap_err().kind(), BusErrorKind::Conflict);
    let newer = bucket.update("pod_1", &pod_record("second"), revision).await.unwrap();
    assert_eq!(bucket.update("pod_1", &record, revision).await.unwrap_err().kind(), BusErrorKind::Conflict);
    let entry = bucket.get("pod_1").await.unwrap().unwrap();
    assert_eq!((entry.revision, entry.record.name.as_str()), (newer, "second"));
    assert_eq!(bucket.keys().await.unwrap(), ["pod_1"]);
    assert!(bucket.delete("pod_1", revision).await.is_err(), "a delete names the newest revision, too");
    bucket.delete("pod_1", newer).await.unwrap();
    assert!(bucket.get("pod_1").await.unwrap().is_none());
    bucket.create("pod_1", &record).await.unwrap();
}

#[tokio::test]
async fn a_watch_tells_what_is_there_then_that_it_is_current_then_each_change_across_a_restart() {
    let (mut nats, bus) = start().await;
    let bucket = bus.bucket::<PodRecord>(&PODS).await.unwrap();
    let mut empty = bucket.watch();
    assert!(matches!(next_change(&mut empty).await, Change::Current));

    bucket.create("pod_1", &pod_record("one")).await.unwrap();
    let revision = bucket.create("pod_2", &pod_record("two")).await.unwrap();
    let mut watch = bucket.watch();
    assert!(matches!(next_change(&mut watch).await, Change::Put { key, .. } if key == "pod_1"));
    assert!(matches!(next_change(&mut watch).await, Change::Put { key, .. } if key == "pod_2"));
    assert!(matches!(next_change(&mut watch).await, Change::Current));

    nats.kill9().await;
    nats.restart().await;
    bus.connected(LONG).await.unwrap();
    bucket.delete("pod_2", revision).await.unwrap();
    assert!(matches!(next_change(&mut watch).await, Change::Deleted { key, .. } if key == "pod_2"));
}

async fn next_change<T: Message>(watch: &mut pinacle_bus::client::Watch<T>) -> Change<T> {
    tokio::time::timeout(LONG, async {
        loop {
            match watch.next().await {
                Ok(change) => return change,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
    .expect("a change")
}

#[tokio::test]
async fn a_reader_that_resumes_behind_a_restart_sees_each_event_once_and_in_order() {
    let (mut nats, bus) = start().await;
    let mut reader = bus.read(StreamName::Events, Start::Sequence(3), Some(filter::events()));
    let mut seen = Vec::new();
    for round in 0..3 {
        for number in 0..10 {
            publish_event(&bus, round * 10 + number).await;
        }
        while seen.len() < (round + 1) * 10 - 2 {
            match tokio::time::timeout(LONG, reader.next()).await.expect("an event") {
                Ok(stored) => seen.push(stored.sequence),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        nats.kill9().await;
        nats.restart().await;
        bus.connected(LONG).await.unwrap();
    }
    assert_eq!(seen, (3..=30).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_subscription_that_reads_too_slowly_is_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let figures = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    let (_nats, bus) = start().await;
    let mut slow = bus.subscribe(filter::events()).await.unwrap();
    let raw = _nats.client().await;
    eventually(LONG, "the client says that a subscription is slow", async || {
        for _ in 0..20_000 {
            raw.publish("pinacle.v1.evt.pod.x.y", "x".into()).await.unwrap();
        }
        raw.flush().await.unwrap();
        holds(figures.render().contains("event=\"slow_consumer\""))
    })
    .await;
    assert!(slow.next().await.is_some(), "and it goes on with what it has");
}

#[tokio::test]
async fn later_is_no_failure_however_often() {
    let (_nats, bus) = start().await;
    let mut spec = INGEST_EVENTS;
    spec.max_tries = 2;
    publish_event(&bus, 1).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    {
        let (bus, stop, tries) = (bus.clone(), shutdown.clone(), tries.clone());
        tasks.spawn(async move {
            consume(&bus, &spec, 1, stop, move |_| {
                let tried = tries.fetch_add(1, Ordering::SeqCst) + 1;
                async move { if tried < 5 { Outcome::Later(Duration::from_millis(10)) } else { Outcome::Done } }
            })
            .await;
        });
    }
    eventually(LONG, "the fifth try", async || holds(tries.load(Ordering::SeqCst) == 5)).await;
    assert_eq!(bus.stream_bounds(StreamName::Dead).await.unwrap(), (1, 0), "nothing was laid aside");
    shutdown.cancel();
    tasks.join_all().await;
}
