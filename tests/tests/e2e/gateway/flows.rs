//! What flows by: commands as they run, and what a pod prints, each line once across answers, silences and reconnects.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use pinacle_bus::{
    client::{Ask, respond},
    contract::{
        HostId, OperationId, PodId, Subject, Timestamp,
        command::{Command, Fault, FaultCode, LogChunk, LogLine, Logs, Ping, Pong},
        exec::ExecRecord,
        subject::filter,
    },
};
use pinacle_tests::eventually;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::stage::{SOON, Stage, golden};

async fn run(stage: &Stage, record: &ExecRecord) {
    let target = record.pod_id.map_or(record.host_id.to_string(), |pod| pod.to_string());
    let subject = Subject::Exec { target, operation: record.operation_id };
    let id = format!("{}-{}-{}", record.operation_id, record.sequence, record.stdout.len());
    stage.bus.publish(&subject, &id, record).await.unwrap();
}

#[tokio::test]
async fn commands_are_told_as_they_run_and_listed_afterwards() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let host = stage.host("alpha").await;
    let pod = stage.pod("web", "admin", Some(host)).await;
    eventually(SOON, "the pod", async || if stage.get("/pods/web").await.status == 200 { Ok(()) } else { Err(()) })
        .await;
    let operation_id = OperationId::new();
    let golden: ExecRecord = golden("exec_record");
    let record = |sequence: u32, container_command: Option<&str>| ExecRecord {
        operation_id,
        sequence,
        host_id: host,
        pod_id: Some(pod),
        container_command: container_command.map(str::to_owned),
        ..golden.clone()
    };
    // One was run before anybody looked, and is joined.
    run(&stage, &record(1, None)).await;
    let mut socket = stage.socket().await;
    let topic = format!("exec:{pod}");
    socket.subscribe(&topic).await;
    let told = socket.until(|said| said["topic"] == topic.as_str()).await;
    assert_eq!((&told["reset"], &told["items"][0]["sequence"]), (&json!(true), &json!(1)));
    // One is told while it runs, and when it has ended.
    let begun = ExecRecord { stdout: "one".into(), exit_code: None, duration_ms: None, ..record(2, Some("true")) };
    run(&stage, &begun).await;
    let told = socket.until(|said| said["topic"] == topic.as_str()).await;
    assert_eq!((&told["items"][0]["stdout"], &told["items"][0]["duration_ms"]), (&json!("one"), &Value::Null));
    run(&stage, &ExecRecord { stdout: "one two".into(), ..record(2, Some("true")) }).await;
    let told = socket.until(|said| said["topic"] == topic.as_str()).await;
    assert_eq!((&told["items"][0]["stdout"], &told["items"][0]["exit_code"]), (&json!("one two"), &json!(0)));
    // What is run for the host itself is none of the pod's.
    run(&stage, &ExecRecord { pod_id: None, ..record(3, None) }).await;

    let listed = async |path: String| -> Vec<(i64, Value)> {
        let answer = stage.get(&path).await;
        let items = answer.body["items"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
        items.iter().map(|item| (item["sequence"].as_i64().unwrap(), item["stdout"].clone())).collect()
    };
    let (first, second, third) = ((1, json!(golden.stdout)), (2, json!("one two")), (3, json!(golden.stdout)));
    eventually(SOON, "the history", async || {
        let of_host = listed("/hosts/alpha/exec".into()).await;
        if of_host == [third.clone(), second.clone(), first.clone()] { Ok(()) } else { Err(of_host) }
    })
    .await;
    assert_eq!(listed("/pods/web/exec".into()).await, [second.clone(), first]);
    assert_eq!(listed("/pods/web/exec?container_only=true".into()).await, std::slice::from_ref(&second));
    assert_eq!(listed(format!("/pods/web/exec?operation={operation_id}&limit=1")).await, [second]);
    assert_eq!(listed(format!("/pods/web/exec?operation={}", OperationId::new())).await, []);
}

/// What an agent is asked for a log, and what it says: scripted, so that each answer and each silence is certain.
struct Agent {
    task: Mutex<JoinSet<()>>,
    asked: Mutex<Vec<Logs>>,
    answers: Mutex<VecDeque<Result<Vec<LogLine>, FaultCode>>>,
    now: Timestamp,
}

impl Agent {
    async fn start(stage: &Stage, host: HostId, answers: Vec<Result<Vec<LogLine>, FaultCode>>) -> Arc<Self> {
        let agent = Arc::new(Self {
            task: Mutex::default(),
            asked: Mutex::default(),
            answers: Mutex::new(answers.into()),
            now: "2026-11-21T09:15:40.000Z".parse().unwrap(),
        });
        let (bus, answering) = (stage.bus.clone(), agent.clone());
        agent.task.lock().spawn(async move {
            let deadline = |_: &str| Duration::from_secs(30);
            let answer = move |ask| answering.clone().answer(host, ask);
            respond(&bus, filter::commands(host), 8, deadline, CancellationToken::new(), answer).await.unwrap();
        });
        agent
    }

