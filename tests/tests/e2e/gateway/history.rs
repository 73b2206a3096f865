//! What comes from Postgres, with ingest between the bus and it.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use pinacle_bus::contract::{
    DeadLetterId, Subject, Timestamp,
    dead::DeadLetter,
    metrics::Metrics,
    topology::{INGEST_METRICS, StreamName},
};
use pinacle_tests::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::{Answer, SOON, Stage, answer, golden, sample};

/// A dead letter as a consumer leaves it.
async fn dead_letter(
    stage: &Stage,
    sequence: u64,
    payload: &[u8],
    change: impl FnOnce(&mut DeadLetter),
) -> DeadLetterId {
    let mut letter = DeadLetter {
        dead_letter_id: DeadLetterId::new(),
        at: Timestamp::now(),
        stream_sequence: sequence,
        payload_base64: STANDARD.encode(payload),
        payload_bytes: payload.len() as u64,
        ..golden("dead_letter")
    };
    change(&mut letter);
    let subject = Subject::Dead { stream: letter.stream.clone(), consumer: INGEST_METRICS.name.into() };
    stage.bus.publish(&subject, &letter.message_id(), &letter).await.unwrap();
    eventually(SOON, "the dead letter", async || {
        let answer = stage.get(&format!("/dead-letters/{}", letter.dead_letter_id)).await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    letter.dead_letter_id
}

/// An event's place, as an admin gets it.
fn position(event: &Value) -> u64 {
    event["position"].as_str().unwrap().parse().unwrap()
}

fn items(answer: &Answer) -> &Vec<Value> {
    answer.body["items"].as_array().unwrap_or_else(|| panic!("{answer:?}"))
}

#[tokio::test]
async fn series_hold_what_was_sampled() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let host = stage.host("alpha").await;
    let pod = stage.pod("website", "user_1", Some(host)).await;
    let now = Timestamp::now();
    for index in 0..30u64 {
        let mut metrics: Metrics = sample(host, 10.0 + index as f64, &[pod]);
        metrics.sampled_at = now.minus(Duration::from_secs(5 * (30 - index)));
        stage.publish(&metrics).await;
    }
    let from = now.minus(Duration::from_secs(600));
    let path = format!("/hosts/alpha/metrics?from={from}&to={now}&step=5");
    let series = eventually(SOON, "30 samples", async || {
        let answer = stage.get(&path).await;
        let samples = |answer: &Answer| -> Option<u64> {
            answer.body["points"].as_array()?.iter().map(|point| point["samples"].as_u64()).sum()
        };
        if samples(&answer) == Some(30) { Ok(answer.body) } else { Err(answer) }
    })
    .await;
    assert_eq!((&series["resolution"], &series["step_seconds"]), (&json!("raw"), &json!(5)));
    let highest = series["points"].as_array().unwrap().iter().map(|point| point["cpu_percent_max"].as_f64().unwrap());
    assert_eq!(highest.fold(0.0, f64::max), 39.0);
    let document = answer(stage.request(Method::GET, "/api/openapi.json")).await.body;
    let names = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let described = |name: &str| names(&document["components"]["schemas"][name]["properties"]);
    assert_eq!(names(&series["points"][0]), described("HostPoint"));

    let by_minute = stage.get(&format!("/hosts/{host}/metrics?from={from}&to={now}&step=60")).await;
    let count: u64 = by_minute.body["points"].as_array().unwrap().iter().map(|p| p["samples"].as_u64().unwrap()).sum();
    assert_eq!((&by_minute.body["resolution"], count), (&json!("minute"), 30), "{by_minute:?}");

    let of_pod = eventually(SOON, "the pod's series", async || {
        let answer = stage.get(&format!("/pods/website/metrics?from={from}&to={now}&step=5")).await;
        if answer.status == 200 { Ok(answer.body) } else { Err(answer) }
    })
    .await;
    assert_eq!(of_pod["points"].as_array().unwrap().len(), 30);
    assert_eq!(names(&of_pod["points"][0]), described("PodPoint"));
    let empty = stage.get("/hosts/alpha/metrics?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z").await;
    assert_eq!((empty.status, &empty.body["points"]), (200, &json!([])));
}

#[tokio::test]
async fn a_pod_without_a_record_has_its_series_too() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let host = stage.host("alpha").await;
    let pod = pinacle_bus::contract::PodId::new();
    stage.sample(host, 21.0, &[pod]).await;
    let series = eventually(SOON, "the pod's series", async || {
        let answer = stage.get(&format!("/pods/{pod}/metrics?step=5")).await;
        let there = answer.body["points"].as_array().is_some_and(|points| !points.is_empty());
        if there { Ok(answer.body) } else { Err(answer) }
    })
    .await;
    assert_eq!(series["points"][0]["cpu_percent_avg"], 21.0);
}

