//! People: the first one, invitations, sessions, and what pages of elsewhere cannot do.

use pinacle_bus::contract::{HostId, host::HostRecord, topology::HOSTS};
use pinacle_tests::eventually;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::{
    browser::{Browser, PASSWORD, first_admin, person, secret},
    socket::{Gone, open, request},
    stage::{SOON, Stage, TOKEN, answer, golden},
};

async fn database(stage: &Stage) -> PgConnection {
    PgConnection::connect(&stage.database).await.unwrap()
}

fn assert_unlogged(stage: &Stage, secrets: &[&str]) {
    let log = stage.gateway.log_text();
    for secret in secrets {
        assert!(!log.contains(secret), "the log has {secret}");
    }
}

#[tokio::test]
async fn the_first_admin_comes_in_by_a_link_that_works_once() {
    let stage = Stage::start().await;
    let mut stranger = Browser::new(&stage);
    assert_eq!(stranger.send(Method::POST, "/accounts/first", None).await.status, 401);
    let older = stage.post("/accounts/first").await.body["link"]["url"].as_str().unwrap().to_owned();
    let answer = stage.post("/accounts/first").await;
    assert_eq!(answer.body["link"]["email"], "admin@localhost");
    let link = answer.body["link"]["url"].as_str().unwrap().to_owned();
    assert!(link.starts_with(&format!("http://{}/set-password#", stage.address)), "{link}");
    let token = secret(&link).to_owned();

    let mut set = async |token: &str, password: &str| {
        let body = json!({ "token": token, "password": password });
        stranger.send(Method::POST, "/accounts/password", Some(body)).await
    };
    let long = "x".repeat(4000);
    for forged in ["", "x", &token[1..], &format!("{token}x"), &token.to_uppercase(), secret(&older), &long] {
        let refused = set(forged, PASSWORD).await;
        assert_eq!((refused.status, &refused.body["code"]), (410, &json!("link_refused")), "{forged}");
    }
    for weak in ["short", "password1234", "admin@localhost", "aaaaaaaaaaaaaaaa"] {
        let refused = set(&token, weak).await;
        assert_eq!((refused.status, &refused.body["code"]), (422, &json!("weak_password")), "{weak}");
        assert_eq!(refused.body["errors"][0]["field"], "password");
    }
    // At once, one of the two gets it.
    let (one, other) = {
        let body = || json!({ "token": token, "password": PASSWORD });
        let post = || stage.request(Method::POST, "/api/v1/accounts/password").json(&body());
        tokio::join!(super::stage::answer(post()), super::stage::answer(post()))
    };
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410], "{one:?} {other:?}");
    assert_eq!(set(&token, PASSWORD).await.status, 410);
    assert_eq!(stage.post("/accounts/first").await.body, json!({ "link": null }));

    let mut admin = Browser::signed_in(&stage, " Admin@LocalHost ").await;
    let account = admin.get("/account").await;
    assert_eq!((account.status, &account.body["is_admin"]), (200, &json!(true)), "{account:?}");
    assert_eq!(admin.get("/hosts").await.status, 200);
    let secrets = [PASSWORD, &token, secret(&older), &admin.cookies["pinacle_session"], &admin.cookies["pinacle_csrf"]];
    assert_unlogged(&stage, &secrets);
    let mut database = database(&stage).await;
    let hash: String = sqlx::query_scalar("SELECT password_hash FROM account").fetch_one(&mut database).await.unwrap();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
}

