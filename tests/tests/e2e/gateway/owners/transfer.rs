//! Hosts, secrets and pods change hands: who may give what to whom, and what of the former owner's stays behind.

use pinacle_bus::{
    client::Bucket,
    contract::{
        PodId, Subject, Timestamp,
        key::{POD_SECRETS, PodSecrets, SEALING_KEY, SealingKey},
        pod::{Desired, PodPhase, PodRecord},
        request::Request,
        topology::{KEYS, PODS, StreamName},
    },
    crypto::OpeningKey,
    settings::Secret,
};
use pinacle_gateway::vault::Vault;
use pinacle_store::{Database, Timeouts};
use pinacle_tests::{eventually, stack::MASTER_KEY};
use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::{
    stage::{Answer, SOON, Stage, golden},
    tenants::{Somebody, text},
};

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["code"].as_str().unwrap_or_default())
}

/// Ann owns the team, bob is a member, and eve is a stranger.
async fn crew(stage: &Stage) -> (Somebody, Somebody, Somebody, String) {
    let (ann, bob) = (stage.person("ann", false).await, stage.person("bob", false).await);
    let eve = stage.person("eve", false).await;
    let team = stage.team(&ann, "platform").await;
    stage.joins(&team, &bob, "member").await;
    (ann, bob, eve, team)
}

async fn requested(stage: &Stage, kind: &str, id: &str) -> Option<Request> {
    asked_for(stage, kind, id, "transfer").await
}

async fn asked_for(stage: &Stage, kind: &str, id: &str, verb: &str) -> Option<Request> {
    let subject = Subject::Request { kind: kind.into(), id: id.into(), verb: verb.into() };
    stage.bus.last(StreamName::Requests, &subject).await.unwrap().map(|stored| stored.decode().unwrap())
}

#[tokio::test]
async fn a_host_is_its_owners_to_give_to_themselves_and_their_teams() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let (ann, bob, eve, team) = crew(&stage).await;
    let host = stage.host_of("ours", Some(&team)).await;
    let house = stage.host_of("house", None).await;
    let give = async |who: &Somebody, host: &str, to: &str| {
        stage.ask(who, Method::POST, &format!("/hosts/{host}/transfer"), json!({ "owner": to })).await
    };
    assert_eq!(code(&give(&bob, "ours", &bob.user_id).await), (403, "role_missing"));
    assert_eq!(code(&give(&eve, "ours", &eve.user_id).await), (404, "host_not_found"));
    assert_eq!(code(&give(&ann, "house", &ann.user_id).await), (404, "host_not_found"));
    for to in [&eve.email, &eve.user_id, "nobody@example.com", "no-team", "admin"] {
        assert_eq!(code(&give(&ann, "ours", to).await), (404, "owner_not_found"), "{to}");
    }
    assert!(requested(&stage, "host", &host.to_string()).await.is_none());

    assert_eq!(give(&ann, "ours", &ann.user_id).await.status, 202);
    let asked = requested(&stage, "host", &host.to_string()).await.unwrap();
    assert_eq!((&asked.requested_by, &asked.parameters), (&ann.user_id, &json!({ "owner": ann.user_id })));
    // It stands in the audit log of the team that had it, with whose it is.
    eventually(SOON, "the entry", async || {
        let log = stage.look(&bob, "/audit").await;
        let found = log.body["items"].as_array().is_some_and(|items| {
            items.iter().any(|entry| {
                (&entry["action"], &entry["target_id"], &entry["detail"]["owner"])
                    == (&json!("host_transfer"), &json!(host.to_string()), &json!(ann.user_id))
            })
        });
        if found { Ok(()) } else { Err(log) }
    })
    .await;
    // Admins give anything to anybody, also to the installation.
    let admin = stage.person("chief", true).await;
    assert_eq!(give(&admin, "house", &eve.email).await.status, 202);
    assert_eq!(
        requested(&stage, "host", &house.to_string()).await.unwrap().parameters,
        json!({ "owner": eve.user_id })
    );
    assert_eq!(give(&admin, "ours", "admin").await.status, 202);
    assert_eq!(requested(&stage, "host", &host.to_string()).await.unwrap().parameters, json!({ "owner": null }));
}

/// Every value that is kept, as it opens for an owner; `None` = it does not.
async fn values_for(stage: &Stage, owner: &str) -> Vec<Option<String>> {
    let database = Database::connect(&stage.database, 2, Timeouts::default()).unwrap();
    let vault = Vault::new(Secret::new(MASTER_KEY), database).unwrap();
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT row_id, sealed FROM secret_version ORDER BY secret_id, version")
            .fetch_all(&stage.sql().await)
            .await
            .unwrap();
    let mut values = Vec::new();
    for (row_id, sealed) in rows {
        let opened = vault.open(owner, "secret", &row_id, &sealed).await.ok();
        values.push(opened.map(|value| String::from_utf8(value.to_vec()).unwrap()));
    }
    values
}

