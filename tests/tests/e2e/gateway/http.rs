//! HTTP: who may ask, what is told when something is wrong, and the live state.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use pinacle_bus::{
    client::{Ask, respond},
    contract::{
        HostId, PodId, Timestamp,
        command::{Fault, FaultCode, Ping, Pong},
        grant::Role,
        host::HostState,
        subject::filter,
        topology::StreamName,
    },
    trust::Keys,
};
use pinacle_tests::{Launch, Sandbox, eventually, stack::MASTER_KEY};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::stage::{SOON, Stage, TOKEN, answer};

fn method(name: &str) -> Method {
    name.to_uppercase().parse().unwrap()
}

#[tokio::test]
async fn every_route_of_the_document_wants_a_token() {
    let stage = Stage::start().await;
    let document = answer(stage.request(Method::GET, "/api/openapi.json")).await;
    assert_eq!(document.status, 200);
    assert_eq!(document.body["openapi"], "3.1.0");
    let mut routes = 0;
    let mut open = BTreeSet::new();
    for (path, item) in document.body["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        for (name, operation) in item.as_object().unwrap() {
            if operation["security"] == json!([{}]) {
                open.insert(format!("{name} {path}"));
                continue;
            }
            routes += 1;
            let refused = |request| async {
                let answer = answer(request).await;
                assert_eq!((answer.status, &answer.body["code"]), (401, &json!("unauthorized")), "{name} {path}");
                assert_eq!(answer.headers["content-type"], "application/problem+json");
                assert!(answer.headers["www-authenticate"].starts_with("Bearer"));
            };
            let request = |path: &str| stage.request(method(name), path);
            refused(request(&path)).await;
            refused(request(&path).bearer_auth(format!("{TOKEN}x"))).await;
            refused(request(&path).basic_auth("admin", Some(TOKEN))).await;
            refused(request(&format!("{path}?token={TOKEN}&access_token={TOKEN}"))).await;
            refused(request(&path).header("sec-websocket-protocol", format!("bearer.{TOKEN}"))).await;
        }
    }
    assert!(routes >= 20, "{routes}");
    // The few that take nobody's identity, on purpose.
    let on_purpose = [
        "get /api/v1/accounts/ways",
        "post /api/v1/accounts",
        "post /api/v1/accounts/email",
        "post /api/v1/accounts/password",
        "post /api/v1/accounts/reset",
        "post /api/v1/enrol",
        "post /api/v1/enrol/challenge",
        "post /api/v1/enrol/renewal",
        "post /api/v1/sessions",
        "post /api/v1/sessions/second-factor",
    ];
    assert_eq!(open, on_purpose.map(str::to_owned).into());
    // What does not exist is not told apart without a token.
    for path in ["/api/v1/nothing", "/api/v1", "/api/v1/"] {
        let answer = answer(stage.request(Method::GET, path)).await;
        assert!(answer.status == 401 || answer.status == 404, "{path}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
    }
    let answer = answer(stage.request(Method::PATCH, "/api/v1/hosts")).await;
    assert_eq!(answer.status, 401);
    assert!(!stage.gateway.log_text().contains(TOKEN));
}

