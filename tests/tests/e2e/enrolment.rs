//! Machines join by a token over TLS, stay hosts as long as somebody lets them, and no longer.

pub mod field;

use std::{fs, os::unix::fs::PermissionsExt};

use field::{Field, SOON, claim, is_nowhere, renewal};
use pinacle_bus::{contract::UserId, trust::nkeys::KeyPair};
use pinacle_tests::eventually;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row;

const TOKENS: &str = "/hosts/enrolment-tokens";

#[tokio::test]
async fn a_machine_joins_by_a_token_and_needs_none_after_that() {
    let field = Field::start(&[]).await;
    let terms = json!({ "name": "north", "labels": { "zone": "a" }, "uses": 1 });
    let (status, made) = field.ask(Method::POST, TOKENS, Some(terms)).await;
    assert_eq!(status, 201, "{made}");
    let (token, command) = (made["token"].as_str().unwrap(), made["command"].as_str().unwrap());
    // With an authority of our own, the line says which key the gateway has.
    assert!(command.starts_with("curl -fsSL -k --pinnedpubkey 'sha256//"), "{command}");
    assert!(command.ends_with(&format!("{}/install.sh | sh -s -- --token {token}", field.url)), "{command}");

    let machine = field.machine("elsewhere", "0123456789abcdef0123456789abcdef");
    let mut agent = field.agent(&machine, token).start().await;
    let host = field.online("north").await;
    assert_eq!((&host["labels"], &host["allowed_owners"]), (&json!({ "zone": "a" }), &json!([])));
    let mode = fs::metadata(machine.state.join("enrolment.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The token is in no log, no list and no table; of the key only its public half ever left the machine.
    let (_, listed) = field.ask(Method::GET, TOKENS, None).await;
    assert_eq!(listed["items"][0]["used"], 1, "{listed}");
    let mut database = field.database().await;
    let rows = sqlx::query(
        "SELECT row_to_json(host_enrolment)::text || (SELECT json_agg(host_key)::text FROM host_key) FROM host_enrolment",
    );
    let row: String = rows.fetch_one(&mut database).await.unwrap().get(0);
    let seed = machine.stored()["seed"].as_str().unwrap().to_owned();
    for secret in [token, &seed] {
        assert!(!row.contains(secret) && !listed.to_string().contains(secret));
        is_nowhere(secret, field.sandbox.path());
        is_nowhere(secret, field.stack.sandbox().path());
    }
    assert!(row.contains(&machine.key().public_key()));

    agent.relaunch(|launch| launch.env("PINACLE__AGENT__ENROLMENT_TOKEN", ""));
    agent.restart().await;
    assert_eq!(field.online("north").await["host_id"], host["host_id"]);
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused() {
    let field = Field::start(&[]).await;
    let good = field.token(json!({ "uses": 1 })).await;
    let (long, taken) = (field.token(json!({})).await, field.token(json!({})).await);
    let refused = async |token: &str, why: &str| {
        let (status, body) = field.ask_openly("/enrol", &claim(token, &KeyPair::new_user())).await;
        assert_eq!((status, &body["code"]), (401, &json!("enrolment_refused")), "{token}: {body}");
        assert!(body["detail"].as_str().unwrap().contains(why), "{token}: {body}");
        // What was wrong about it is told, but not the token.
        assert!(!body.to_string().contains(token) || token.is_empty(), "{body}");
    };
    refused("", "no token").await;
    refused("pin_0123456789", "no token").await;
    refused(&good[..good.len() - 1], "no such token").await;
    refused(&format!("{good}A"), "no such token").await;
    refused(&good.to_uppercase().replace("PINH_", "pinh_"), "no such token").await;
    refused("pinh_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "no such token").await;
    // A key that is none does not use the token up; nor does one of another kind.
    for key in [json!("nonsense"), json!(KeyPair::new_account().public_key())] {
        let mut body = claim(&good, &KeyPair::new_user());
        body["public_key"] = key;
        assert_eq!(field.ask_openly("/enrol", &body).await.0, 422);
    }
    // The answer may be lost: the same key with the same token is answered again, any other is one too many.
    let key = KeyPair::new_user();
    let (status, first) = field.ask_openly("/enrol", &claim(&good, &key)).await;
    assert_eq!(status, 200, "{first}");
    let (status, again) = field.ask_openly("/enrol", &claim(&good, &key)).await;
    assert_eq!((status, &again["host_id"]), (200, &first["host_id"]));
    refused(&good, "used up").await;
    // Its key is a host's: another token does not make it another host.
    let (status, body) = field.ask_openly("/enrol", &claim(&taken, &key)).await;
    assert_eq!((status, &body["code"]), (401, &json!("enrolment_refused")));

    let mut database = field.database().await;
    let end = "UPDATE host_enrolment SET expires_at = now() - interval '1 second' WHERE token_hash = sha256($1::bytea)";
    sqlx::query(end).bind(long.as_bytes()).execute(&mut database).await.unwrap();
    refused(&long, "has ended").await;
    let (_, listed) = field.ask(Method::GET, TOKENS, None).await;
    let id = listed["items"][0]["enrolment_id"].as_str().unwrap();
    assert_eq!(field.ask(Method::DELETE, &format!("{TOKENS}/{id}"), None).await.0, 200);
    refused(&taken, "taken back").await;
    assert_eq!(field.ask(Method::DELETE, &format!("{TOKENS}/enrol_none"), None).await.0, 404);
}

#[tokio::test]
async fn a_removed_host_loses_its_connection_and_cannot_return() {
    let field = Field::start(&[]).await;
    let (machine, mut agent, token) = field.joined("gone", json!({ "name": "gone" })).await;
    let held = field.stack.nats.connect(&machine.credentials(), "thief").await.unwrap();
    let mut database = field.database().await;
    let mut samples = async || -> i64 {
        sqlx::query("SELECT count(*) FROM host_metrics").fetch_one(&mut database).await.unwrap().get(0)
    };
    eventually(SOON, "samples", async || if samples().await > 0 { Ok(()) } else { Err("there are none") }).await;
    let removed = field.done(field.ask(Method::DELETE, "/hosts/gone?data=delete", None).await).await;
    assert_eq!(removed["progress"], "succeeded", "{removed}");
    eventually(SOON, "the bus to end the connection", async || {
        let state = held.connection_state();
        if state == async_nats::connection::State::Connected { Err(state) } else { Ok(()) }
    })
    .await;
    eventually(SOON, "its history to be gone", async || match samples().await {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
    assert!(field.stack.nats.connect(&machine.credentials(), "again").await.is_err());
    assert_eq!(field.ask(Method::GET, "/hosts/gone", None).await.0, 404);
    // Neither by its grant, nor by its key, nor by its token, nor by a restart.
    let key = machine.key();
    let (_, asked) = field.ask_openly("/enrol/challenge", &json!({ "public_key": key.public_key() })).await;
    let (status, body) =
        field.ask_openly("/enrol/renewal", &renewal(asked["challenge"].as_str().unwrap(), &key, &key)).await;
    assert_eq!((status, &body["code"]), (401, &json!("enrolment_refused")));
    assert_eq!(field.ask_openly("/enrol", &claim(&token, &KeyPair::new_user())).await.0, 401);
    agent.relaunch(pinacle_tests::Launch::with_admin_port);
    agent.restart().await;
    eventually(SOON, "the gateway to refuse another grant", async || {
        let log = agent.log_text();
        if log.contains("the key was revoked") { Ok(()) } else { Err(agent.tail()) }
    })
    .await;
    let (_, hosts) = field.ask(Method::GET, "/hosts", None).await;
    assert_eq!(hosts["items"], json!([]));
}

#[tokio::test]
async fn a_disabled_host_is_cut_off_until_it_is_enabled() {
    let field = Field::start(&[]).await;
    let (machine, agent, _) = field.joined("paused", json!({})).await;
    field.done(field.ask(Method::POST, "/hosts/paused/disable", None).await).await;
    field.is("paused", |host| host["disabled"] == json!(true) && host["state"] != json!("online")).await;
    assert!(field.stack.nats.connect(&machine.credentials(), "again").await.is_err());
    eventually(SOON, "the agent to be told why", async || {
        if agent.log_text().contains("host is disabled") || agent.log_text().contains("disabled the host") {
            Ok(())
        } else {
            Err(agent.tail())
        }
    })
    .await;
    field.done(field.ask(Method::POST, "/hosts/paused/enable", None).await).await;
    let host = field.online("paused").await;
    assert_eq!(host["disabled"], json!(false));
}

#[tokio::test]
async fn a_grant_is_renewed_before_it_ends() {
    let field = Field::start(&[("gateway.host_grant_seconds", "6")]).await;
    let (machine, agent, _) = field.joined("lasting", json!({})).await;
    let grant = || machine.stored()["grant"].clone();
    let first = grant();
    // Two renewals: the second is by a grant that was renewed itself, and the first grant has ended by then.
    for _ in 0..2 {
        let before = grant();
        eventually(SOON, "another grant", async || {
            if grant()["expires_at"] == before["expires_at"] { Err(agent.tail()) } else { Ok(()) }
        })
        .await;
    }
    assert_eq!(grant()["host_id"], first["host_id"]);
    let old = pinacle_bus::trust::Credentials::new(first["jwt"].as_str().unwrap(), machine.key()).unwrap();
    eventually(SOON, "the first grant to have ended", async || match field.stack.nats.connect(&old, "old").await {
        Ok(_) => Err("it is still good"),
        Err(_) => Ok(()),
    })
    .await;
    field.online("lasting").await;
    // Who has not the key gets no grant for it.
    let (key, thief) = (machine.key(), KeyPair::new_user());
    let (_, asked) = field.ask_openly("/enrol/challenge", &json!({ "public_key": key.public_key() })).await;
    let challenge = asked["challenge"].as_str().unwrap();
    let refused = async |body: Value| {
        let (status, answer) = field.ask_openly("/enrol/renewal", &body).await;
        assert_eq!((status, &answer["code"]), (401, &json!("enrolment_refused")), "{answer}");
    };
    refused(renewal(challenge, &key, &thief)).await;
    refused(renewal(challenge, &thief, &thief)).await;
    refused(renewal(&format!("{challenge}A"), &key, &key)).await;
    refused(renewal("0.AAAA.AAAA", &key, &key)).await;
    assert_eq!(field.ask_openly("/enrol/renewal", &renewal(challenge, &key, &key)).await.0, 200);
}

#[tokio::test]
async fn a_rotated_key_takes_the_place_of_the_one_before() {
    let field = Field::start(&[]).await;
    let (machine, _agent, _) = field.joined("turning", json!({})).await;
    let (before, old) = (machine.key().public_key(), machine.credentials());
    let (status, rotated) = field.ask(Method::POST, "/hosts/turning/rotate-key", None).await;
    assert_eq!(status, 200, "{rotated}");
    assert_ne!(rotated["public_key"], json!(before));
    eventually(SOON, "the agent to keep the key", async || {
        if rotated["public_key"] == json!(machine.key().public_key()) { Ok(()) } else { Err(machine.stored()) }
    })
    .await;
    eventually(SOON, "the old key to be good for nothing", async || {
        match field.stack.nats.connect(&old, "old").await {
            Ok(_) => Err("it is still good"),
            Err(_) => Ok(()),
        }
    })
    .await;
    field.online("turning").await;
    eventually(SOON, "the agent to answer again", async || {
        match field.ask(Method::POST, "/hosts/turning/commands/ping", None).await {
            (200, _) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test]
async fn the_same_machine_is_the_same_host_when_its_owner_says_so() {
    let field = Field::start(&[]).await;
    let (machine, mut agent, _) = field.joined("twice", json!({ "name": "twice" })).await;
    let first = field.online("twice").await["host_id"].clone();
    let old = machine.credentials();
    // A copy of the machine, while it is there, is not let in.
    let body = |token: &str, key: &KeyPair, id: &str| {
        let mut body = claim(token, key);
        body["machine_id"] = json!(id);
        body
    };
    let mut database = field.database().await;
    let id: String = sqlx::query("SELECT machine_id FROM host_key").fetch_one(&mut database).await.unwrap().get(0);
    let token = field.token(json!({})).await;
    let (status, answer) = field.ask_openly("/enrol", &body(&token, &KeyPair::new_user(), &id)).await;
    assert_eq!((status, &answer["code"]), (409, &json!("machine_known")), "{answer}");

    assert!(agent.sigterm(SOON).await.success());
    field.is("twice", |host| host["state"] != json!("online")).await;
    fs::remove_dir_all(&machine.state).unwrap();
    let _again = field.agent(&machine, &token).start().await;
    assert_eq!(field.online("twice").await["host_id"], first);
    assert!(field.stack.nats.connect(&old, "old").await.is_err());
    // Another machine in its place, if the token names the host.
    let token = field.token(json!({ "host": "twice" })).await;
    let (status, answer) = field.ask_openly("/enrol", &body(&token, &KeyPair::new_user(), "another")).await;
    assert_eq!((status, &answer["host_id"]), (200, &first), "{answer}");
    let (_, hosts) = field.ask(Method::GET, "/hosts", None).await;
    assert_eq!(hosts["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_host_that_is_given_away_is_its_new_owners_when_its_machine_joins_again() {
    let field = Field::start(&[]).await;
    let mut database = field.database().await;
    let [ann, bob] = ["ann", "bob"].map(|name| (UserId::new().to_string(), name));
    for (id, name) in [&ann, &bob] {
        let insert =
            "INSERT INTO account (user_id, email, name, is_admin, created_at) VALUES ($1, $2, $2, false, now())";
        sqlx::query(insert).bind(id).bind(format!("{name}@example.com")).execute(&mut database).await.unwrap();
    }
    let (machine, mut agent, _) = field.joined("given", json!({ "owner": ann.0 })).await;
    let host = field.online("given").await["host_id"].clone();
    let way_back = field.token(json!({ "host": "given" })).await;
    let to_bob = json!({ "owner": "bob@example.com" });
    let given = field.done(field.ask(Method::POST, "/hosts/given/transfer", Some(to_bob)).await).await;
    assert_eq!(given["progress"], "succeeded", "{given}");
    let record = field.is("given", |host| host["owner"] == json!(bob.0)).await;
    assert_eq!((&record["allowed_owners"], &record["state"]), (&json!([bob.0]), &json!("online")));

    // Neither a token of ann's that names it nor her machine's id takes it back.
    let (status, refused) = field.ask_openly("/enrol", &claim(&way_back, &KeyPair::new_user())).await;
    assert_eq!((status, &refused["code"]), (401, &json!("enrolment_refused")), "{refused}");
    let id: String = sqlx::query("SELECT machine_id FROM host_key").fetch_one(&mut database).await.unwrap().get(0);
    assert!(agent.sigterm(SOON).await.success());
    field.is("given", |host| host["state"] != json!("online")).await;
    let mut anns = claim(&field.token(json!({ "owner": ann.0 })).await, &KeyPair::new_user());
    anns["machine_id"] = json!(id);
    let (status, another) = field.ask_openly("/enrol", &anns).await;
    assert!(status == 200 && another["host_id"] != host, "{another}");

    // Set up anew by a token of bob's it is the same host.
    fs::remove_dir_all(&machine.state).unwrap();
    let token = field.token(json!({ "owner": bob.0 })).await;
    let _again = field.agent(&machine, &token).start().await;
    let back = field.online("given").await;
    assert_eq!((&back["host_id"], &back["owner"]), (&host, &json!(bob.0)));
}