    async fn answer(self: Arc<Self>, host_id: HostId, ask: Arc<Ask>) -> Result<Value, Fault> {
        if ask.verb() == Ping::VERB {
            return Ok(json!(Pong { host_id, at: self.now }));
        }
        self.asked.lock().push(ask.parameters()?);
        let answer = self.answers.lock().pop_front();
        match answer {
            Some(Ok(lines)) => Ok(json!(LogChunk { sequence: 0, lines, truncated: false, end: true })),
            Some(Err(code)) => Err(Fault { code, message: "not now".into() }),
            None => std::future::pending().await,
        }
    }
}

fn line(at: &str, text: &str) -> LogLine {
    LogLine { at: Some(format!("2026-11-21T09:15:{at}Z").parse().unwrap()), stream: "stdout".into(), text: text.into() }
}

#[tokio::test]
async fn a_followed_log_has_each_line_once_across_the_answers_of_an_agent() {
    let stage = Stage::start().await;
    let host = stage.host("alpha").await;
    let pod = stage.pod("web", "admin", Some(host)).await;
    eventually(SOON, "the pod", async || if stage.get("/pods/web").await.status == 200 { Ok(()) } else { Err(()) })
        .await;
    let answers = vec![
        Ok(vec![line("41.100", "a"), line("41.200", "b"), line("41.200", "c")]),
        // It goes on with the last time, which two lines had already.
        Ok(vec![line("41.200", "b"), line("41.200", "c"), line("41.200", "d")]),
        Err(FaultCode::Unavailable),
        Ok(vec![line("41.200", "b"), line("41.200", "c"), line("41.200", "d"), line("42.000", "e")]),
    ];
    let agent = Agent::start(&stage, host, answers).await;
    let mut socket = stage.socket().await;
    let topic = format!("logs:{pod}");
    socket.say(json!({ "op": "subscribe", "topic": topic, "tail": 3 })).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|text| text != "e") {
        let said = socket.until(|said| said["topic"] == topic.as_str() && said["op"] == "state").await;
        assert_eq!(said["reset"], told.is_empty());
        told.extend(said["items"].as_array().unwrap().iter().map(|item| item["text"].as_str().unwrap().to_owned()));
    }
    assert_eq!(told, ["a", "b", "c", "d", "e"]);
    let asked = agent.asked.lock().clone();
    assert_eq!((asked[0].tail, asked[0].since), (3, None));
    assert_eq!(asked[1].since, line("41.200", "").at);
    assert!(asked.iter().all(|asked| asked.pod_id == pod && asked.follow_seconds > 0), "{asked:?}");
}

#[tokio::test]
async fn a_log_without_a_tail_begins_now_by_the_hosts_clock_and_ends_with_the_pod() {
    let stage = Stage::start().await;
    let host = stage.host("alpha").await;
    let pod = PodId::new();
    stage.sample(host, 1.0, &[pod]).await;
    eventually(SOON, "the pod", async || {
        let found = stage.get(&format!("/pods/{pod}")).await;
        if found.status == 200 { Ok(()) } else { Err(found) }
    })
    .await;
    let mut answers = vec![Ok(vec![]), Ok(vec![line("41.000", "a")])];
    // Its container has ended: every answer comes at once.
    answers.extend((0..100).map(|_| Ok(vec![])));
    let agent = Agent::start(&stage, host, answers).await;
    let mut socket = stage.socket().await;
    let topic = format!("logs:{pod}");
    socket.subscribe(&topic).await;
    let said = socket.until(|said| said["topic"] == topic.as_str() && said["op"] == "state").await;
    assert_eq!(said["items"][0]["text"], "a");
    assert_eq!(agent.asked.lock()[0].since, Some(agent.now));
    // The host samples it no more, and it has no record.
    stage.sample(host, 2.0, &[]).await;
    let said = socket.until(|said| said["topic"] == topic.as_str() && said["op"] == "state").await;
    assert_eq!((&said["items"], &said["removed"]), (&json!([]), &json!([pod.to_string()])));
    for (message, code) in [
        (json!({ "op": "subscribe", "topic": format!("logs:{}", PodId::new()) }), "pod_not_found"),
        (json!({ "op": "subscribe", "topic": format!("exec:{}", PodId::new()) }), "pod_not_found"),
        (json!({ "op": "subscribe", "topic": topic, "tail": 10_001 }), "invalid_parameter"),
        (json!({ "op": "subscribe", "topic": "pods", "tail": 1 }), "invalid_parameter"),
    ] {
        socket.say(message.clone()).await;
        let said = socket.until(|said| said["op"] == "error").await;
        assert_eq!(said["code"], code, "{message}: {said}");
    }
}