#[tokio::test]
async fn bad_input_is_told_by_problems_that_say_what_is_wrong() {
    let stage = Stage::start().await;
    let host = stage.host("alpha").await;
    stage.host("twin").await;
    let unplaced = stage.pod("unplaced", "user_1", None).await;
    eventually(SOON, "the pod", async || stage.get(&format!("/pods/{unplaced}")).await.status == 200).await;
    let long = "x".repeat(9000);
    let nobody = HostId::from_str_of('0');
    let get = |path: &str| stage.request(Method::GET, path);
    let post = |path: &str| stage.request(Method::POST, path);
    let interval = format!("/api/v1/hosts/{host}/commands/set-interval");
    let mut many = get("/api/v1/hosts");
    for index in 0..90 {
        many = many.header(format!("x-{index}"), "1");
    }
    let json_post = |body: &str| post(&interval).header("content-type", "application/json").body(body.to_owned());
    let cases = [
        ("no such route", get("/api/v1/nothing")),
        ("no such route outside", get("/nothing")),
        ("wrong method", stage.request(Method::PUT, "/api/v1/hosts")),
        ("limit of nothing", get("/api/v1/hosts?limit=0")),
        ("limit too high", get("/api/v1/hosts?limit=1001")),
        ("limit no number", get("/api/v1/hosts?limit=many")),
        ("unknown parameter", get("/api/v1/hosts?stat=online")),
        ("parameter twice", get("/api/v1/hosts?limit=1&limit=2")),
        ("unknown state", get("/api/v1/hosts?state=dead")),
        ("foreign cursor", get("/api/v1/hosts?cursor=abc")),
        ("foreign cursor in the history", get("/api/v1/events?cursor=abc")),
        ("cursor and after", get("/api/v1/events?cursor=1&after=1")),
        ("no such host", get(&format!("/api/v1/hosts/{nobody}"))),
        ("no such name", get("/api/v1/hosts/nowhere")),
        ("a path that is no text", get("/api/v1/hosts/%ff")),
        ("a NUL in a name", get("/api/v1/hosts/a%00b")),
        ("a NUL in a filter", get("/api/v1/events?target=a%00b")),
        ("no such pod", get("/api/v1/pods/nowhere")),
        ("pods of no such host", get("/api/v1/pods?host=nowhere")),
        ("a pod on no host", get(&format!("/api/v1/pods/{unplaced}/logs"))),
        ("too many lines", get(&format!("/api/v1/pods/{unplaced}/logs?tail=10001"))),
        (
            "a range that ends before it begins",
            get("/api/v1/hosts/alpha/metrics?from=2026-11-21T10:00:00Z&to=2026-11-21T09:00:00Z"),
        ),
        ("a time that is none", get("/api/v1/hosts/alpha/metrics?from=yesterday")),
        ("a step of nothing", get("/api/v1/hosts/alpha/metrics?step=0")),
        ("a dead letter's id that is none", get("/api/v1/dead-letters/42")),
        ("no such dead letter", stage.request(Method::DELETE, "/api/v1/dead-letters/dead_000000000000000000000000000")),
        ("no WebSocket", get("/api/v1/live")),
        ("a body that is no JSON", json_post("{")),
        ("a body of another shape", json_post("{\"interval\": 5}")),
        ("a body with a wrong type", json_post("{\"interval_ms\": \"5\"}")),
        ("a value out of range", json_post("{\"interval_ms\": 5}")),
        ("a body without its type", post(&interval).body("{\"interval_ms\": 5000}")),
        ("a body too large", json_post(&format!("{{\"interval_ms\": {}}}", " ".repeat(70_000)))),
        ("too many headers", many),
        ("an address too long", get(&format!("/api/v1/hosts?name={long}"))),
        ("an agent that is not there", post(&format!("/api/v1/hosts/{host}/commands/ping"))),
    ];
    let mut told = Vec::new();
    for (what, request) in cases.into_iter().chain(about_pods(&stage)) {
        let answer = answer(request.bearer_auth(TOKEN)).await;
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}: {answer:?}");
        assert_eq!(answer.body["status"], answer.status, "{what}");
        assert_eq!(answer.body["request_id"], answer.headers["x-request-id"], "{what}");
        assert_eq!(answer.headers.contains_key("allow"), answer.status == 405, "{what}");
        let mut body = answer.body;
        body.as_object_mut().unwrap().remove("request_id");
        let text = body.to_string().replace(&host.to_string(), "<host>").replace(&unplaced.to_string(), "<pod>");
        let body: Value = serde_json::from_str(&text).unwrap();
        told.push(json!({ "what": what, "problem": body }));
    }
    // The same name whichever binary this is part of.
    insta::with_settings!({ prepend_module_to_snapshot => false }, {
        insta::assert_json_snapshot!("gateway_problems", told);
    });
}

/// What cannot be asked for.
fn about_pods(stage: &Stage) -> Vec<(&'static str, RequestBuilder)> {
    let get = |path: &str| stage.request(Method::GET, path);
    let create = |body: &str, key: &str| {
        let request = stage.request(Method::POST, "/api/v1/pods").header("content-type", "application/json");
        request.header("idempotency-key", key).body(body.to_owned())
    };
    let labels = |body: &str| {
        let request = stage.request(Method::PUT, "/api/v1/hosts/alpha/labels");
        request.header("content-type", "application/json").body(body.to_owned())
    };
    vec![
        ("a pod without a name", create("{}", "k")),
        ("a pod with a name that is none", create("{\"name\": \"We b\"}", "k")),
        ("a pod of an unknown tier", create("{\"name\": \"web\", \"tier\": \"huge\"}", "k")),
        ("a pod with a restart policy that is none", create("{\"name\": \"web\", \"restart\": \"often\"}", "k")),
        ("a pod on no such host", create("{\"name\": \"web\", \"host\": \"nowhere\"}", "k")),
        ("a pod that somebody else is to own", create("{\"name\": \"web\", \"owner\": \"eve\"}", "k")),
        ("an idempotency key that is too long", create("{\"name\": \"web\"}", &"k".repeat(256))),
        ("an empty idempotency key", create("{\"name\": \"web\"}", "")),
        ("something done to no such pod", stage.request(Method::POST, "/api/v1/pods/nowhere/start")),
        ("commands of no such pod", get("/api/v1/pods/nowhere/exec")),
        ("an operation's id that is none", get("/api/v1/operations/42")),
        ("no such operation", get("/api/v1/operations/op_000000000000000000000000000")),
        ("a progress that is none", get("/api/v1/operations?progress=soon")),
        ("labels that are none", labels("{\"set\": {\"\": \"x\"}}")),
    ]
}

