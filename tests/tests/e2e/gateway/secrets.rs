//! Secrets over HTTP: they go in and do not come out, each is its owner's, and the master key is exchanged under load.

use std::{fs, os::unix::fs::PermissionsExt};

use pinacle_bus::{
    client::Bucket,
    contract::{
        RequestId, Subject, TeamId, Timestamp, UserId,
        key::{POD_SECRETS, SEALING_KEY, SealingKey},
        request::Request,
        topology::{KEYS, StreamName},
    },
    crypto::{Key, OpeningKey},
};
use pinacle_tests::{Nats, Postgres, Sandbox, eventually, machine};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    stage::{Answer, SOON, Stage, TOKEN, answer, client},
    tenants::text,
};

const MARKER: &str = "value-that-nobody-may-see-again";

/// A person with a token for the API.
struct Person {
    id: UserId,
    token: String,
}

async fn person(stage: &Stage, name: &str, grants: &[&str]) -> Person {
    let somebody = stage.person(name, false).await;
    let body = json!({ "name": "narrow", "grants": grants, "user": somebody.email });
    let made = stage.as_who(TOKEN, Method::POST, "/tokens", Some(body)).await;
    assert_eq!(made.status, 201, "{made:?}");
    Person { id: somebody.user_id.parse().unwrap(), token: text(&made.body, "token") }
}

