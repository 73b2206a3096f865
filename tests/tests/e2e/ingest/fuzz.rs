//! What the contract accepts, the tables take: golden messages with odd values, through the real bus into the real
//! Postgres. None may be refused there, which would be a hole in the contract's checks.

use pinacle_bus::contract::{
    Message, SCHEMA_VERSION, Subject, Timestamp, dead::DeadLetter, decode, event::Event, exec::ExecRecord,
    host::HostRecord, metrics::Metrics, pod::PodRecord, request::Request, topology::CONSUMERS,
};
use pinacle_tests::eventually;
use proptest::{
    prelude::*,
    sample::Index,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use super::stage::{LONG, Stage, golden};

const MESSAGES: usize = 4000;

/// A value of the same type that JSON allows and that columns may not.
fn odd(current: &Value, pick: Index) -> Value {
    let texts =
        ["", "\0", "\\u0000", "é\u{202e}\u{10ffff}", "'; --", "\\", "\u{feff}", "x", "9999-12-31T23:59:59.999Z"];
    let candidates: Vec<Value> = match current {
        Value::Number(number) if number.is_f64() => {
            [0.0, -0.0, 1e308, 5e-324, 1e15, 100.0, 0.1 + 0.2, 1e6, 409_600.0, 1e-7].map(Value::from).to_vec()
        }
        Value::Number(_) => {
            [0, 1, (1 << 31) - 1, 1 << 31, u64::from(u32::MAX), 1 << 32, 1 << 53, 1 << 60, (1 << 60) + 1]
                .map(Value::from)
                .to_vec()
        }
        Value::String(text) if text.parse::<Timestamp>().is_ok() => {
            ["1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "2026-02-28T23:59:60Z"].map(Value::from).to_vec()
        }
        Value::String(_) => texts.map(Value::from).into_iter().chain(["é".repeat(100).into()]).collect(),
        Value::Bool(it) => vec![Value::from(!it)],
        Value::Null => {
            vec![json!(7), json!("text"), json!("2026-11-21T09:15:40.123Z"), json!({ "": [null, 1e308, "\\"] })]
        }
        Value::Array(items) => vec![json!([]), items.iter().chain(items).cloned().collect()],
        Value::Object(_) => vec![json!({}), json!({ "": [null, true, 1e308, 5e-324, "\\"] }), json!(null)],
    };
    pick.get(&candidates).clone()
}

fn leaves(value: &Value, path: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, inner)| leaves(inner, format!("{path}/{key}"), pointers));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, inner)| leaves(inner, format!("{path}/{at}"), pointers));
        }
        _ => {}
    }
    pointers.push(path);
}

/// A golden message with some values replaced, if the contract takes it still.
fn spoilt<M: Message>(message: &M, changes: &[(Index, Index)]) -> Option<M> {
    let mut value = serde_json::to_value(message).unwrap();
    for (place, pick) in changes {
        let mut pointers = Vec::new();
        leaves(&value, String::new(), &mut pointers);
        let pointer: &String = place.get(&pointers);
        let current = value.pointer_mut(pointer).unwrap();
        *current = odd(current, *pick);
    }
    decode(SCHEMA_VERSION, value.to_string().as_bytes()).ok()
}

/// The message where it belongs, so that nothing but its values can be the matter; whether it was published.
async fn publish(stage: &Stage, kind: usize, changes: &[(Index, Index)], number: usize) -> bool {
    let id = number.to_string();
    let bus = &stage.bus;
    match kind {
        0 => {
            let now = Timestamp::now();
            let fresh = Metrics { sampled_at: now, ..golden() };
            let Some(sample) = spoilt(&fresh, changes) else { return false };
            bus.publish(&Subject::Metrics(sample.host_id), &id, &sample).await.unwrap();
        }
        1 => {
            let Some(event) = spoilt::<Event>(&golden(), changes) else { return false };
            let subject = Subject::Event { kind: event.kind, id: event.target_id.clone(), what: event.what.clone() };
            bus.publish(&subject, &id, &event).await.unwrap();
        }
        2 => {
            let Some(it) = spoilt::<Request>(&golden(), changes) else { return false };
            let subject = Subject::Request { kind: it.kind.clone(), id: it.target_id.clone(), verb: it.verb.clone() };
            bus.publish(&subject, &id, &it).await.unwrap();
        }
        3 => {
            let Some(it) = spoilt::<ExecRecord>(&golden(), changes) else { return false };
            let target = it.pod_id.map_or(it.host_id.to_string(), |pod| pod.to_string());
            bus.publish(&Subject::Exec { target, operation: it.operation_id }, &id, &it).await.unwrap();
        }
        4 => {
            let Some(it) = spoilt::<DeadLetter>(&golden(), changes) else { return false };
            // Other streams' and consumers' names are no subject.
            let subject = Subject::Dead { stream: it.stream.clone(), consumer: it.consumer.clone() };
            if subject.to_string().parse::<Subject>().is_err() {
                return false;
            }
            bus.publish(&subject, &id, &it).await.unwrap();
        }
        5 => {
            let Some(it) = spoilt::<HostRecord>(&golden(), changes) else { return false };
            let _ = stage.hosts.create(&it.host_id.to_string(), &it).await;
            let revision = stage.hosts.get(&it.host_id.to_string()).await.unwrap().unwrap().revision;
            stage.hosts.update(&it.host_id.to_string(), &it, revision).await.unwrap();
        }
        _ => {
            let Some(it) = spoilt::<PodRecord>(&golden(), changes) else { return false };
            let _ = stage.pods.create(&it.pod_id.to_string(), &it).await;
            let revision = stage.pods.get(&it.pod_id.to_string()).await.unwrap().unwrap().revision;
            stage.pods.update(&it.pod_id.to_string(), &it, revision).await.unwrap();
        }
    }
    true
}

#[tokio::test]
async fn what_the_contract_accepts_the_tables_take() {
    let stage = Stage::start().await;
    let ingest = stage.ingest("ingest").await;
    stage.admit(golden::<Metrics>().host_id).await;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let changes = (0_usize..7, prop::collection::vec((any::<Index>(), any::<Index>()), 1..4));
    let mut published = 0;
    for number in 0..MESSAGES {
        let (kind, changes) = changes.new_tree(&mut runner).unwrap().current();
        published += usize::from(publish(&stage, kind, &changes, number).await);
    }
    assert!(published > MESSAGES / 5, "only {published} were accepted: this tests little");
    for consumer in CONSUMERS.iter().filter(|consumer| consumer.name.starts_with("ingest-")) {
        eventually(LONG, consumer.name, async || {
            match stage.unfinished(consumer.stream.as_str(), consumer.name).await {
                Ok((0, 0)) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    let refused: Vec<(String, String)> =
        sqlx::query_as("SELECT stream, reason FROM dead_letter WHERE reason LIKE '%Postgres refuses%'")
            .fetch_all(&stage.pool)
            .await
            .unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(ingest.metric("pinacle_bus_messages_total", &["outcome=\"retried\""]).await.unwrap_or(0.0), 0.0);
}
