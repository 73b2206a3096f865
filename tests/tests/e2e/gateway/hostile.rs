//! Input that is meant to do harm: paths, headers, framing and sizes, as bytes on a connection of the test's own.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::stage::{SOON, Stage, TOKEN, answer};

/// What comes back for these bytes, until the gateway closes or says nothing more.
async fn raw(stage: &Stage, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    // It may close before it has read all of it.
    let _ = stream.write_all(bytes).await;
    let mut told = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(3), stream.read(&mut buffer)).await {
        told.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&told).into_owned()
}

fn status(told: &str) -> u16 {
    told.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// How many answers there are, a smuggled request's included.
fn answers(told: &str) -> usize {
    told.matches("HTTP/1.1 ").count()
}

async fn get(stage: &Stage, target: &str) -> String {
    let head =
        format!("GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    raw(stage, head.as_bytes()).await
}

#[tokio::test]
async fn no_path_leads_anywhere_but_to_its_route() {
    let stage = Stage::start().await;
    stage.host("alpha").await;
    assert_eq!(status(&get(&stage, "/api/v1/hosts/alpha").await), 200);
    let long = format!("/api/v1/hosts/{}", "a".repeat(9000));
    let deep = "/..".repeat(2000);
    for target in [
        "/api/v1/../../etc/passwd",
        "/api/v1/hosts/../hosts/alpha",
        "/api/v1/hosts/%2e%2e/hosts/alpha",
        "/api/v1/hosts/..%2f..%2fetc%2fpasswd",
        "/api/v1/hosts/..%5c..%5cetc",
        "/api/v1/hosts/%252e%252e%252falpha",
        "//api/v1/hosts",
        "/api//v1/hosts",
        "/api/v1//hosts",
        "/api/v1/hosts//alpha",
        "/api/v1/hosts/alpha/",
        "/api/v1/hosts/alpha%00",
        "/api/v1/hosts/alpha%0d%0ax-evil:%201",
        "/api/v1/hosts/%c0%ae%c0%ae",
        "/api/v1/hosts/%ff%fe",
        "/api/v1/hosts/%",
        "/api/v1/hosts/%zz",
        "/api/v1/hosts/alpha;x=1",
        "/API/V1/hosts",
        "/api/docs/../../etc/passwd",
        "/api/docs/%2e%2e/%2e%2e/etc/passwd",
        "*",
        "api/v1/hosts",
        &long,
        &deep,
    ] {
        let told = get(&stage, target).await;
        let shown: String = target.chars().take(60).collect();
        assert!((400..500).contains(&status(&told)), "{shown}: {told}");
        assert!(!told.contains("root:") && !told.to_lowercase().contains("\r\nx-evil"), "{shown}: {told}");
    }
}

#[tokio::test]
async fn nobody_can_put_headers_into_an_answer_or_lines_into_the_log() {
    let stage = Stage::start().await;
    for evil in ["a\rb", "a\u{b}b", "é", "a b", "\"x\"", "<script>"] {
        let head = [
            b"GET /api/v1/version HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ".as_slice(),
            TOKEN.as_bytes(),
            b"\r\nconnection: close\r\nx-request-id: ",
            evil.as_bytes(),
            b"\r\n\r\n",
        ];
        let told = raw(&stage, &head.concat()).await;
        let id = told.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        assert!(status(&told) == 400 || id.is_some_and(|id| id.starts_with("req_")), "{evil:?}: {told}");
    }
    let name = json!({ "name": "a\r\nset-cookie: x=1" });
    let request = stage.request(Method::POST, "/api/v1/pods").bearer_auth(TOKEN).json(&name);
    let refused = answer(request.header("idempotency-key", "k")).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(!refused.headers.contains_key("set-cookie"));
    let log = stage.gateway.log_text();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok() || !line.contains("set-cookie: x=1")));
}