async fn ask(stage: &Stage, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let request = stage.request(method, &format!("/api/v1{path}")).bearer_auth(token);
    answer(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

#[tokio::test]
async fn a_secret_goes_in_gets_versions_and_never_comes_out() {
    let stage = Stage::start().await;
    for number in 1..=22 {
        let body = json!({ "value": format!("{MARKER}\nof two lines {number}") });
        let put = ask(&stage, TOKEN, Method::PUT, "/secrets/DATABASE_URL", Some(body)).await;
        assert_eq!((put.status, &put.body["version"]), (200, &json!(number)), "{put:?}");
        assert!(!put.body.to_string().contains(MARKER));
    }
    let project = json!({ "value": MARKER, "project": "https://example.org/shop" });
    assert_eq!(ask(&stage, TOKEN, Method::PUT, "/secrets/DATABASE_URL", Some(project)).await.body["version"], 1);
    let list = stage.get("/secrets").await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 2, "{list:?}");
    let of_project = stage.get("/secrets?project=https://example.org/shop").await;
    assert_eq!(of_project.body["items"].as_array().unwrap().len(), 1);
    let versions = stage.get("/secrets/DATABASE_URL/versions").await;
    // The newest 20 are kept.
    assert_eq!(
        (versions.body["items"].as_array().unwrap().len(), &versions.body["items"][0]["version"]),
        (20, &json!(3))
    );
    for answer in [&list, &of_project, &versions] {
        assert!(!answer.body.to_string().contains(MARKER), "{answer:?}");
    }
    assert_eq!(stage.delete("/secrets/DATABASE_URL").await.status, 204);
    assert_eq!(stage.delete("/secrets/DATABASE_URL").await.body["code"], "secret_not_found");
    assert_eq!(stage.get("/secrets").await.body["items"].as_array().unwrap().len(), 1);
    assert!(!stage.gateway.log_text().contains(MARKER));

    let long = "x".repeat(16 * 1024 + 1);
    for (name, body, status) in [
        ("lower", json!({ "value": "x" }), 400),
        ("1ST", json!({ "value": "x" }), 400),
        (&*"A".repeat(129), json!({ "value": "x" }), 400),
        ("EMPTY", json!({ "value": "" }), 422),
        ("LONG", json!({ "value": long }), 422),
        ("NUMBER", json!({ "value": 5 }), 422),
        ("MORE", json!({ "value": "x", "file": "y" }), 422),
        ("PROJECT", json!({ "value": "x", "project": "a\nb" }), 400),
    ] {
        let refused = ask(&stage, TOKEN, Method::PUT, &format!("/secrets/{name}"), Some(body)).await;
        assert_eq!(refused.status, status, "{name}: {refused:?}");
    }
    // A value is a value: what settings take for the name of a file is none here.
    let file = ask(&stage, TOKEN, Method::PUT, "/secrets/FILE", Some(json!({ "value": "file:/nonexistent" }))).await;
    assert_eq!(file.status, 200, "{file:?}");
}

#[tokio::test]
async fn secrets_of_strangers_are_not_there() {
    let stage = Stage::start().await;
    let pool = PgPool::connect(&stage.database).await.unwrap();
    let (ann, bob) = (person(&stage, "ann", &["read", "pods"]).await, person(&stage, "bob", &["read", "pods"]).await);
    let looks = person(&stage, "looks", &["read"]).await;
    let team = TeamId::new();
    sqlx::query("INSERT INTO team (team_id, name, created_at) VALUES ($1, 'crew', now())")
        .bind(team.to_string())
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("INSERT INTO team_member (team_id, user_id, role, joined_at) VALUES ($1, $2, 'member', now())")
        .bind(team.to_string())
        .bind(ann.id.to_string())
        .execute(&pool)
        .await
        .unwrap();
    let own = json!({ "value": MARKER });
    let of_team = json!({ "value": MARKER, "owner": team });
    assert_eq!(ask(&stage, &ann.token, Method::PUT, "/secrets/OWN", Some(own.clone())).await.status, 200);
    assert_eq!(ask(&stage, &ann.token, Method::PUT, "/secrets/TEAMS", Some(of_team.clone())).await.status, 200);
    let names = |answer: &Answer| answer.body["items"].as_array().unwrap().len();
    assert_eq!(names(&ask(&stage, &ann.token, Method::GET, "/secrets", None).await), 2);

    // Bob sees nothing, and cannot tell what is there from what is not.
    assert_eq!(names(&ask(&stage, &bob.token, Method::GET, "/secrets", None).await), 0);
    for owner in [ann.id.to_string(), team.to_string(), UserId::new().to_string(), "admin".into(), "nonsense".into()] {
        assert_eq!(names(&ask(&stage, &bob.token, Method::GET, &format!("/secrets?owner={owner}"), None).await), 0);
        for (method, path, body) in [
            (Method::GET, format!("/secrets/OWN/versions?owner={owner}"), None),
            (Method::DELETE, format!("/secrets/OWN?owner={owner}"), None),
            (Method::PUT, "/secrets/OWN".to_owned(), Some(json!({ "value": "x", "owner": owner }))),
        ] {
            let refused = ask(&stage, &bob.token, method, &path, body).await;
            assert_eq!(
                (refused.status, &refused.body["code"]),
                (404, &json!("secret_not_found")),
                "{path} {refused:?}"
            );
        }
    }
    assert_eq!(ask(&stage, &bob.token, Method::POST, "/secrets/rotate", None).await.status, 403);
    assert_eq!(ask(&stage, &bob.token, Method::GET, "/ssh-key", None).await.status, 403);
    assert_eq!(ask(&stage, &looks.token, Method::PUT, "/secrets/OWN", Some(own)).await.status, 403);
    assert_eq!(ask(&stage, &looks.token, Method::DELETE, "/secrets/OWN", None).await.status, 403);
    // His own of the same name is another one.
    assert_eq!(
        ask(&stage, &bob.token, Method::PUT, "/secrets/OWN", Some(json!({ "value": "bobs" }))).await.body["version"],
        1
    );
}

#[tokio::test]
async fn a_pods_secrets_travel_sealed_and_only_the_owners() {
    let stage = Stage::start().await;
    let ann = person(&stage, "ann", &["read", "pods"]).await;
    let bob = person(&stage, "bob", &["read", "pods"]).await;
    let key = OpeningKey::random();
    let record = SealingKey { public_key: key.public(), private_key: "AA==".into(), made_at: Timestamp::now() };
    let keys: Bucket<SealingKey> = stage.bus.bucket(&KEYS).await.unwrap();
    let create = json!({ "name": "web", "secrets": ["TOKEN", "URL"], "project": "shop" });
    for (name, body) in [
        ("TOKEN", json!({ "value": MARKER })),
        ("TOKEN", json!({ "value": format!("{MARKER} of the shop"), "project": "shop" })),
        ("URL", json!({ "value": "first" })),
        ("URL", json!({ "value": "second" })),
    ] {
        assert_eq!(ask(&stage, &ann.token, Method::PUT, &format!("/secrets/{name}"), Some(body)).await.status, 200);
    }
    // Nobody could open them yet.
    let early = ask(&stage, &ann.token, Method::POST, "/pods", Some(create.clone())).await;
    assert_eq!((early.status, &early.body["code"]), (503, &json!("not_ready")));
    keys.create(SEALING_KEY, &record).await.unwrap();

    let absent = ask(&stage, &bob.token, Method::POST, "/pods", Some(create.clone())).await;
    assert_eq!(absent.status, 422, "{absent:?}");
    assert!(absent.body["detail"].as_str().unwrap().contains("there is no TOKEN, URL"), "{absent:?}");

    let request = stage.request(Method::POST, "/api/v1/pods").bearer_auth(&ann.token).header("idempotency-key", "once");
    let first = answer(request.try_clone().unwrap().json(&create)).await;
    assert!((200..300).contains(&first.status), "{first:?}");
    // The same again, though sealed otherwise.
    let again = answer(request.json(&create)).await;
    assert_eq!(again.body["operation_id"], first.body["operation_id"], "{again:?}");

    let asked: RequestId = first.body["request_id"].as_str().unwrap().parse().unwrap();
    let request: Request = eventually(SOON, "the request", async || {
        let location = &first.headers["location"];
        let pod = location.rsplit('/').next().unwrap().to_owned();
        let subject = Subject::Request { kind: "pod".into(), id: pod, verb: "create".into() };
        stage.bus.last(StreamName::Requests, &subject).await.unwrap().ok_or(()).map(|stored| stored.decode().unwrap())
    })
    .await;
    assert_eq!(request.request_id, asked);
    assert!(!request.parameters.to_string().contains(MARKER), "{request:?}");
    let sealed = request.parameters["secrets"]["sealed"].as_str().unwrap();
    let opened = key.open(&[POD_SECRETS, &request.target_id], sealed).unwrap();
    let values: Value = serde_json::from_slice(&opened).unwrap();
    assert_eq!(values, json!({ "TOKEN": format!("{MARKER} of the shop"), "URL": "second" }));
    // In another pod's request they are of no use.
    assert!(key.open(&[POD_SECRETS, "pod_2NxnYz0Gk2pVq8uVb3oZcX7fFqD"], sealed).is_err());
}

#[tokio::test]
async fn the_master_key_is_exchanged_over_http_while_secrets_are_set_and_pods_asked_for() {
    let (nats, postgres) = tokio::join!(Nats::start(), Postgres::start());
    let (bus, database) = tokio::join!(nats.bus_with_topology(), postgres.database());
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("master_key");
    let keep = |keys: &[&Key]| {
        fs::write(&file, keys.iter().map(|key| key.to_hex().to_string()).collect::<Vec<_>>().join("\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let [old, new] = [Key::random(), Key::random()];
    keep(&[&old]);
    let opening = OpeningKey::random();
    let record = SealingKey { public_key: opening.public(), private_key: "AA==".into(), made_at: Timestamp::now() };
    bus.bucket::<SealingKey>(&KEYS).await.unwrap().create(SEALING_KEY, &record).await.unwrap();
    let mut copies = Vec::new();
    for number in 0..2 {
        let address = machine::free_address();
        let launch = Stage::launch(&nats, &database, address)
            .named(&format!("gateway-{number}"))
            .env("PINACLE__GATEWAY__MASTER_KEY", format!("file:{}", file.display()));
        copies.push((launch.ready_on_admin_port().start().await, address));
    }
    let url = |copy: usize, path: &str| format!("http://{}/api/v1{path}", copies[copy % 2].1);
    let (client, stop) = (client(), CancellationToken::new());
    let put =
        |copy: usize| client.put(url(copy, "/secrets/TOKEN")).bearer_auth(TOKEN).json(&json!({ "value": MARKER }));
    eventually(SOON, "a secret", async || {
        let answer = answer(put(0)).await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    let mut load = JoinSet::new();
    for worker in 0..4_usize {
        let (stop, set) = (stop.clone(), put(worker));
        let create = client.post(url(worker + 1, "/pods")).bearer_auth(TOKEN);
        load.spawn(async move {
            let mut done = 0;
            while !stop.is_cancelled() || done < 3 {
                let put = answer(set.try_clone().unwrap()).await;
                assert_eq!(put.status, 200, "{put:?}");
                let name = format!("pod-{worker}-{done}");
                let body = json!({ "name": name, "secrets": ["TOKEN"] });
                let made = answer(create.try_clone().unwrap().json(&body)).await;
                assert!((200..300).contains(&made.status), "{made:?}");
                done += 1;
            }
        });
    }
    let rotate = || client.post(url(0, "/secrets/rotate")).bearer_auth(TOKEN);
    for keys in [[&new, &old], [&old, &new], [&new, &old]] {
        keep(&keys);
        let rotated = answer(rotate()).await;
        assert_eq!((rotated.status, &rotated.body["rewrapped"]), (200, &json!(1)), "{rotated:?}");
        assert_eq!(rotated.body["master_key_id"], keys[0].id());
    }
    stop.cancel();
    while let Some(done) = load.join_next().await {
        done.unwrap();
    }
    assert_eq!(answer(rotate()).await.body["rewrapped"], 0);
}
