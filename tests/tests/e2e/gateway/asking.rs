//! What people ask for over HTTP: it is on the bus once, found everywhere at once, and told as it goes.

use pinacle_bus::{
    client::{Start, Stored},
    contract::{
        EventId, HostId, OperationId, PodId, Subject, Timestamp,
        event::{Event, OPERATION_CHANGED},
        pod::{Desired, PodPhase, PodRecord},
        reconciler::ReconcilerStatus,
        request::{Operation, Progress, Request},
        subject::EventKind,
        topology::{PODS, STATUS, StreamName},
    },
};
use pinacle_tests::{eventually, machine};
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::{Answer, SOON, Stage, TOKEN, answer, golden};

impl Stage {
    async fn send(&self, method: Method, path: &str, body: &Value, key: Option<&str>) -> Answer {
        let mut request = self.request(method, &format!("/api/v1{path}")).bearer_auth(TOKEN).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        answer(request).await
    }

    /// All requests on the bus.
    async fn requests(&self) -> Vec<Request> {
        let (_, last) = self.bus.stream_bounds(StreamName::Requests).await.unwrap();
        let mut reader = self.bus.read(StreamName::Requests, Start::Beginning, None);
        let mut all: Vec<Stored> = Vec::new();
        while all.last().map_or(0, |stored| stored.sequence) < last {
            all.push(reader.next().await.unwrap());
        }
        all.iter().map(|stored| stored.decode().unwrap()).collect()
    }

    /// Tells of an operation as the orchestrator does.
    pub async fn tell(&self, operation: &Operation) {
        let event = Event {
            event_id: EventId::new(),
            at: Timestamp::now(),
            kind: EventKind::Op,
            target_id: operation.operation_id.to_string(),
            what: OPERATION_CHANGED.into(),
            message: "it goes on".into(),
            detail: serde_json::to_value(operation).unwrap(),
        };
        let subject = Subject::Event { kind: event.kind, id: event.target_id.clone(), what: event.what.clone() };
        self.bus.publish(&subject, &event.event_id.to_string(), &event).await.unwrap();
    }
}

