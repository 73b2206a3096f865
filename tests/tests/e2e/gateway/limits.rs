//! How often, from where, and for whose pages.

use reqwest::Method;
use serde_json::json;

use super::stage::{Stage, TOKEN, answer};

#[tokio::test]
async fn an_identity_that_asks_too_often_is_told_when_to_come_back() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__API_REQUESTS_PER_SECOND", "1")]).await;
    let mut refused = None;
    for _ in 0..40 {
        let answer = stage.get("/version").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let refused = refused.expect("a refusal");
    assert_eq!(refused.body["code"], "rate_limited");
    assert!(refused.headers["retry-after"].parse::<u64>().unwrap() >= 1, "{refused:?}");
    // Who is nobody takes nothing from those who are somebody, and gets nothing of theirs.
    let nobody = answer(stage.request(Method::GET, "/api/v1/version").bearer_auth("wrong")).await;
    assert_eq!(nobody.status, 401);
}

#[tokio::test]
async fn guessing_a_password_takes_longer_and_longer() {
    let stage = Stage::start().await;
    let guess = async |email: &str| {
        let body = json!({ "email": email, "password": "a guess that is wrong" });
        answer(stage.request(Method::POST, "/api/v1/sessions").json(&body)).await
    };
    for _ in 0..5 {
        let wrong = guess("ann@example.org").await;
        assert!((400..500).contains(&wrong.status) && wrong.status != 429, "{wrong:?}");
    }
    let refused = guess("Ann@Example.org").await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("rate_limited")), "{refused:?}");
    assert!(refused.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    let other = guess("bob@example.org").await;
    assert_ne!(other.status, 429, "{other:?}");
}

#[tokio::test]
async fn only_a_trusted_proxy_says_from_where_a_request_comes() {
    let from = |stage: &Stage, name: &'static str, value: &'static str| {
        let request = stage.request(Method::GET, "/api/v1/version").bearer_auth(TOKEN);
        answer(request.header(name, value).header("x-forwarded-proto", "https"))
    };
    let stage = Stage::start().await;
    let answer = from(&stage, "x-forwarded-for", "203.0.113.71").await;
    assert!(!answer.headers.contains_key("strict-transport-security"));
    assert!(!stage.gateway.log_text().contains("203.0.113.71"));

    let stage = Stage::start_with(&[("PINACLE__GATEWAY__TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")]).await;
    let answer = from(&stage, "x-forwarded-for", "198.51.100.99, 203.0.113.72, 10.1.2.3").await;
    assert!(answer.headers["strict-transport-security"].starts_with("max-age="), "{answer:?}");
    from(&stage, "forwarded", "for=198.51.100.98, for=\"[2001:db8::73]:1\"").await;
    let log = stage.gateway.log_text();
    assert!(log.contains("203.0.113.72") && log.contains("2001:db8::73"), "{log}");
    assert!(!log.contains("198.51.100.9"), "what stands before the last stranger is believed");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_the_api_and_others_may_not() {
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__ALLOWED_ORIGINS", "https://console.example.org")]).await;
    let preflight = async |origin: &str| {
        let request = stage.request(Method::OPTIONS, "/api/v1/pods").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        answer(request.header("access-control-request-headers", "authorization,content-type")).await
    };
    let welcome = preflight("https://console.example.org").await;
    assert_eq!(welcome.headers["access-control-allow-origin"], "https://console.example.org", "{welcome:?}");
    assert_eq!(welcome.headers["access-control-allow-credentials"], "true");
    assert!(welcome.headers["access-control-allow-methods"].contains("POST"), "{welcome:?}");
    for foreign in
        ["https://evil.example", "https://console.example.org.evil.example", "http://console.example.org", "null"]
    {
        let refused = preflight(foreign).await;
        assert!(!refused.headers.contains_key("access-control-allow-origin"), "{foreign}: {refused:?}");
    }
    let get = stage.request(Method::GET, "/api/v1/version").bearer_auth(TOKEN);
    let seen = answer(get.header("origin", "https://console.example.org")).await;
    assert_eq!(seen.headers["access-control-allow-origin"], "https://console.example.org");
    assert!(seen.headers["access-control-expose-headers"].contains("x-request-id"), "{seen:?}");
    assert_eq!(seen.headers["permissions-policy"].split(", ").next(), Some("camera=()"));

    // Without the setting browsers are told nothing at all.
    let stage = Stage::start().await;
    let request = stage.request(Method::OPTIONS, "/api/v1/pods").header("origin", "https://console.example.org");
    let told = answer(request.header("access-control-request-method", "POST")).await;
    assert!(!told.headers.keys().any(|name| name.starts_with("access-control")), "{told:?}");
}
