use std::{collections::BTreeSet, error::Error, fmt};

use axum::body::to_bytes;
use pinacle_bus::{
    client::AskError,
    contract::command::{Fault, FaultCode},
};

use super::*;

async fn body(problem: Problem) -> (StatusCode, String) {
    let response = problem.into_response();
    assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn every_code_is_unique_stable_and_an_error() {
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    for code in Code::ALL {
        assert!(seen.insert(code.as_str()), "{} is there twice", code.as_str());
        let (status, body) = body(Problem::new(*code, "detail")).await;
        assert!(status.is_client_error() || status.is_server_error());
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["status"], status.as_u16());
        assert_eq!(body["code"], code.as_str());
        lines.push(format!("{} {} {:?} {}", status.as_u16(), code.as_str(), code.retry_after(), code.title()));
    }
    insta::assert_snapshot!("codes", lines.join("\n"));
}

#[derive(Debug)]
struct Secret;

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("password=hunter2 at 10.0.0.1")
    }
}

impl Error for Secret {}

#[tokio::test]
async fn the_text_of_a_source_never_reaches_a_body() {
    for code in Code::ALL {
        let (_, body) = body(Problem::internal(*code, "do it", &Secret)).await;
        assert!(!body.contains("hunter2") && !body.contains("10.0.0.1"), "{body}");
    }
    let fault = |code| AskError::Fault(Fault { code, message: "hunter2".into() });
    for code in [FaultCode::Busy, FaultCode::Timeout, FaultCode::Unavailable, FaultCode::Internal] {
        let (status, body) = body(fault(code).into()).await;
        assert!(status.is_server_error() && !body.contains("hunter2"), "{body}");
    }
}

#[test]
fn each_fault_of_an_agent_has_its_status() {
    let status = |code| {
        let fault = Fault { code, message: "no\u{7} such pod".into() };
        let problem = Problem::from(AskError::Fault(fault));
        (problem.code().status().as_u16(), problem.code().as_str())
    };
    assert_eq!(status(FaultCode::UnknownCommand), (422, "agent_refused"));
    assert_eq!(status(FaultCode::BadRequest), (422, "agent_refused"));
    assert_eq!(status(FaultCode::NotFound), (404, "not_found_on_host"));
    assert_eq!(status(FaultCode::Busy), (503, "agent_busy"));
    assert_eq!(status(FaultCode::Timeout), (504, "agent_timeout"));
    assert_eq!(status(FaultCode::Unavailable), (503, "agent_unavailable"));
    assert_eq!(status(FaultCode::Internal), (502, "agent_fault"));
    assert_eq!(Problem::from(AskError::NoAgent).code().status().as_u16(), 503);
    assert_eq!(Problem::from(AskError::Timeout).code().status().as_u16(), 504);
}