#[tokio::test]
async fn a_secret_that_is_given_away_opens_for_its_new_owner_alone_with_all_of_its_values() {
    let stage = Stage::start().await;
    let (ann, bob, eve, team) = crew(&stage).await;
    let put = async |who: &Somebody, owner: &str, value: &str| {
        let body = json!({ "value": value, "owner": owner });
        let put = stage.ask(who, Method::PUT, "/secrets/DATABASE_URL", body).await;
        assert_eq!(put.status, 200, "{put:?}");
        put.body["version"].clone()
    };
    let give = async |who: &Somebody, owner: &str, to: &str| {
        let path = format!("/secrets/DATABASE_URL/transfer?owner={owner}");
        stage.ask(who, Method::POST, &path, json!({ "owner": to })).await
    };
    for number in 1..=3 {
        put(&ann, &ann.user_id, &format!("marker-{number}")).await;
    }
    let all = |values: &[&str]| values.iter().map(|value| Some((*value).to_owned())).collect::<Vec<_>>();
    assert_eq!(values_for(&stage, &ann.user_id).await, all(&["marker-1", "marker-2", "marker-3"]));
    assert_eq!(code(&give(&eve, &ann.user_id, &eve.user_id).await), (404, "secret_not_found"));
    assert_eq!(code(&give(&ann, &ann.user_id, &eve.email).await), (404, "owner_not_found"));

    let given = give(&ann, &ann.user_id, "platform").await;
    assert_eq!((given.status, &given.body["owner"], &given.body["version"]), (200, &json!(team), &json!(3)));
    assert!(!given.body.to_string().contains("marker"));
    assert_eq!(values_for(&stage, &team).await, all(&["marker-1", "marker-2", "marker-3"]));
    assert_eq!(values_for(&stage, &ann.user_id).await, [None, None, None]);
    assert_eq!(stage.look(&ann, &format!("/secrets?owner={}", ann.user_id)).await.body["items"], json!([]));
    assert_eq!(put(&bob, &team, "marker-4").await, json!(4));
    assert_eq!(code(&give(&bob, &team, &bob.user_id).await), (403, "role_missing"));

    // Whoever has one of this name keeps it, and the other stays where it is.
    put(&ann, &ann.user_id, "anns-own").await;
    for (owner, to) in [(&team, &ann.email), (&ann.user_id, &team)] {
        assert_eq!(code(&give(&ann, owner, to).await), (409, "name_taken"));
    }
    let of_team = all(&["marker-1", "marker-2", "marker-3", "marker-4"]);
    assert_eq!(values_for(&stage, &team).await, [of_team, vec![None]].concat());
    assert_eq!(values_for(&stage, &ann.user_id).await, [vec![None; 4], all(&["anns-own"])].concat());
}

#[tokio::test]
async fn secrets_that_are_given_back_and_forth_while_values_are_put_open_for_whose_they_are() {
    let stage = Stage::start().await;
    let (ann, _, _, team) = crew(&stage).await;
    let owners = [&ann.user_id, &team];
    let mut done = 0;
    for round in 0..12 {
        let (from, to) = (owners[round % 2], owners[(round + 1) % 2]);
        let body = json!({ "value": format!("marker-{round}"), "owner": from });
        let put = || stage.ask(&ann, Method::PUT, "/secrets/TOKEN", body.clone());
        assert_eq!(put().await.status, 200);
        let path = format!("/secrets/TOKEN/transfer?owner={from}");
        let (given, also, _) = tokio::join!(
            stage.ask(&ann, Method::POST, &path, json!({ "owner": to })),
            stage.ask(&ann, Method::POST, &path, json!({ "owner": to })),
            put()
        );
        for answer in [given, also] {
            // One came first; the other found it gone, or one of its name there.
            assert!([200, 404, 409, 503].contains(&answer.status), "{answer:?}");
            done += usize::from(answer.status == 200);
        }
        let secrets: Vec<(String, String)> =
            sqlx::query_as("SELECT secret_id, owner FROM secret").fetch_all(&stage.sql().await).await.unwrap();
        let mut opened = 0;
        for owner in owners {
            opened += values_for(&stage, owner).await.into_iter().flatten().count();
        }
        let kept: i64 =
            sqlx::query_scalar("SELECT count(*) FROM secret_version").fetch_one(&stage.sql().await).await.unwrap();
        assert_eq!(i64::try_from(opened).unwrap(), kept, "a value opens for nobody: {secrets:?}");
        // The next round begins with one secret again.
        sqlx::query("DELETE FROM secret").execute(&stage.sql().await).await.unwrap();
    }
    assert!(done >= 12, "{done}");
}

