//! Whoever owns a host sees it live, with what is done to it and was run on it; nobody else learns of it.

use std::{collections::BTreeSet, time::Duration};

use pinacle_bus::contract::{HostId, OperationId, PodId, Subject, exec::ExecRecord, host::HostRecord, topology::HOSTS};
use pinacle_tests::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::{
    socket::{Gone, Socket},
    stage::{Answer, SOON, Stage, golden},
    tenants::{Somebody, text},
};

/// Long enough for a change to be pushed several times over.
const A_WHILE: Duration = Duration::from_millis(700);

fn ids(items: &Value, name: &str) -> BTreeSet<String> {
    items.as_array().unwrap_or_else(|| panic!("{items}")).iter().map(|item| text(item, name)).collect()
}

fn set<const N: usize>(hosts: [HostId; N]) -> BTreeSet<String> {
    hosts.iter().map(HostId::to_string).collect()
}

async fn follow(stage: &Stage, who: &Somebody, topics: &[&str]) -> Socket {
    let mut socket = Socket::open(stage.address, &who.token).await;
    for topic in topics {
        socket.subscribe(topic).await;
    }
    socket
}

async fn next_of(socket: &mut Socket, topic: &str) -> Value {
    socket.until(|said| said["op"] == "state" && said["topic"] == topic).await
}

#[tokio::test]
async fn whoever_owns_a_host_sees_it_live_and_learns_nothing_of_others() {
    let stage = Stage::start().await;
    let (ann, bob) = (stage.person("ann", false).await, stage.person("bob", false).await);
    let team = stage.team(&ann, "platform").await;
    // More of others' than fit into one frame, so that it would show if they were counted.
    let mut others = Vec::new();
    for number in 0..150 {
        others.push(stage.host_unseen(&format!("of-the-house-{number}")).await);
    }
    let (hers, the_teams) = (stage.host_of("hers", Some(&ann.user_id)).await, stage.host_of("ours", Some(&team)).await);
    let his = stage.host_of("his", Some(&bob.user_id)).await;

    let mut socket = follow(&stage, &ann, &["hosts"]).await;
    let first = next_of(&mut socket, "hosts").await;
    assert_eq!((ids(&first["items"], "host_id"), &first["removed"]), (set([hers, the_teams]), &json!([])));
    let listed = stage.look(&ann, "/hosts").await;
    assert_eq!(ids(&listed.body["items"], "host_id"), set([hers, the_teams]), "as GET /hosts has it");

    // What others' do, and that they go, makes no frame.
    stage.sample(his, 1.0, &[]).await;
    stage.host_changes(his, |record| record.notes = "another".into()).await;
    let bucket = stage.bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
    for other in [others[0], others[1]] {
        let entry = bucket.get(&other.to_string()).await.unwrap().unwrap();
        bucket.delete(&other.to_string(), entry.revision).await.unwrap();
    }
    assert!(socket.is_silent_for(A_WHILE).await);
    stage.sample(hers, 2.0, &[]).await;
    let changed = next_of(&mut socket, "hosts").await;
    assert_eq!(ids(&changed["items"], "host_id"), set([hers]), "{changed}");
    assert_eq!((&changed["items"][0]["metrics"]["cpu_percent"], &changed["removed"]), (&json!(2.0), &json!([])));

    // One host in full, as GET has it; another's is as one that never was.
    let topic = format!("host:{hers}");
    socket.subscribe(&topic).await;
    let whole = next_of(&mut socket, &topic).await;
    let asked = stage.look(&ann, &format!("/hosts/{hers}")).await;
    assert_eq!(whole["items"][0], asked.body);
    for id in [his, HostId::new()] {
        let topic = format!("host:{id}");
        socket.subscribe(&topic).await;
        let none = next_of(&mut socket, &topic).await;
        assert_eq!((&none["items"], &none["removed"]), (&json!([]), &json!([id.to_string()])));
    }
}

#[tokio::test]
async fn a_host_that_is_anothers_now_is_gone_for_whoever_had_it() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_RECHECK_MS", "200")]).await;
    let (ann, bob) = (stage.person("ann", false).await, stage.person("bob", false).await);
    let team = stage.team(&ann, "platform").await;
    stage.joins(&team, &bob, "member").await;
    let hers = stage.host_of("hers", Some(&ann.user_id)).await;
    let the_teams = stage.host_of("ours", Some(&team)).await;
    let topic = format!("host:{hers}");
    let mut socket = follow(&stage, &ann, &["hosts", &topic]).await;
    let mut his = follow(&stage, &bob, &["hosts"]).await;
    assert_eq!(ids(&next_of(&mut his, "hosts").await["items"], "host_id"), set([the_teams]));
    socket.state_until(&topic, |known| known.len() == 1).await;

    stage.host_changes(hers, |record| record.owner = Some(bob.user_id.clone())).await;
    for topic in ["hosts", &topic] {
        let gone = next_of(&mut socket, topic).await;
        assert_eq!((&gone["items"], &gone["removed"]), (&json!([]), &json!([hers.to_string()])), "{topic}");
    }
    assert_eq!(ids(&next_of(&mut his, "hosts").await["items"], "host_id"), set([hers]));
    stage.sample(hers, 3.0, &[]).await;
    assert_eq!(next_of(&mut his, "hosts").await["items"][0]["metrics"]["cpu_percent"], 3.0);
    assert!(socket.is_silent_for(A_WHILE).await, "what goes on with it is not hers to know");

    // Who leaves a team is told to come back, and then has nothing of it.
    let path = format!("/teams/{team}/members/{}", bob.user_id);
    assert_eq!(stage.as_who(&bob.token, Method::DELETE, &path, None).await.status, 204);
    let end = loop {
        if let Err(end) = his.heard().await {
            break end;
        }
    };
    assert_eq!(end, Gone::Closed(Some(1001)));
    let mut his = follow(&stage, &bob, &["hosts"]).await;
    assert_eq!(ids(&next_of(&mut his, "hosts").await["items"], "host_id"), set([hers]));
}