trait Spelled {
    fn from_str_of(letter: char) -> Self;
}

impl Spelled for HostId {
    /// An id that is the same each time.
    fn from_str_of(letter: char) -> Self {
        format!("host_{}", letter.to_string().repeat(27)).parse().unwrap()
    }
}

#[tokio::test]
async fn answers_carry_ids_and_keep_browsers_from_mischief() {
    let stage = Stage::start().await;
    let kept =
        answer(stage.request(Method::GET, "/api/v1/version").bearer_auth(TOKEN).header("x-request-id", "my-1")).await;
    assert_eq!((kept.status, kept.headers["x-request-id"].as_str()), (200, "my-1"));
    assert_eq!(kept.body["identity"], "admin");
    let replaced =
        answer(stage.request(Method::GET, "/api/v1/version").bearer_auth(TOKEN).header("x-request-id", "a b\"c")).await;
    assert!(replaced.headers["x-request-id"].starts_with("req_"), "{replaced:?}");
    for (path, status) in [("/api/v1/version", 200), ("/api/openapi.json", 200), ("/api/docs/", 200), ("/", 200)] {
        let answer =
            answer(stage.request(Method::GET, path).bearer_auth(TOKEN).header("origin", "http://evil.example")).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["x-frame-options"], "DENY", "{path}");
        assert!(answer.headers["content-security-policy"].contains("default-src"), "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{path}");
    }
    let page = answer(stage.request(Method::GET, "/api/docs/")).await;
    assert!(page.body.as_str().unwrap().contains("swagger-ui"), "{page:?}");
    let log = stage.gateway.log_text();
    for part in ["my-1", "/api/v1/version", "status", "duration_ms", "admin"] {
        assert!(log.contains(part), "{part} is not in the request log:\n{log}");
    }
}