/// The operation that carries out a request.
pub fn operation(request: &Request, progress: Progress, steps: bool) -> Operation {
    let golden: Operation = golden("operation");
    let ended = !matches!(progress, Progress::Waiting | Progress::Running);
    Operation {
        operation_id: request.operation_id,
        request_id: request.request_id,
        target_id: request.target_id.clone(),
        verb: request.verb.clone(),
        progress,
        ended_at: ended.then(Timestamp::now),
        steps: if steps { golden.steps.clone() } else { Vec::new() },
        ..golden
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[tokio::test]
async fn what_was_asked_for_is_found_everywhere_at_once_and_gone_when_it_was_refused() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let mut socket = stage.socket().await;
    for topic in ["pods", "operations"] {
        socket.subscribe(topic).await;
    }
    let made = stage.send(Method::POST, "/pods", &json!({ "name": "web", "environment": { "A": "1" } }), None).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (pod, operation_id) = (text(&made.body["pod"], "pod_id"), text(&made.body, "operation_id"));
    assert_eq!(made.headers["location"], format!("/api/v1/pods/{pod}"));

    // Nobody has taken it up: there is no orchestrator.
    for path in [made.headers["location"].strip_prefix("/api/v1").unwrap(), "/pods/web"] {
        let found = stage.get(path).await;
        assert_eq!((found.status, text(&found.body, "phase")), (200, "pending"), "{found:?}");
        assert_eq!((text(&found.body, "operation_id"), text(&found.body, "owner")), (operation_id, "admin"));
    }
    assert_eq!(stage.get("/pods").await.body["items"][0]["pod_id"], pod);
    let waiting = stage.get(&format!("/operations/{operation_id}")).await;
    assert_eq!(
        (waiting.status, text(&waiting.body, "progress"), text(&waiting.body, "verb")),
        (200, "waiting", "create")
    );
    assert_eq!(stage.get("/operations?pod=web&progress=waiting").await.body["items"][0]["operation_id"], operation_id);
    let told = socket.until(|said| said["topic"] == "pods" && said["items"][0]["name"] == "web").await;
    assert_eq!(told["items"][0]["phase"], "pending");
    socket.until(|said| said["topic"] == "operations" && said["items"][0]["operation_id"] == operation_id).await;

    // A copy that starts now knows it, too.
    let address = machine::free_address();
    let _second = Stage::launch(&stage.nats, &stage.database, address).ready_on_admin_port().start().await;
    let other = |path: String| stage.client.get(format!("http://{address}/api/v1{path}")).bearer_auth(TOKEN);
    eventually(SOON, "the second copy to know the pod", async || {
        let found = answer(other("/pods/web".into())).await;
        if found.status == 200 && found.body["pod_id"] == pod { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(answer(other(format!("/operations/{operation_id}"))).await.status, 200);

    // The request says what was asked for, and by whom.
    let requests = stage.requests().await;
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!((request.verb.as_str(), request.requested_by.as_str()), ("create", "admin"));
    assert_eq!(
        (&request.parameters["tier"], &request.parameters["environment"]),
        (&json!("dev.small"), &json!({ "A": "1" }))
    );

    let cause = "there is no such luck";
    let refused = Operation { cause: Some(cause.into()), ..operation(request, Progress::Failed, false) };
    stage.tell(&refused).await;
    let gone = socket.until(|said| said["topic"] == "pods" && said["removed"][0] == pod).await;
    assert_eq!(gone["items"], json!([]));
    assert_eq!(stage.get(&format!("/pods/{pod}")).await.status, 404);
    let ended = stage.get(&format!("/operations/{operation_id}")).await;
    assert_eq!((text(&ended.body, "progress"), text(&ended.body, "cause")), ("failed", cause));
}

#[tokio::test]
async fn without_the_history_a_request_is_taken_in_all_the_same() {
    let mut stage = Stage::start().await;
    let made = stage.send(Method::POST, "/pods", &json!({ "name": "web" }), None).await;
    // Nobody has written its row: there is no ingest.
    assert_eq!(made.status, 202, "{made:?}");
    assert_eq!(stage.get("/pods/web").await.status, 200);
    let operation_id = text(&made.body, "operation_id");
    stage.postgres.stop().await;
    let listed = stage.get("/operations").await;
    assert_eq!((listed.status, &listed.body["items"][0]["operation_id"]), (200, &json!(operation_id)), "{listed:?}");
    assert_eq!(stage.get(&format!("/operations/{operation_id}")).await.status, 200);
    let stopped = stage.post("/pods/web/stop").await;
    assert_eq!(stopped.status, 202, "{stopped:?}");
}

#[tokio::test]
async fn a_key_makes_one_pod_however_often_and_wherever_it_is_sent() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let address = machine::free_address();
    let _second = Stage::launch(&stage.nats, &stage.database, address).ready_on_admin_port().start().await;
    eventually(SOON, "the second copy", async || {
        let found = answer(stage.client.get(format!("http://{address}/api/v1/pods")).bearer_auth(TOKEN)).await;
        if found.status == 200 { Ok(()) } else { Err(found) }
    })
    .await;
    let body = json!({ "name": "web", "tier": "dev.medium" });
    let ask = |address: std::net::SocketAddr| {
        let request = stage.client.post(format!("http://{address}/api/v1/pods")).bearer_auth(TOKEN);
        answer(request.header("idempotency-key", "build-7").json(&body))
    };
    let at_once =
        futures_util::future::join_all((0..10).map(|n| ask(if n % 2 == 0 { stage.address } else { address })));
    let answers = at_once.await;
    assert!(answers.iter().all(|made| made.status == 201), "{answers:?}");
    let first = &answers[0].body;
    assert!(answers.iter().all(|made| made.body["operation_id"] == first["operation_id"]), "{answers:?}");
    assert!(answers.iter().all(|made| made.headers["location"] == answers[0].headers["location"]), "{answers:?}");
    assert_eq!(stage.requests().await.len(), 1);

    // The key stands for that request alone, and the name is taken.
    let other = stage.send(Method::POST, "/pods", &json!({ "name": "other" }), Some("build-7")).await;
    assert_eq!((other.status, text(&other.body, "code")), (409, "idempotency_key_reused"));
    let same_name = stage.send(Method::POST, "/pods", &body, Some("build-8")).await;
    assert_eq!((same_name.status, text(&same_name.body, "code")), (409, "name_taken"));
    assert_eq!(stage.requests().await.len(), 1);
}

#[tokio::test]
async fn a_deleted_pod_frees_its_name_and_is_still_found_by_its_id() {
    let stage = Stage::start().await;
    let pod = stage.pod("web", "admin", None).await;
    eventually(SOON, "the pod", async || {
        let found = stage.get("/pods/web").await;
        if found.status == 200 { Ok(()) } else { Err(found) }
    })
    .await;
    let mut socket = stage.socket().await;
    socket.subscribe("pods").await;
    socket.state_until("pods", |known| known.len() == 1).await;
    assert_eq!(stage.send(Method::POST, "/pods", &json!({ "name": "web" }), None).await.status, 409);
    let bucket = stage.bus.bucket::<PodRecord>(&PODS).await.unwrap();
    let entry = bucket.get(&pod.to_string()).await.unwrap().unwrap();
    let record = PodRecord { phase: PodPhase::Deleted, desired: Desired::Deleted, operation: None, ..entry.record };
    bucket.update(&pod.to_string(), &record, entry.revision).await.unwrap();
    socket.until(|said| said["topic"] == "pods" && said["removed"][0] == pod.to_string()).await;
    assert_eq!(stage.get("/pods/web").await.status, 404);
    assert_eq!(text(&stage.get(&format!("/pods/{pod}")).await.body, "phase"), "deleted");
    assert_eq!(stage.get("/pods").await.body["items"], json!([]));
    assert_eq!(stage.get("/pods?phase=deleted").await.body["items"][0]["pod_id"], pod.to_string());
    let again = stage.send(Method::POST, "/pods", &json!({ "name": "web" }), None).await;
    assert_eq!(again.status, 202, "{again:?}");
    assert_eq!(stage.get("/pods/web").await.body["pod_id"], again.body["pod"]["pod_id"]);
}

#[tokio::test]
async fn everything_that_is_done_to_pods_and_hosts_is_a_request_that_says_so() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let host = stage.host("alpha").await;
    let pod = stage.pod("web", "admin", Some(host)).await;
    eventually(SOON, "the pod", async || if stage.get("/pods/web").await.status == 200 { Ok(()) } else { Err(()) })
        .await;
    let mut expected = Vec::new();
    for verb in ["start", "stop", "restart", "pause", "resume"] {
        let asked = stage.post(&format!("/pods/web/{verb}")).await;
        assert_eq!((asked.status, text(&asked.body["pod"], "name")), (202, "web"), "{asked:?}");
        expected.push(("pod", pod.to_string(), verb, json!({})));
    }
    assert_eq!(stage.delete("/pods/web").await.status, 202);
    expected.push(("pod", pod.to_string(), "delete", json!({})));
    for verb in ["cordon", "uncordon", "trust-keys"] {
        assert_eq!(stage.post(&format!("/hosts/alpha/{verb}")).await.status, 202);
        expected.push(("host", host.to_string(), verb, json!({})));
    }
    let labels = json!({ "set": { "zone": "north" }, "remove": ["disk"] });
    assert_eq!(stage.send(Method::PUT, "/hosts/alpha/labels", &labels, None).await.status, 202);
    expected.push(("host", host.to_string(), "label", labels));
    let owners = json!({ "owners": ["admin"] });
    assert_eq!(stage.send(Method::PUT, "/hosts/alpha/owners", &owners, None).await.status, 202);
    expected.push(("host", host.to_string(), "allow", owners));
    let asked: Vec<_> = stage.requests().await;
    let asked: Vec<_> = asked
        .iter()
        .map(|request| {
            (request.kind.as_str(), request.target_id.clone(), request.verb.as_str(), request.parameters.clone())
        })
        .collect();
    assert_eq!(asked, expected);
    // What is about nobody is refused, and nothing goes out.
    for path in ["/pods/nowhere/start", "/hosts/nowhere/cordon", "/operations/op_000000000000000000000000000/cancel"] {
        assert_eq!(stage.post(path).await.status, 404, "{path}");
    }
    assert_eq!(stage.requests().await.len(), expected.len());
}

#[tokio::test]
async fn an_operation_is_told_step_by_step_and_cancelled_while_it_goes_on() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let made = stage.send(Method::POST, "/pods", &json!({ "name": "web" }), None).await;
    let id = text(&made.body, "operation_id");
    let request = stage.requests().await.remove(0);
    let topic = format!("op:{id}");
    let mut socket = stage.socket().await;
    socket.subscribe(&topic).await;
    let told = socket.until(|said| said["topic"] == topic.as_str()).await;
    assert_eq!(told["items"][0]["progress"], "waiting");
    stage.tell(&operation(&request, Progress::Running, true)).await;
    let told = socket.until(|said| said["items"][0]["progress"] == "running").await;
    assert_eq!(told["items"][0]["steps"][1]["note"], "waits for its network");
    assert_eq!(stage.get(&format!("/operations/{id}")).await.body, told["items"][0]);

    let cancelled = stage.post(&format!("/operations/{id}/cancel")).await;
    assert_eq!(cancelled.status, 202, "{cancelled:?}");
    assert_ne!(text(&cancelled.body, "operation_id"), id, "cancelling is an operation of its own");
    let asked = stage.requests().await.pop().unwrap();
    assert_eq!((asked.verb.as_str(), &asked.target_id), ("cancel", &request.target_id));
    assert_eq!(asked.parameters, json!({ "operation_id": id }));

    stage.tell(&operation(&request, Progress::Cancelled, true)).await;
    socket.until(|said| said["items"][0]["progress"] == "cancelled").await;
    let late = stage.post(&format!("/operations/{id}/cancel")).await;
    assert_eq!((late.status, text(&late.body, "code")), (409, "operation_ended"), "{late:?}");
}

#[tokio::test]
async fn pages_of_operations_have_no_gap_and_no_double_across_what_is_live_and_what_is_history() {
    let mut stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_RECENT_EVENTS", "16")]).await;
    let _ingest = stage.ingest().await;
    let (host, pod) = (HostId::new(), PodId::new());
    let request: Request = golden("request");
    let mut expected = Vec::new();
    for number in 0..60 {
        let request = Request { operation_id: OperationId::new(), target_id: pod.to_string(), ..request.clone() };
        let progress = if number % 3 == 0 { Progress::Running } else { Progress::Succeeded };
        stage.tell(&Operation { host_id: Some(host), ..operation(&request, progress, true) }).await;
        expected.push((request.operation_id.to_string(), progress));
    }
    expected.sort_by(|(one, _), (other, _)| other.cmp(one));
    let oldest = expected.last().unwrap().0.clone();
    // A start knows the recent ones only; the rest comes from the history.
    stage.gateway.kill9().await;
    stage.gateway.restart().await;
    eventually(SOON, "all operations", async || {
        let answer = stage.get(&format!("/operations/{oldest}")).await;
        if answer.status == 200 && answer.body["steps"].as_array().unwrap().len() == 2 { Ok(()) } else { Err(answer) }
    })
    .await;
    for wanted in [None, Some(Progress::Running), Some(Progress::Failed)] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let filter = wanted.map(|wanted| format!("&progress={}", wanted.as_str())).unwrap_or_default();
            let page = stage.get(&format!("/operations?limit=7{filter}{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            seen.extend(
                page.body["items"].as_array().unwrap().iter().map(|item| text(item, "operation_id").to_owned()),
            );
            let Some(next) = page.body["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let matching = expected.iter().filter(|(_, progress)| wanted.is_none_or(|wanted| wanted == *progress));
        let expected: Vec<String> = matching.map(|(id, _)| id.clone()).collect();
        assert_eq!(seen, expected, "{wanted:?}");
    }
}

#[tokio::test]
async fn what_the_reconcilers_see_is_told_as_they_tell_it() {
    let stage = Stage::start().await;
    assert_eq!(stage.get("/reconcilers").await.body, json!({ "items": [] }));
    let bucket = stage.bus.bucket::<ReconcilerStatus>(&STATUS).await.unwrap();
    let status: ReconcilerStatus = golden("reconciler_status");
    for name in ["stuck", "orphans"] {
        bucket.create(name, &ReconcilerStatus { name: name.into(), ..status.clone() }).await.unwrap();
    }
    let told = stage.get("/reconcilers").await.body;
    let expected: Vec<Value> = ["orphans", "stuck"]
        .map(|name| serde_json::to_value(ReconcilerStatus { name: name.into(), ..status.clone() }).unwrap())
        .into();
    assert_eq!(told["items"], Value::from(expected));
}