#[tokio::test]
async fn of_a_request_whose_end_is_in_doubt_nothing_becomes_a_second_one() {
    let stage = Stage::start().await;
    let own = format!("host: x\r\nauthorization: Bearer {TOKEN}\r\n");
    let hidden = format!("GET /api/v1/hosts HTTP/1.1\r\n{own}\r\n");
    let cases = [
        ("both lengths", format!("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        (
            "both lengths, the other way",
            format!("transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("two lengths", format!("content-length: 0\r\ncontent-length: {}\r\n\r\n{hidden}", hidden.len())),
        ("a list of lengths", format!("content-length: 0, {}\r\n\r\n{hidden}", hidden.len())),
        ("a signed length", format!("content-length: +{}\r\n\r\n{hidden}", hidden.len())),
        ("a negative length", format!("content-length: -1\r\n\r\n{hidden}")),
        ("a length that is none", format!("content-length: 0x10\r\n\r\n{hidden}")),
        ("an unknown encoding", format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("an encoding behind chunked", format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}")),
        ("a space before the colon", format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a chunk's length that is none", format!("transfer-encoding: chunked\r\n\r\n-1\r\n{hidden}")),
        ("a chunk's length beyond all", format!("transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{hidden}")),
        ("a folded header", format!("x: a\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a NUL in a header", format!("x: a\0b\r\n\r\n{hidden}")),
    ];
    for (what, rest) in cases {
        let bytes = format!("POST /api/v1/pods HTTP/1.1\r\n{own}content-type: application/json\r\n{rest}");
        let told = raw(&stage, bytes.as_bytes()).await;
        assert!(answers(&told) <= 1 && !told.contains("next_cursor"), "{what}: {told}");
        assert!(told.is_empty() || (400..500).contains(&status(&told)), "{what}: {told}");
    }
    // And what is in order may follow on one connection.
    let two = format!(
        "GET /api/v1/version HTTP/1.1\r\n{own}\r\nGET /api/v1/hosts HTTP/1.1\r\n{own}connection: close\r\n\r\n"
    );
    assert_eq!(answers(&raw(&stage, two.as_bytes()).await), 2);
}

#[tokio::test]
async fn whatever_is_too_large_is_refused_and_the_gateway_goes_on() {
    let stage = Stage::start().await;
    let own = format!("host: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n");
    let header = format!("GET /api/v1/hosts HTTP/1.1\r\n{own}x: {}\r\n\r\n", "a".repeat(1 << 20));
    let name = format!("GET /api/v1/hosts HTTP/1.1\r\n{own}{}: 1\r\n\r\n", "a".repeat(1 << 20));
    let line = format!("GET /{} HTTP/1.1\r\n{own}\r\n", "a".repeat(1 << 20));
    let method = format!("{} / HTTP/1.1\r\n{own}\r\n", "A".repeat(1 << 16));
    let many: String = (0..5000).map(|number| format!("x-{number}: 1\r\n")).collect();
    let many = format!("GET /api/v1/hosts HTTP/1.1\r\n{own}{many}\r\n");
    let query = format!("GET /api/v1/hosts?{}limit=1 HTTP/1.1\r\n{own}\r\n", "limit=1&".repeat(900));
    for (what, bytes) in [
        ("a header", header),
        ("a header's name", name),
        ("a request's line", line),
        ("a method", method),
        ("many headers", many),
        ("many parameters", query),
        ("noise", "\u{1}\u{2}\u{3}\r\n\r\n".repeat(1000)),
    ] {
        let told = raw(&stage, bytes.as_bytes()).await;
        // Whoever sends more than is read may find the connection closed instead of an answer.
        assert!(told.is_empty() || (400..500).contains(&status(&told)), "{what}: {told}");
    }
    let post = |body: String| {
        let request = stage.request(Method::POST, "/api/v1/pods").bearer_auth(TOKEN);
        answer(request.header("content-type", "application/json").body(body))
    };
    assert_eq!(post(format!("{{\"name\":\"{}\"}}", "a".repeat(70_000))).await.status, 413);
    for body in [
        format!("{{\"name\":{}", "[".repeat(30_000)),
        format!("{{\"name\":\"web\",\"environment\":{{\"A\":{}1{}}}}}", "[".repeat(200), "]".repeat(200)),
        format!("{{\"name\":\"web\",\"tier\":1{}}}", "0".repeat(5000)),
        "{\"name\":\"web\",\"name\":\"web\"}".to_owned(),
        "{\"name\":\"\\ud800\"}".to_owned(),
        "\u{feff}{}".to_owned(),
        "null".to_owned(),
        String::new(),
    ] {
        let refused = post(body.clone()).await;
        let shown: String = body.chars().take(60).collect();
        assert!((400..500).contains(&refused.status), "{shown}: {refused:?}");
    }
    let alive = tokio::time::timeout(SOON, stage.get("/version")).await.unwrap();
    assert_eq!(alive.status, 200);
}