/// A command in the history: of a host, for a pod or for the host itself.
async fn ran(stage: &Stage, host_id: HostId, pod_id: Option<PodId>, stdout: &str) {
    let operation_id = OperationId::new();
    let record = ExecRecord { operation_id, host_id, pod_id, stdout: stdout.into(), ..golden("exec_record") };
    let target = pod_id.map_or_else(|| host_id.to_string(), |pod| pod.to_string());
    let subject = Subject::Exec { target, operation: operation_id };
    stage.bus.publish(&subject, &format!("{operation_id}"), &record).await.unwrap();
}

fn printed(answer: &Answer) -> BTreeSet<String> {
    ids(&answer.body["items"], "stdout")
}

#[tokio::test]
async fn an_owner_is_shown_what_was_run_for_their_host_and_their_pods_alone() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let (ann, bob) = (stage.person("ann", false).await, stage.person("bob", false).await);
    let (hers, his) = (stage.host_of("hers", Some(&ann.user_id)).await, stage.host_of("his", Some(&bob.user_id)).await);
    let ann_pod = stage.pod("anns", &ann.user_id, Some(hers)).await;
    let bob_pod = stage.pod("bobs", &bob.user_id, Some(hers)).await;
    for (host, pod, stdout) in [
        (hers, None, "hers itself"),
        (hers, Some(ann_pod), "anns pod"),
        (hers, Some(bob_pod), "bobs pod"),
        (his, None, "his itself"),
    ] {
        ran(&stage, host, pod, stdout).await;
    }
    let sees = async |who: &Somebody, path: &str, wanted: &[&str]| {
        eventually(SOON, "the commands", async || {
            let answer = stage.look(who, path).await;
            let wanted = wanted.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
            if answer.status == 200 && printed(&answer) == wanted { Ok(()) } else { Err(answer) }
        })
        .await;
    };
    eventually(SOON, "all of them", async || {
        let answer = stage.get("/exec").await;
        if printed(&answer).len() == 4 { Ok(()) } else { Err(answer) }
    })
    .await;
    sees(&ann, "/hosts/hers/exec", &["hers itself", "anns pod"]).await;
    sees(&ann, "/exec", &["hers itself", "anns pod"]).await;
    // Whose pod is on another's host sees what was run for the pod, and not by way of the host.
    sees(&bob, "/exec", &["bobs pod", "his itself"]).await;
    sees(&bob, "/hosts/his/exec", &["his itself"]).await;
    let answer = stage.look(&bob, &format!("/hosts/{hers}/exec")).await;
    assert_eq!((answer.status, &answer.body["code"]), (404, &json!("host_not_found")));

    stage.host_changes(hers, |record| record.owner = Some(bob.user_id.clone())).await;
    sees(&bob, "/hosts/hers/exec", &["hers itself", "bobs pod"]).await;
    sees(&ann, "/exec", &["anns pod"]).await;
    assert_eq!(stage.look(&ann, &format!("/hosts/{hers}/exec")).await.status, 404);
}

#[tokio::test]
async fn what_is_done_to_a_host_is_its_owners_to_follow() {
    let stage = Stage::start().await;
    let ingest = stage.ingest().await;
    let (ann, bob) = (stage.person("ann", false).await, stage.person("bob", false).await);
    let hers = stage.host_of("hers", Some(&ann.user_id)).await;
    let mut socket = follow(&stage, &ann, &["operations"]).await;
    let mut his = follow(&stage, &bob, &["operations"]).await;
    for socket in [&mut socket, &mut his] {
        assert_eq!(next_of(socket, "operations").await["items"], json!([]));
    }
    let asked = stage.ask(&ann, Method::PUT, "/hosts/hers/labels", json!({ "set": { "zone": "b" } })).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let operation = text(&asked.body, "operation_id");
    let path = format!("/operations/{operation}");
    assert_eq!(ids(&next_of(&mut socket, "operations").await["items"], "operation_id"), [operation.clone()].into());
    assert_eq!(stage.look(&ann, &path).await.body["verb"], "label");
    assert_eq!(stage.look(&bob, &path).await.status, 404);
    // Out of the history as well.
    eventually(SOON, "the request's row", async || {
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM request JOIN host ON host_id = target_id")
            .fetch_one(&stage.sql().await)
            .await
            .unwrap();
        if found == 1 { Ok(()) } else { Err(ingest.tail()) }
    })
    .await;
    assert!(his.is_silent_for(A_WHILE).await, "it is not his to know");

    // It goes with the host.
    stage.host_changes(hers, |record| record.owner = Some(bob.user_id.clone())).await;
    assert_eq!(next_of(&mut socket, "operations").await["removed"], json!([operation]));
    assert_eq!(ids(&next_of(&mut his, "operations").await["items"], "operation_id"), [operation].into());
    assert_eq!((stage.look(&ann, &path).await.status, stage.look(&bob, &path).await.status), (404, 200));
}