/// A pod with secrets as ann had it made, at rest.
async fn pod_with_secrets(stage: &Stage, ann: &Somebody, phase: PodPhase) -> PodId {
    let pod_id = PodId::new();
    let secrets = PodSecrets {
        names: ["TOKEN".to_owned()].into(),
        project: Some("shop".into()),
        sealed: "anns-sealed-marker".into(),
    };
    let record = PodRecord {
        pod_id,
        name: format!("web-{}", phase.as_str()),
        owner: ann.user_id.clone(),
        phase,
        desired: Desired::Stopped,
        operation: None,
        queue: Vec::new(),
        secrets: Some(secrets),
        ..golden("pod_record")
    };
    stage.bus.bucket(&PODS).await.unwrap().create(&pod_id.to_string(), &record).await.unwrap();
    eventually(SOON, "the pod", async || stage.get(&format!("/pods/{pod_id}")).await.status == 200).await;
    pod_id
}

#[tokio::test]
async fn a_pod_is_given_away_with_its_new_owners_secrets_or_not_at_all() {
    let stage = Stage::start().await;
    let (ann, _, _, team) = crew(&stage).await;
    let key = OpeningKey::random();
    let record = SealingKey { public_key: key.public(), private_key: "AA==".into(), made_at: Timestamp::now() };
    let keys: Bucket<SealingKey> = stage.bus.bucket(&KEYS).await.unwrap();
    keys.create(SEALING_KEY, &record).await.unwrap();
    let (rests, runs) = (
        pod_with_secrets(&stage, &ann, PodPhase::Stopped).await,
        pod_with_secrets(&stage, &ann, PodPhase::Running).await,
    );
    let give = async |pod: PodId| {
        stage.ask(&ann, Method::POST, &format!("/pods/{pod}/transfer"), json!({ "owner": "platform" })).await
    };
    let put = async |owner: &str, value: &str, project: Option<&str>| {
        let body = json!({ "value": value, "owner": owner, "project": project });
        assert_eq!(stage.ask(&ann, Method::PUT, "/secrets/TOKEN", body).await.status, 200);
    };
    put(&ann.user_id, "anns-marker", None).await;

    // What runs has them in memory; what the new owner lacks is named.
    assert_eq!(code(&give(runs).await), (409, "stop_first"));
    let lacking = give(rests).await;
    assert_eq!(code(&lacking), (409, "secrets_missing"));
    assert!(text(&lacking.body, "detail").contains("set TOKEN for them"), "{lacking:?}");
    for pod in [rests, runs] {
        assert!(requested(&stage, "pod", &pod.to_string()).await.is_none());
    }

    put(&team, "teams-marker", None).await;
    put(&team, "teams-marker of the shop", Some("shop")).await;
    assert_eq!(give(rests).await.status, 202);
    let asked = requested(&stage, "pod", &rests.to_string()).await.unwrap();
    assert_eq!(asked.parameters["owner"], json!(team));
    let told = asked.parameters.to_string();
    assert!(!told.contains("marker"), "{told}");
    let sealed = asked.parameters["secrets"]["sealed"].as_str().unwrap();
    let opened = key.open(&[POD_SECRETS, &rests.to_string()], sealed).unwrap();
    let values: Value = serde_json::from_slice(&opened).unwrap();
    assert_eq!(values, json!({ "TOKEN": "teams-marker of the shop" }), "the new owner's, of the pod's project");

    // A start takes the newest along, and says what is there no more.
    put(&ann.user_id, "anns-newest", None).await;
    let restart = async || stage.as_who(&ann.token, Method::POST, &format!("/pods/{runs}/restart"), None).await;
    assert_eq!(restart().await.status, 202);
    let asked = asked_for(&stage, "pod", &runs.to_string(), "restart").await.unwrap();
    assert_eq!(asked.parameters["secrets"]["owner"], json!(ann.user_id));
    let sealed = asked.parameters["secrets"]["sealed"].as_str().unwrap();
    let opened = key.open(&[POD_SECRETS, &runs.to_string()], sealed).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&opened).unwrap(), json!({ "TOKEN": "anns-newest" }));
    let removed = stage.as_who(&ann.token, Method::DELETE, "/secrets/TOKEN", None).await;
    assert_eq!(removed.status, 204, "{removed:?}");
    assert_eq!(code(&restart().await), (409, "secrets_missing"));
}
