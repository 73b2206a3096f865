//! The audit log over HTTP: what gets an entry, and who sees it.

use pinacle_bus::contract::{
    OperationId,
    request::{Progress, Request},
};
use pinacle_tests::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    asking::operation,
    browser::{Browser, PASSWORD, first_admin, person},
    stage::{SOON, Stage, answer, golden},
};

async fn entries(browser: &mut Browser, query: &str) -> Vec<Value> {
    let answer = browser.get(&format!("/audit?limit=1000{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["items"].as_array().unwrap().clone()
}

async fn user_id(browser: &mut Browser) -> String {
    browser.get("/account").await.body["user_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn people_see_what_they_did_and_what_was_done_with_theirs_and_no_more() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let mut admin = first_admin(&stage).await;
    let mut ann = person(&stage, &mut admin, "ann@example.org").await;
    let mut bob = person(&stage, &mut admin, "bob@example.org").await;
    let (ann_id, admin_id) = (user_id(&mut ann).await, user_id(&mut admin).await);

    let wrong = Browser::new(&stage).sign_in("ann@example.org", "wrong-wrong-wrong-wrong").await;
    assert_eq!(wrong.status, 401, "{wrong:?}");
    let made = ann.send(Method::POST, "/pods", Some(json!({ "name": "web" }))).await;
    assert!(made.status == 201 || made.status == 202, "{made:?}");
    let operation = made.body["operation_id"].as_str().unwrap().to_owned();
    let pod = eventually(SOON, "the pod", async || {
        ann.get("/pods").await.body["items"][0]["pod_id"].as_str().map(str::to_owned)
    })
    .await;
    for _ in 0..3 {
        assert_eq!(admin.get(&format!("/pods/{pod}")).await.status, 200);
    }
    assert_eq!(bob.get(&format!("/pods/{pod}")).await.status, 404);
    assert_eq!(bob.send(Method::DELETE, &format!("/pods/{pod}"), None).await.status, 404);

    let all = eventually(SOON, "all entries", async || {
        let all = entries(&mut admin, "").await;
        let has = |action: &str, outcome: &str| all.iter().any(|it| it["action"] == action && it["outcome"] == outcome);
        let whole = has("pod_get", "succeeded") && has("pod_delete", "refused") && has("session_create", "refused");
        if whole && has("pod_create", "accepted") { Ok(all) } else { Err(all) }
    })
    .await;
    let of = |action: &str, actor: &str| -> Vec<&Value> {
        all.iter().filter(|it| it["action"] == action && it["actor"] == actor).collect()
    };
    let creation = of("pod_create", &ann_id)[0];
    assert_eq!((&creation["via"], &creation["address"]), (&json!("session"), &json!("127.0.0.1")), "{creation}");
    assert_eq!((&creation["target_id"], &creation["owner"]), (&json!(pod), &json!(ann_id)), "{creation}");
    assert_eq!(creation["operation_id"], json!(operation));
    assert!(creation["credential_id"].as_str().unwrap().starts_with("login_"), "{creation}");
    assert_eq!(of("session_create", &ann_id)[0]["outcome"], "succeeded");
    assert_eq!(of("session_create", "nobody")[0]["target_id"], "ann@example.org");
    let looks = of("pod_get", &admin_id);
    assert_eq!((looks.len(), &looks[0]["owner"]), (1, &json!(ann_id)), "{looks:?}");
    assert!(all.iter().all(|it| !it.to_string().contains(PASSWORD) && !it.to_string().contains("wrong-wrong")));

    // Ann sees the admin's look, but not from where; and nothing that is neither hers nor about hers.
    let hers = entries(&mut ann, "").await;
    assert!(hers.iter().all(|it| it["actor"] == json!(ann_id) || it["owner"] == json!(ann_id)), "{hers:?}");
    let look = hers.iter().find(|it| it["actor"] == json!(admin_id)).unwrap();
    assert_eq!((&look["action"], &look["address"], &look["seq"]), (&json!("pod_get"), &Value::Null, &Value::Null));
    assert!(hers.iter().any(|it| it["action"] == "pod_create" && it["address"] == "127.0.0.1"));
    assert_eq!(entries(&mut bob, &format!("&actor={ann_id}")).await, [] as [Value; 0]);
    assert_eq!(entries(&mut bob, &format!("&operation={operation}")).await, [] as [Value; 0]);
    let path = format!("/audit/{}", creation["audit_id"].as_str().unwrap());
    assert_eq!((ann.get(&path).await.status, bob.get(&path).await.status), (200, 404));

    let export = ann.get("/audit/export?format=csv").await;
    let lines: Vec<&str> = export.body.as_str().unwrap().lines().collect();
    assert!(lines[0].starts_with("seq,audit_id,at,actor"), "{lines:?}");
    assert_eq!(lines.len(), entries(&mut ann, "").await.len() + 1);
}

#[tokio::test]
async fn an_admins_look_at_what_only_the_history_knows_leaves_an_entry_too() {
    let mut stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_RECENT_EVENTS", "16")]).await;
    let _ingest = stage.ingest().await;
    let mut admin = first_admin(&stage).await;
    let mut ann = person(&stage, &mut admin, "ann@example.org").await;
    let ann_id = user_id(&mut ann).await;
    let pod = stage.pod("web", &ann_id, None).await;
    let mut operations = Vec::new();
    for _ in 0..40 {
        let request =
            Request { operation_id: OperationId::new(), target_id: pod.to_string(), ..golden::<Request>("request") };
        stage.tell(&operation(&request, Progress::Succeeded, false)).await;
        operations.push(request.operation_id.to_string());
    }
    // A start knows the recent ones only.
    stage.gateway.kill9().await;
    stage.gateway.restart().await;
    eventually(SOON, "the oldest operation", async || {
        let answer = admin.get(&format!("/operations/{}", operations[0])).await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    let look = eventually(SOON, "the look", async || {
        let all = entries(&mut admin, "").await;
        let look = all.iter().find(|it| it["action"] == "operation_get" && it["outcome"] == "succeeded");
        look.cloned().ok_or(all)
    })
    .await;
    assert_eq!((&look["target_id"], &look["owner"]), (&json!(operations[0]), &json!(ann_id)), "{look}");
}

#[tokio::test]
async fn while_the_bus_is_away_nothing_is_changed_unrecorded() {
    let mut stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    stage.nats.kill9().await;
    let refused = eventually(SOON, "a refusal", async || {
        let answer = admin.send(Method::POST, "/users", Some(json!({ "email": "ann@example.org" }))).await;
        if answer.status == 503 { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert_eq!(refused.body["code"], "bus_unavailable");
    let signing_in = json!({ "email": "admin@localhost", "password": PASSWORD });
    let refused = answer(stage.request(Method::POST, "/api/v1/sessions").json(&signing_in)).await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("bus_unavailable")));
    stage.nats.restart().await;
    eventually(SOON, "people to come in again", async || {
        let answer = Browser::new(&stage).sign_in("admin@localhost", PASSWORD).await;
        if answer.status == 201 { Ok(()) } else { Err(answer) }
    })
    .await;
}