#[tokio::test]
async fn who_is_wrong_learns_nothing_and_who_is_invited_comes_in() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    let mut ann = person(&stage, &mut admin, "ann@example.org").await;
    let mine = ann.get("/account").await;
    assert_eq!((&mine.body["email"], &mine.body["is_admin"]), (&json!("ann@example.org"), &json!(false)));

    // An account that nobody has come into, one that does not exist, a wrong password: all alike.
    let unused = admin.send(Method::POST, "/users", Some(json!({ "email": "unused@example.org" }))).await;
    assert_eq!(unused.status, 201, "{unused:?}");
    let mut told = Vec::new();
    for email in ["ann@example.org", "unused@example.org", "nobody@example.org", "no address", ""] {
        let mut refused = Browser::new(&stage).sign_in(email, "wrong-wrong-wrong-wrong").await;
        refused.body.as_object_mut().unwrap().remove("request_id");
        told.push((refused.status, refused.body));
    }
    assert!(told.iter().all(|answer| answer == &told[0]) && told[0].0 == 401, "{told:?}");
    assert_eq!(told[0].1["code"], "sign_in_refused");

    // Only admins make accounts here, and nobody makes two for an address.
    let forbidden = ann.send(Method::POST, "/users", Some(json!({ "email": "bob@example.org" }))).await;
    assert_eq!(forbidden.status, 403, "{forbidden:?}");
    let taken = admin.send(Method::POST, "/users", Some(json!({ "email": "ANN@example.org" }))).await;
    assert_eq!((taken.status, &taken.body["code"]), (409, &json!("email_taken")));
    let closed = Browser::new(&stage).send(Method::POST, "/accounts", Some(json!({ "email": "x@example.org" }))).await;
    assert_eq!((closed.status, &closed.body["code"]), (403, &json!("sign_up_closed")));
    for bad in ["", "a", "a@b\r\nBcc: all@example.org", "a@b\nc", "a b@example.org", "<a@b.c>"] {
        let refused = admin.send(Method::POST, "/users", Some(json!({ "email": bad }))).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (422, &json!("email")), "{bad:?}");
    }
    let refused = admin.send(Method::POST, "/users", Some(json!({ "email": "c@d.e", "name": "a\r\nBcc: x" }))).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (422, &json!("name")));

    // Who is suspended is out at once, and cannot come in.
    let mut database = database(&stage).await;
    sqlx::query("UPDATE account SET suspended_at = now() WHERE email LIKE 'ann%'")
        .execute(&mut database)
        .await
        .unwrap();
    assert_eq!(ann.get("/account").await.status, 401);
    assert_eq!(Browser::new(&stage).sign_in("ann@example.org", PASSWORD).await.body["code"], "sign_in_refused");
    assert_unlogged(&stage, &[PASSWORD, "wrong-wrong-wrong-wrong"]);
}

