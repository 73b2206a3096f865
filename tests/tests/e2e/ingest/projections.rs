//! Everything but samples: live records, requests, events, operations, commands, dead letters.

use std::time::Duration;

use pinacle_bus::contract::{
    DeadLetterId, EventId, HostId, PodId, Subject, Timestamp,
    dead::DeadLetter,
    event::{DEAD_LETTER_DROPPED, DEAD_LETTER_RESENT, Event, HOST_STATE_CHANGED, OPERATION_CHANGED},
    exec::ExecRecord,
    host::{HostRecord, HostState},
    pod::{PodPhase, PodRecord},
    request::{Operation, Progress, Request, RequestCommitted},
    subject::{EventKind, filter},
    topology::HOSTS,
};
use pinacle_tests::{Nats, User};
use serde_json::{Value, json};

use super::stage::{LONG, Stage, golden};

fn event(kind: EventKind, target: &str, what: &str, detail: Value) -> Event {
    let message = format!("{what} {target}");
    Event {
        event_id: EventId::new(),
        at: Timestamp::now(),
        kind,
        target_id: target.into(),
        what: what.into(),
        message,
        detail,
    }
}

async fn publish_event(stage: &Stage, event: &Event) {
    let subject = Subject::Event { kind: event.kind, id: event.target_id.clone(), what: event.what.clone() };
    stage.bus.publish(&subject, &event.event_id.to_string(), event).await.unwrap();
}

async fn row(stage: &Stage, sql: &'static str, id: &str) -> Option<Value> {
    sqlx::query_scalar(sql).bind(id).fetch_optional(&stage.pool).await.unwrap()
}

#[tokio::test]
async fn live_records_are_followed_from_their_making_to_their_removal() {
    let stage = Stage::start().await;
    let (host, pod) = (HostId::new(), PodId::new());
    // Made before ingest runs, changed while it does.
    let record = HostRecord { host_id: host, ..golden() };
    let revision = stage.hosts.create(&host.to_string(), &record).await.unwrap();
    let _ingest = stage.ingest("ingest").await;
    stage.count_becomes(1, "SELECT count(*) FROM host WHERE state = 'online'").await;
    let changed = HostRecord { state: HostState::Offline, ..record };
    let revision = stage.hosts.update(&host.to_string(), &changed, revision).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM host WHERE state = 'offline'").await;
    let written = row(&stage, "SELECT to_jsonb(host) FROM host WHERE host_id = $1", &host.to_string()).await.unwrap();
    assert_eq!(written["facts"], serde_json::to_value(&changed.facts).unwrap());
    assert_eq!(written["stream_sequence"], revision);
    stage.hosts.delete(&host.to_string(), revision).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM host WHERE deleted_at IS NOT NULL").await;

    let record = PodRecord { pod_id: pod, ..golden() };
    let revision = stage.pods.create(&pod.to_string(), &record).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM pod WHERE phase = 'running' AND external_port = 30001").await;
    let changed = PodRecord { phase: PodPhase::Stopped, external_port: None, ..record };
    let revision = stage.pods.update(&pod.to_string(), &changed, revision).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM pod WHERE phase = 'stopped' AND external_port IS NULL").await;
    stage.pods.delete(&pod.to_string(), revision).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM pod WHERE deleted_at IS NOT NULL").await;
    stage.count_becomes(0, "SELECT count(*) FROM dead_letter").await;
}

#[tokio::test]
async fn who_made_a_request_is_told_when_its_row_can_be_read() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest("ingest").await;
    let mut reports = stage.bus.subscribe(&filter::committed()).await.unwrap();
    stage.bus.flush(LONG).await.unwrap();
    let request: Request = golden();
    let subject =
        Subject::Request { kind: request.kind.clone(), id: request.target_id.clone(), verb: request.verb.clone() };
    let published = stage.bus.publish(&subject, &request.request_id.to_string(), &request).await.unwrap();
    let report = tokio::time::timeout(LONG, reports.next()).await.unwrap().unwrap();
    assert_eq!(report.subject.parse(), Ok(Subject::Committed(request.request_id)));
    let report: RequestCommitted = report.decode().unwrap();
    assert_eq!((report.request_id, report.stream_sequence), (request.request_id, published.sequence));
    // Told means there, at once.
    let id = request.request_id.to_string();
    let written = row(&stage, "SELECT to_jsonb(request) FROM request WHERE request_id = $1", &id).await.unwrap();
    assert_eq!(written["parameters"], request.parameters);
}

#[tokio::test]
async fn events_fill_their_tables_and_the_newest_operation_stays() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest("ingest").await;
    let (host, pod) = (HostId::new().to_string(), PodId::new().to_string());
    publish_event(&stage, &event(EventKind::Host, &host, HOST_STATE_CHANGED, json!({ "to": "offline" }))).await;
    publish_event(&stage, &event(EventKind::Host, &host, "noticed", Value::Null)).await;
    publish_event(&stage, &event(EventKind::Pod, &pod, "started", json!([1, "two", null]))).await;
    stage.count_becomes(2, "SELECT count(*) FROM host_event").await;
    stage.count_becomes(1, "SELECT count(*) FROM pod_event WHERE detail = '[1, \"two\", null]'").await;

    let mut operation: Operation = golden();
    let id = operation.operation_id.to_string();
    let changed =
        |operation: &Operation| event(EventKind::Op, &id, OPERATION_CHANGED, serde_json::to_value(operation).unwrap());
    publish_event(&stage, &changed(&operation)).await;
    operation.progress = Progress::Succeeded;
    operation.ended_at = Some(Timestamp::now());
    operation.steps.remove(0);
    publish_event(&stage, &changed(&operation)).await;
    stage
        .count_becomes(1, "SELECT count(*) FROM operation WHERE progress = 'succeeded' AND ended_at IS NOT NULL")
        .await;
    stage.count_becomes(1, "SELECT count(*) FROM operation_step WHERE label = 'create_container'").await;
    stage.count_becomes(0, "SELECT count(*) FROM dead_letter").await;
}