#[tokio::test]
async fn pages_of_events_have_no_gap_and_no_double_while_events_come() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let host = stage.host("alpha").await;
    let mut expected = Vec::new();
    for index in 0..50 {
        expected.push(stage.event(host, &format!("{index}")).await);
    }
    let all = async || items(&stage.get("/events?limit=1000").await).len();
    eventually(SOON, "all events", async || if all().await == 50 { Ok(()) } else { Err(all().await) }).await;

    for (order, path) in
        [("asc", "/events".to_owned()), ("asc", format!("/hosts/{host}/events")), ("desc", "/events".into())]
    {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = stage.get(&format!("{path}?limit=8&order={order}{cursor}")).await;
            seen.extend(items(&page).iter().map(position));
            stage.event(host, "meanwhile").await;
            let Some(next) = page.body["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            assert!(seen.len() < 500, "the end never comes");
        }
        let mut distinct: Vec<u64> = seen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), seen.len(), "an event came twice");
        assert!(expected.iter().all(|sequence| distinct.contains(sequence)), "events are missing");
        if order == "desc" {
            assert!(seen.is_sorted_by(|a, b| a > b));
        } else {
            assert!(seen.is_sorted());
        }
    }
    let after = stage.get(&format!("/events?after={}&limit=1", expected[9])).await;
    assert_eq!(position(&items(&after)[0]), expected[10]);
    let one = stage.get("/events?kind=host&what=state_changed&limit=1").await;
    assert_eq!(items(&one)[0]["target_id"], host.to_string());
    assert!(items(&stage.get("/events?kind=pod").await).is_empty());
    assert!(items(&stage.get("/events?until=2020-01-01T00:00:00Z").await).is_empty());
    assert!(items(&stage.get(&format!("/events?after={}", u64::MAX)).await).is_empty());
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_once() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let host = stage.host("alpha").await;
    let message = sample(host, 55.0, &[]);
    let payload = serde_json::to_vec(&message).unwrap();
    let letter = dead_letter(&stage, 900, &payload, |letter| letter.subject = Subject::Metrics(host).to_string()).await;
    let detail = stage.get(&format!("/dead-letters/{letter}")).await;
    assert_eq!(detail.body["payload_text"].as_str().unwrap().as_bytes(), payload);
    assert_eq!(detail.body["whole"], true);

    let before = stage.bus.stream_bounds(StreamName::Metrics).await.unwrap().1;
    // Two people at once.
    let path = format!("/dead-letters/{letter}/resend");
    let (one, two) = tokio::join!(stage.post(&path), stage.post(&path));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{one:?} {two:?}");
    let done = if one.status == 200 { one } else { two };
    assert_eq!(done.body["sequence"], before + 1);
    assert_eq!(done.body["recorded"], true);
    assert_eq!(stage.bus.stream_bounds(StreamName::Metrics).await.unwrap().1, before + 1);
    for again in [stage.post(&path).await, stage.delete(&format!("/dead-letters/{letter}")).await] {
        assert_eq!((again.status, &again.body["code"]), (409, &json!("dead_letter_resolved")));
    }
    assert!(stage.get(&format!("/dead-letters/{letter}")).await.body["resent_at"].is_string());
    assert!(items(&stage.get("/dead-letters?open=true").await).is_empty());
    assert_eq!(items(&stage.get("/dead-letters").await).len(), 1);
    eventually(SOON, "the sample to be live", async || {
        stage.get("/hosts/alpha").await.body["metrics"]["cpu_percent"] == 55.0
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_sent_again_can_be_dropped() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let cut = dead_letter(&stage, 1, b"{}", |letter| letter.payload_bytes = 700_000).await;
    let newer = dead_letter(&stage, 2, b"{}", |letter| letter.schema = 99).await;
    let elsewhere = dead_letter(&stage, 3, b"\xff\0", |letter| letter.subject = "somebody.elses".into()).await;
    for letter in [cut, newer, elsewhere] {
        let answer = stage.post(&format!("/dead-letters/{letter}/resend")).await;
        assert_eq!((answer.status, &answer.body["code"]), (409, &json!("dead_letter_unsendable")), "{answer:?}");
    }
    assert!(stage.get(&format!("/dead-letters/{elsewhere}")).await.body["payload_text"].is_null());
    let dropped = stage.delete(&format!("/dead-letters/{cut}")).await;
    assert_eq!((dropped.status, &dropped.body["recorded"]), (200, &json!(true)), "{dropped:?}");
    let open = stage.get("/dead-letters?open=true&order=desc&limit=1").await;
    assert_eq!(items(&open)[0]["dead_letter_id"], elsewhere.to_string());
    let next = stage
        .get(&format!(
            "/dead-letters?open=true&order=desc&limit=1&cursor={}",
            open.body["next_cursor"].as_str().unwrap()
        ))
        .await;
    assert_eq!(
        (items(&next)[0]["dead_letter_id"].as_str().unwrap(), &next.body["next_cursor"]),
        (newer.to_string().as_str(), &Value::Null)
    );
}