#[tokio::test]
async fn a_session_is_new_each_time_listed_and_ended() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    // What somebody else planted is not taken over.
    let mut planted = Browser::new(&stage);
    planted.cookies.insert("pinacle_session".into(), "planted".into());
    assert_eq!(planted.get("/account").await.status, 401);
    assert_eq!(planted.sign_in("admin@localhost", PASSWORD).await.status, 201);
    assert_ne!(planted.cookies["pinacle_session"], "planted");
    // Signing in again rotates: the session before has ended.
    let before = planted.cookies.clone();
    assert_eq!(planted.sign_in("admin@localhost", PASSWORD).await.status, 201);
    assert_ne!(planted.cookies["pinacle_session"], before["pinacle_session"]);
    let mut stale = Browser::new(&stage);
    stale.cookies = before;
    assert_eq!(stale.get("/account").await.status, 401);

    let list = admin.get("/sessions").await;
    let items = list.body["items"].as_array().unwrap().clone();
    assert_eq!(items.len(), 2, "{items:?}");
    assert_eq!(items.iter().filter(|session| session["is_this"] == true).count(), 1);
    assert!(items.iter().all(|session| session["remote_address"] == "127.0.0.1"), "{items:?}");
    let other = items.iter().find(|session| session["is_this"] == false).unwrap();
    let path = format!("/sessions/{}", other["session_id"].as_str().unwrap());
    assert_eq!(admin.send(Method::DELETE, &path, None).await.status, 204);
    assert_eq!(planted.get("/account").await.status, 401);
    assert_eq!(admin.send(Method::DELETE, &path, None).await.status, 404);

    // Nobody ends somebody else's.
    let mut ann = person(&stage, &mut admin, "ann@example.org").await;
    let own = ann.get("/sessions").await.body["items"][0]["session_id"].as_str().unwrap().to_owned();
    assert_eq!(admin.send(Method::DELETE, &format!("/sessions/{own}"), None).await.status, 404);
    assert_eq!(ann.get("/account").await.status, 200);

    // A changed password ends the others.
    let mut second = Browser::signed_in(&stage, "ann@example.org").await;
    let change = |before: &str, after: &str| Some(json!({ "current_password": before, "password": after }));
    let wrong = ann.send(Method::PUT, "/account/password", change("wrong-wrong-wrong", "paper-Lantern-orbit-9")).await;
    assert_eq!((wrong.status, &wrong.body["code"]), (422, &json!("wrong_password")));
    let changed = ann.send(Method::PUT, "/account/password", change(PASSWORD, "paper-Lantern-orbit-9")).await;
    assert_eq!(changed.status, 204, "{changed:?}");
    assert_eq!((ann.get("/account").await.status, second.get("/account").await.status), (200, 401));
    assert_eq!(Browser::new(&stage).sign_in("ann@example.org", PASSWORD).await.status, 401);
    assert_eq!(Browser::new(&stage).sign_in("ann@example.org", "paper-Lantern-orbit-9").await.status, 201);
    assert_eq!(ann.send(Method::DELETE, "/sessions", None).await.status, 204);
    assert_eq!(ann.get("/sessions").await.body["items"].as_array().unwrap().len(), 1);

    // Signing out takes the cookies away, and the session is over for whoever kept them.
    let mut kept = Browser::new(&stage);
    kept.cookies = ann.cookies.clone();
    assert_eq!(ann.send(Method::DELETE, "/sessions/current", None).await.status, 204);
    assert!(ann.cookies.is_empty());
    assert_eq!(kept.get("/account").await.status, 401);
    // The installation's token is nobody's.
    assert_eq!(stage.get("/sessions").await.body["code"], "no_account");
    assert_unlogged(&stage, &[PASSWORD, "paper-Lantern-orbit-9", "wrong-wrong-wrong"]);
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_at_its_latest() {
    let stage = Stage::start_with(&[
        ("PINACLE__GATEWAY__SESSION_IDLE_MS", "600000"),
        ("PINACLE__GATEWAY__SESSION_MAX_MS", "3600000"),
    ])
    .await;
    let mut admin = first_admin(&stage).await;
    let mut database = database(&stage).await;
    let mut left = async |change: &str| -> f64 {
        let change = format!("UPDATE login SET {change}");
        sqlx::query(sqlx::AssertSqlSafe(change)).execute(&mut database).await.unwrap();
        assert_eq!(admin.get("/account").await.status, 200);
        let left = "SELECT extract(epoch FROM expires_at - now())::float8 FROM login";
        sqlx::query_scalar(left).fetch_one(&mut database).await.unwrap()
    };
    // Used moments ago: nothing is written. Used a while ago: it lasts ten minutes from now.
    let fresh = left("expires_at = now() + interval '5 minutes'").await;
    assert!((200.0..301.0).contains(&fresh), "{fresh}");
    let used = left("seen_at = now() - interval '2 minutes'").await;
    assert!((500.0..601.0).contains(&used), "{used}");
    // But never beyond an hour after it began.
    let last = left("created_at = now() - interval '59 minutes', seen_at = now() - interval '2 minutes'").await;
    assert!((0.0..61.0).contains(&last), "{last}");
    sqlx::query("UPDATE login SET expires_at = now() - interval '1 second'").execute(&mut database).await.unwrap();
    assert_eq!(admin.get("/account").await.status, 401);
    assert_eq!(admin.send(Method::POST, "/live/ticket", None).await.status, 401);
}

#[tokio::test]
async fn pages_of_elsewhere_change_nothing() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    let other = Browser::signed_in(&stage, "admin@localhost").await;
    let own = admin.cookies["pinacle_csrf"].clone();
    let foreign = other.cookies["pinacle_csrf"].clone();
    let ticket = || admin.request(Method::POST, "/live/ticket");
    let here = format!("http://{}", stage.address);
    for (what, request) in [
        ("no header", ticket()),
        ("an empty one", ticket().header("x-csrf-token", "")),
        ("another session's", ticket().header("x-csrf-token", &foreign)),
        ("another origin", ticket().header("x-csrf-token", &own).header("origin", "https://evil.example")),
        ("a sandboxed page", ticket().header("x-csrf-token", &own).header("origin", "null")),
        ("said by the browser", ticket().header("x-csrf-token", &own).header("sec-fetch-site", "cross-site")),
        ("a page beside", ticket().header("x-csrf-token", &own).header("sec-fetch-site", "same-site")),
    ] {
        let refused = answer(request).await;
        assert_eq!((refused.status, &refused.body["code"]), (403, &json!("cross_site")), "{what}");
    }
    let ours = ticket().header("x-csrf-token", &own).header("origin", &here).header("sec-fetch-site", "same-origin");
    assert_eq!(answer(ours).await.status, 201);
    // Nobody is signed in as somebody else by a page of elsewhere, or sent mail.
    for (path, body) in [
        ("/sessions", json!({ "email": "admin@localhost", "password": PASSWORD })),
        ("/accounts/reset", json!({ "email": "admin@localhost" })),
    ] {
        let request = Browser::new(&stage).request(Method::POST, path).json(&body);
        let refused = answer(request.header("origin", "https://evil.example")).await;
        assert_eq!((refused.status, &refused.body["code"]), (403, &json!("cross_site")), "{path}");
        let plain = Browser::new(&stage).request(Method::POST, path).body(body.to_string());
        assert_eq!(answer(plain.header("content-type", "text/plain")).await.status, 415, "{path}");
    }
    // A cookie beside a token counts for nothing, and a token needs no header.
    let bearer = admin.request(Method::GET, "/account").bearer_auth(format!("{TOKEN}x"));
    assert_eq!(answer(bearer).await.status, 401);
    assert_eq!(admin.get("/account").await.status, 200);
}