#[tokio::test]
async fn pages_of_hosts_have_no_gap_and_no_double_while_hosts_are_added() {
    let stage = Stage::start().await;
    let mut expected = BTreeSet::new();
    for index in 0..60 {
        expected.insert(stage.host_unseen(&format!("host-{index}")).await.to_string());
    }
    let known = async || stage.get("/hosts?limit=1000").await.body["items"].as_array().unwrap().len();
    eventually(SOON, "all hosts", async || if known().await == 60 { Ok(()) } else { Err(known().await) }).await;

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = stage.get(&format!("/hosts?limit=7{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= 7);
        seen.extend(items.iter().map(|host| host["host_id"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        if seen.len() < 40 {
            stage.host(&format!("later-{}", seen.len())).await;
        }
    }
    let distinct: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "a host came twice");
    assert!(distinct.is_superset(&expected), "hosts are missing: {:?}", expected.difference(&distinct));
}

#[tokio::test]
async fn hosts_and_pods_are_shown_as_they_are_now() {
    let stage = Stage::start().await;
    let host = stage.host("alpha").await;
    let other = stage.host("beta").await;
    stage.host_becomes(other, HostState::Offline).await;
    let recorded = stage.pod("website", "user_1", Some(host)).await;
    let loose = PodId::new();
    stage.sample(host, 12.5, &[recorded, loose]).await;
    let detail = eventually(SOON, "the sample", async || {
        let answer = stage.get("/hosts/alpha").await;
        if answer.body["metrics"]["cpu_percent"] == 12.5 { Ok(answer.body) } else { Err(answer) }
    })
    .await;
    assert_eq!(detail["host_id"], host.to_string());
    assert_eq!(detail["facts"]["cpu_count"], 2);
    assert_eq!(detail["sample"]["cpu_cores_percent"].as_array().unwrap().len(), 2);
    assert_eq!(detail["pod_ids"].as_array().unwrap().len(), 2);

    let ids = |answer: &super::stage::Answer, key: &str| -> BTreeSet<String> {
        let items = answer.body["items"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
        items.iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
    };
    eventually(SOON, "beta offline", async || {
        ids(&stage.get("/hosts?state=offline").await, "host_id") == BTreeSet::from([other.to_string()])
    })
    .await;
    assert_eq!(ids(&stage.get("/hosts?state=online&name=alpha").await, "host_id"), BTreeSet::from([host.to_string()]));
    let both = BTreeSet::from([recorded.to_string(), loose.to_string()]);
    assert_eq!(ids(&stage.get("/pods").await, "pod_id"), both);
    assert_eq!(ids(&stage.get("/pods?host=alpha").await, "pod_id"), both);
    assert_eq!(ids(&stage.get("/pods?phase=running").await, "pod_id"), BTreeSet::from([recorded.to_string()]));
    assert_eq!(ids(&stage.get(&format!("/pods?host={other}")).await, "pod_id"), BTreeSet::new());
    let pod = stage.get("/pods/website").await;
    assert_eq!((&pod.body["owner"], &pod.body["metrics"]["cpu_percent"]), (&json!("user_1"), &json!(12.5)));
    let without_record = stage.get(&format!("/pods/{loose}")).await;
    assert_eq!(
        (&without_record.body["name"], &without_record.body["host_id"]),
        (&Value::Null, &json!(host.to_string()))
    );

    // Two owners may call their pods alike.
    stage.pod("website", "user_2", None).await;
    eventually(SOON, "an ambiguous name", async || {
        let answer = stage.get("/pods/website").await;
        if answer.body["code"] == "name_ambiguous" { Ok(()) } else { Err(answer) }
    })
    .await;
    // A pod that its host no longer samples and that has no record is gone.
    stage.sample(host, 13.0, &[recorded]).await;
    eventually(SOON, "the pod to go", async || stage.get(&format!("/pods/{loose}")).await.status == 404).await;
}

#[tokio::test]
async fn commands_reach_the_agent_and_its_faults_become_problems() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__COMMAND_TIMEOUT_MS", "700")]).await;
    let host = stage.host("alpha").await;
    let stop = CancellationToken::new();
    let mut agent = JoinSet::new();
    let (bus, stopped) = (stage.bus.clone(), stop.clone());
    agent.spawn(async move {
        let answer = move |ask: Arc<Ask>| async move {
            let fault = |code| Err(Fault { code, message: "hunter2".into() });
            match ask.verb() {
                "ping" => {
                    ask.parameters::<Ping>()?;
                    Ok(serde_json::to_value(Pong { host_id: host, at: Timestamp::now() }).unwrap())
                }
                "version" => Ok(json!({ "not": "as it must be" })),
                "sample" => fault(FaultCode::Unavailable),
                "inventory" => std::future::pending().await,
                _ => fault(FaultCode::UnknownCommand),
            }
        };
        respond(&bus, filter::commands(host), 4, |_| Duration::from_secs(60), stopped, answer).await
    });
    let command = async |verb: &str| stage.post(&format!("/hosts/alpha/commands/{verb}")).await;
    eventually(SOON, "a pong", async || {
        let answer = command("ping").await;
        if answer.status == 200 && answer.body["host_id"] == host.to_string() { Ok(()) } else { Err(answer) }
    })
    .await;
    for (verb, status, code) in
        [("version", 502, "agent_fault"), ("sample", 503, "agent_unavailable"), ("inventory", 504, "agent_timeout")]
    {
        let answer = command(verb).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{verb}: {answer:?}");
        assert!(!answer.body.to_string().contains("hunter2"), "{answer:?}");
    }
    let request = stage.request(Method::POST, "/api/v1/hosts/alpha/commands/set-interval").bearer_auth(TOKEN);
    let refused = answer(request.json(&json!({ "interval_ms": 5000 }))).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("agent_refused")), "{refused:?}");
    stop.cancel();
}

#[tokio::test]
async fn without_postgres_the_live_state_goes_on_and_the_history_says_so() {
    let mut stage = Stage::start().await;
    let host = stage.host("alpha").await;
    stage.postgres.kill9().await;
    stage.sample(host, 77.0, &[]).await;
    eventually(SOON, "the sample", async || {
        let answer = stage.get("/hosts").await;
        if answer.body["items"][0]["metrics"]["cpu_percent"] == 77.0 { Ok(()) } else { Err(answer) }
    })
    .await;
    for path in ["/hosts/alpha/metrics", "/events", "/dead-letters", "/hosts/alpha/events"] {
        let answer = stage.get(path).await;
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!("database_unavailable")), "{path}: {answer:?}");
        assert_eq!(answer.headers["retry-after"], "5");
        for internal in ["sqlx", "refused", "127.0.0.1", "Postgres error", "postgres:"] {
            assert!(!answer.body.to_string().contains(internal), "{answer:?}");
        }
    }
    let mut socket = stage.socket().await;
    socket.subscribe("hosts").await;
    socket.state_until("hosts", |known| known.len() == 1).await;
    stage.postgres.restart().await;
    eventually(SOON, "the history", async || {
        let answer = stage.get("/events").await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn requests_beyond_the_limits_are_refused_and_none_hangs() {
    let stage = Stage::start_with(&[
        ("PINACLE__GATEWAY__MAX_REQUESTS", "1"),
        ("PINACLE__GATEWAY__COMMAND_TIMEOUT_MS", "1500"),
        ("PINACLE__GATEWAY__REQUEST_TIMEOUT_MS", "2000"),
    ])
    .await;
    let host = stage.host("alpha").await;
    // An agent that listens and never answers.
    let _agent = stage.bus.subscribe(filter::commands(host)).await.unwrap();
    // The server takes one client's lines in order: once it answers, it knows of the subscription.
    stage.bus.stream_bounds(StreamName::Events).await.unwrap();
    let slow = stage.post("/hosts/alpha/commands/ping");
    let other = eventually(SOON, "a refusal", async || {
        let answer = stage.get("/version").await;
        if answer.status == 503 { Ok(answer) } else { Err(answer) }
    });
    let (slow, other) = tokio::join!(slow, other);
    assert_eq!((slow.status, &other.body["code"]), (504, &json!("overloaded")), "{slow:?}");
    assert_eq!(other.headers["retry-after"], "1");

    // A body that never comes.
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let head = format!(
        "POST /api/v1/hosts/alpha/commands/set-interval HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut told)).await.expect("it hangs").unwrap();
    assert!(told.starts_with("HTTP/1.1 408") && told.contains("request_timeout"), "{told}");
}

#[tokio::test]
async fn it_refuses_to_start_without_a_token_or_a_master_key_or_with_a_taken_port() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let credentials = Keys::generate().role(Role::Gateway).unwrap().to_text().unwrap();
    let launch = || {
        Launch::service("pinacle-gateway")
            .env("PINACLE__BUS__CREDENTIALS", &credentials)
            .env("PINACLE__ADMIN__LISTEN", "")
            .env("PINACLE__GATEWAY__LISTEN", address.to_string())
    };
    let mut without = launch().spawn();
    assert_eq!(without.wait(SOON).await.code(), Some(64));
    let said = without.log_text();
    assert!(said.contains("gateway.admin_token: there is none"), "{said}");
    assert!(said.contains("gateway.master_key: there is none"), "{said}");
    assert_eq!(said.trim().lines().count(), 2, "{said}");

    let mut short = launch().env("PINACLE__GATEWAY__ADMIN_TOKEN", "short-token").spawn();
    assert_eq!(short.wait(SOON).await.code(), Some(64));
    assert!(short.log_text().contains("at least 32") && !short.log_text().contains("short-token"));

    let sandbox = Sandbox::new();
    let kept = sandbox.path().join("master_key");
    fs::write(&kept, format!("{MASTER_KEY}\n")).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
    let setting = format!("file:{}", kept.display());
    let with_token = || launch().env("PINACLE__GATEWAY__ADMIN_TOKEN", TOKEN);
    let mut open = with_token().env("PINACLE__GATEWAY__MASTER_KEY", &setting).spawn();
    assert_eq!(open.wait(SOON).await.code(), Some(64));
    assert!(open.log_text().contains("may be read by others (mode 0644)"), "{}", open.log_text());
    assert!(!open.log_text().contains(MASTER_KEY));

    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    let mut busy = with_token().env("PINACLE__GATEWAY__MASTER_KEY", &setting).spawn();
    assert_eq!(busy.wait(SOON).await.code(), Some(1));
    let said = busy.log_text();
    assert!(said.contains(&address.to_string()) && said.contains("is it taken?"), "{said}");

    let mut open = launch().env("PINACLE__GATEWAY__LISTEN", "0.0.0.0:0").arg("--dev").spawn();
    assert_eq!(open.wait(SOON).await.code(), Some(1), "without a token it must stay on this machine");
    assert!(open.log_text().contains("loopback"), "{}", open.log_text());
}