#[tokio::test]
async fn an_event_that_lies_becomes_a_dead_letter() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest("ingest").await;
    let host = HostId::new().to_string();
    let lies = [
        (event(EventKind::Host, &host, "changed", Value::Null), "evt.host.somebody.changed", "but it belongs on"),
        (event(EventKind::Host, "nobody", "changed", Value::Null), "evt.host.nobody.changed", "its target is no id"),
        (event(EventKind::Op, "op_1", OPERATION_CHANGED, json!({})), "evt.op.op_1.changed", "not a valid operation"),
    ];
    for (event, subject, reason) in lies {
        let bytes = serde_json::to_vec(&event).unwrap();
        let subject = format!("pinacle.v1.{subject}");
        stage.bus.publish_bytes(&subject, &event.event_id.to_string(), bytes.into()).await.unwrap();
        pinacle_tests::eventually(LONG, reason, async || {
            let found: Option<String> = sqlx::query_scalar(
                "SELECT consumer FROM dead_letter WHERE stream = 'EVENTS' AND position($1 IN reason) > 0",
            )
            .bind(reason)
            .fetch_optional(&stage.pool)
            .await
            .unwrap();
            found.ok_or("no such dead letter")
        })
        .await;
    }
    stage.count_becomes(0, "SELECT count(*) FROM host_event").await;
}

#[tokio::test]
async fn a_command_is_there_when_it_begins_and_whole_when_it_ended() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest("ingest").await;
    let ended: ExecRecord = golden();
    let began = ExecRecord { exit_code: None, duration_ms: None, stdout: String::new(), ..ended.clone() };
    let subject = Subject::Exec { target: ended.pod_id.unwrap().to_string(), operation: ended.operation_id };
    stage.bus.publish(&subject, "began", &began).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM exec_log WHERE exit_code IS NULL").await;
    stage.bus.publish(&subject, "ended", &ended).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM exec_log WHERE exit_code = 0 AND stdout = E'cdcd\\n'").await;
}

#[tokio::test]
async fn what_became_of_a_dead_letter_is_marked_even_when_the_mark_comes_first() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest("ingest").await;
    let letter = |sequence| DeadLetter { dead_letter_id: DeadLetterId::new(), stream_sequence: sequence, ..golden() };
    let (resent, dropped) = (letter(1), letter(2));
    let mark =
        |letter: &DeadLetter, what| event(EventKind::Dead, &letter.dead_letter_id.to_string(), what, Value::Null);
    publish_event(&stage, &mark(&resent, DEAD_LETTER_RESENT)).await;
    for letter in [&resent, &dropped] {
        let subject = Subject::Dead { stream: letter.stream.clone(), consumer: letter.consumer.clone() };
        stage.bus.publish(&subject, &letter.message_id(), letter).await.unwrap();
    }
    publish_event(&stage, &mark(&dropped, DEAD_LETTER_DROPPED)).await;
    stage.count_becomes(1, "SELECT count(*) FROM dead_letter WHERE resent_at IS NOT NULL AND dropped_at IS NULL").await;
    stage.count_becomes(1, "SELECT count(*) FROM dead_letter WHERE resent_at IS NULL AND dropped_at IS NOT NULL").await;
    stage.count_becomes(2, "SELECT count(*) FROM dead_letter").await;
}

#[tokio::test]
async fn projections_wait_for_postgres_and_are_told_once() {
    let mut stage = Stage::start().await;
    let mut ingest = stage.ingest("ingest").await;
    let host = HostId::new().to_string();
    stage.postgres.kill9().await;
    for number in 0..50 {
        publish_event(&stage, &event(EventKind::Host, &host, "noticed", json!({ "number": number }))).await;
    }
    pinacle_tests::eventually(LONG, "ingest to notice", async || match ingest.get("/readyz").await {
        Ok((503, _)) => Ok(()),
        other => Err(other),
    })
    .await;
    ingest.kill9().await;
    stage.postgres.restart().await;
    ingest.restart().await;
    stage.count_becomes(50, "SELECT count(*) FROM host_event").await;
    stage.count_becomes(50, "SELECT count(DISTINCT stream_sequence) FROM host_event").await;
    let status = ingest.sigterm(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn after_the_bus_was_lost_and_began_anew_its_records_replace_the_old_rows() {
    let stage = Stage::start().await;
    let record = HostRecord { host_id: HostId::new(), ..golden() };
    let key = record.host_id.to_string();
    let mut revision = stage.hosts.create(&key, &record).await.unwrap();
    for _ in 0..10 {
        revision = stage.hosts.update(&key, &record, revision).await.unwrap();
    }
    let mut ingest = stage.ingest("ingest").await;
    stage.count_becomes(1, "SELECT count(*) FROM host WHERE stream_sequence = 11").await;
    ingest.sigterm(LONG).await;

    let anew = Nats::start().await;
    let bus = anew.bus_with_topology().await;
    let changed = HostRecord { state: HostState::Offline, ..record };
    bus.bucket::<HostRecord>(&HOSTS).await.unwrap().create(&key, &changed).await.unwrap();
    let _ingest = stage.launch("ingest").envs(anew.env(User::INGEST)).start().await;
    stage.count_becomes(1, "SELECT count(*) FROM host WHERE state = 'offline' AND stream_sequence = 1").await;
}