#[tokio::test]
async fn a_websocket_takes_a_ticket_and_ends_with_its_session() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__LIVE_RECHECK_MS", "200")]).await;
    let mut admin = first_admin(&stage).await;
    let with = |name: &'static str, value: &str| {
        let mut request = request(stage.address);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let cookie = format!("pinacle_session={}", admin.cookies["pinacle_session"]);
    assert_eq!(open(stage.address, with("cookie", &cookie), None).await.err(), Some(401));
    let ticket = async |browser: &mut Browser| {
        let made = browser.send(Method::POST, "/live/ticket", None).await;
        assert_eq!(made.status, 201, "{made:?}");
        format!("pinacle.v1, bearer.{}", made.body["ticket"].as_str().unwrap())
    };
    let offered = ticket(&mut admin).await;
    let mut socket = open(stage.address, with("sec-websocket-protocol", &offered), None).await.unwrap();
    socket.subscribe("hosts").await;
    assert_eq!(
        open(stage.address, with("sec-websocket-protocol", &offered), None).await.err(),
        Some(401),
        "it is used"
    );
    // A ticket is for the WebSocket alone.
    let bearer =
        answer(stage.request(Method::GET, "/api/v1/account").bearer_auth(&offered["pinacle.v1, bearer.".len()..]));
    assert_eq!(bearer.await.status, 401);

    assert_eq!(admin.send(Method::DELETE, "/sessions/current", None).await.status, 204);
    let gone = async |socket: &mut super::socket::Socket| loop {
        if let Err(gone) = socket.heard().await {
            return gone;
        }
    };
    assert_eq!(gone(&mut socket).await, Gone::Closed(Some(1008)));

    let mut again = Browser::signed_in(&stage, "admin@localhost").await;
    let offered = ticket(&mut again).await;
    let mut socket = open(stage.address, with("sec-websocket-protocol", &offered), None).await.unwrap();
    socket.subscribe("hosts").await;
    let mut database = database(&stage).await;
    sqlx::query("UPDATE account SET suspended_at = now()").execute(&mut database).await.unwrap();
    assert_eq!(gone(&mut socket).await, Gone::Closed(Some(1008)));
    assert_unlogged(&stage, &[&offered["pinacle.v1, bearer.".len()..]]);
}

#[tokio::test]
async fn pages_are_served_with_a_policy_that_runs_no_script_of_elsewhere() {
    let stage = Stage::start().await;
    for path in [
        "/",
        "/sign-in",
        "/set-password",
        "/confirm-email",
        "/join",
        "/reset",
        "/sign-up",
        "/web/style.css",
        "/web/people.js",
        "/web/account.js",
        "/web/call.js",
    ] {
        let page = answer(stage.request(Method::GET, path)).await;
        assert_eq!(page.status, 200, "{path}");
        let policy = &page.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        assert!(matches!(page.body, Value::String(text) if !text.is_empty()), "{path}");
    }
    let ways = answer(stage.request(Method::GET, "/api/v1/accounts/ways")).await;
    assert_eq!((&ways.body["sign_up"], &ways.body["mail"]), (&json!("closed"), &json!(false)));
    eventually(SOON, "a page that is not there", async || {
        answer(stage.request(Method::GET, "/web/other.js")).await.status == 404
    })
    .await;
}

#[tokio::test]
async fn who_deletes_their_account_leaves_nothing_and_nobody_behind() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    let delete = async |browser: &mut Browser, password: &str| {
        let answer = browser.send(Method::POST, "/account/delete", Some(json!({ "password": password }))).await;
        (answer.status, answer.body["code"].clone())
    };
    assert_eq!(delete(&mut admin, PASSWORD).await, (409, json!("last_admin")));

    // What somebody has is in the way: a team that would have no owner, a secret, a pod, a host.
    let mut ann = person(&stage, &mut admin, "ann@example.org").await;
    let made = ann.send(Method::POST, "/teams", Some(json!({ "name": "platform" }))).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(delete(&mut ann, PASSWORD).await, (409, json!("last_owner")));
    assert_eq!(ann.send(Method::DELETE, "/teams/platform", None).await.status, 204);
    assert_eq!(ann.send(Method::PUT, "/secrets/KEY", Some(json!({ "value": "x" }))).await.status, 200);
    assert_eq!(delete(&mut ann, PASSWORD).await, (409, json!("account_not_empty")));
    assert_eq!(ann.send(Method::DELETE, "/secrets/KEY", None).await.status, 204);
    let id = async |browser: &mut Browser| browser.get("/account").await.body["user_id"].as_str().unwrap().to_owned();
    let mut bob = person(&stage, &mut admin, "bob@example.org").await;
    stage.pod("web", &id(&mut bob).await, None).await;
    let mut carl = person(&stage, &mut admin, "carl@example.org").await;
    let host_id = HostId::new();
    let owner = Some(id(&mut carl).await);
    let record = HostRecord { host_id, name: "carls".into(), owner, ..golden("host_record") };
    stage.bus.bucket(&HOSTS).await.unwrap().create(&host_id.to_string(), &record).await.unwrap();
    eventually(SOON, "the pod and the host", async || {
        let seen = (stage.get("/pods/web").await.status, stage.get("/hosts/carls").await.status);
        if seen == (200, 200) { Ok(()) } else { Err(seen) }
    })
    .await;
    for browser in [&mut bob, &mut carl] {
        assert_eq!(delete(browser, PASSWORD).await, (409, json!("account_not_empty")));
        assert_eq!(browser.get("/account").await.status, 200);
    }

    // It takes a session and the password; then all that let them in has ended.
    let made = ann.send(Method::POST, "/tokens", Some(json!({ "name": "all", "grants": ["admin"] }))).await;
    let token = made.body["token"].as_str().unwrap().to_owned();
    let with_token = |method: Method, path: &str| stage.request(method, &format!("/api/v1{path}")).bearer_auth(&token);
    let body = json!({ "password": PASSWORD });
    let refused = answer(with_token(Method::POST, "/account/delete").json(&body)).await;
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("session_needed")));
    assert_eq!(delete(&mut ann, "wrong-wrong-wrong").await, (422, json!("wrong_password")));
    let mut other = Browser::signed_in(&stage, "ann@example.org").await;
    let ann_id = id(&mut ann).await;
    assert_eq!(delete(&mut ann, PASSWORD).await, (204, Value::Null));
    assert!(ann.cookies.is_empty());
    assert_eq!(other.get("/account").await.status, 401);
    assert_eq!(answer(with_token(Method::GET, "/account")).await.status, 401);
    assert_eq!(Browser::new(&stage).sign_in("ann@example.org", PASSWORD).await.body["code"], "sign_in_refused");
    assert_eq!(admin.get(&format!("/users/{ann_id}")).await.status, 404);
    let left = "SELECT count(*) FROM data_key WHERE owner = $1";
    let left: i64 = sqlx::query_scalar(left).bind(&ann_id).fetch_one(&mut database(&stage).await).await.unwrap();
    assert_eq!(left, 0);
    // The address is free again.
    person(&stage, &mut admin, "ann@example.org").await;

    // Of two last admins who leave at once, one stays.
    let mut dora = person(&stage, &mut admin, "dora@example.org").await;
    assert_eq!(admin.send(Method::PUT, "/users/dora@example.org/admin", None).await.status, 204);
    let (one, other) = tokio::join!(delete(&mut admin, PASSWORD), delete(&mut dora, PASSWORD));
    let mut ends = [one, other];
    ends.sort_by_key(|(status, _)| *status);
    assert_eq!(ends, [(204, Value::Null), (409, json!("last_admin"))]);
}
