//! Input made up from the OpenAPI document, valid and not: schemathesis against a real gateway with its history.

use std::{process::Stdio, time::Duration};

use pinacle_tests::{eventually, machine};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use super::stage::{SOON, Stage, TOKEN, answer};

const WITHIN: Duration = Duration::from_secs(300);

/// Gives the parameters of paths names that there are, so that not all ends with 404.
fn with_examples(document: &mut Value, known: &[(&str, &str)]) {
    for item in document["paths"].as_object_mut().unwrap().values_mut() {
        for operation in item.as_object_mut().unwrap().values_mut() {
            let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) else { continue };
            for parameter in parameters.iter_mut().filter(|parameter| parameter["in"] == "path") {
                let name = parameter["name"].as_str().unwrap_or_default().to_owned();
                if let Some((_, value)) = known.iter().find(|(known, _)| *known == name) {
                    parameter["example"] = json!(value);
                }
            }
        }
    }
}

#[tokio::test]
async fn no_input_valid_or_not_makes_the_gateway_fail() {
    let tool = machine::repository().join(".pinacle/schemathesis");
    assert!(tool.join("bin/schemathesis").exists(), "run scripts/setup test: there is no {}", tool.display());
    let stage = Stage::start_with(&[("PINACLE__GATEWAY__API_REQUESTS_PER_SECOND", "0")]).await;
    let _ingest = stage.ingest().await;
    let _orchestrator = stage.orchestrator().await;
    stage.host("alpha").await;
    stage.pod("web", "admin", None).await;
    eventually(SOON, "the pod", async || stage.get("/pods/web").await.status == 200).await;

    let mut document = answer(stage.request(Method::GET, "/api/openapi.json")).await.body;
    with_examples(&mut document, &[("host", "alpha"), ("pod", "web")]);
    let folder = stage.nats.sandbox().folder("schemathesis");
    let file = folder.join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let mut run = Command::new("python3");
    run.arg(tool.join("bin/schemathesis"))
        .arg("run")
        .arg(&file)
        .arg("--url")
        .arg(format!("http://{}", stage.address))
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        // What is away for a time says so with 503, 502 and 504; a fault of the gateway's own is 500.
        .args(["--checks", "not_a_server_error", "--mode", "all", "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "8", "--seed", "1", "--generation-database", "none", "--request-timeout", "15"])
        // The WebSocket is no request; an agent that is not there is no fault.
        .args([
            "--exclude-path-regex",
            "/live$|/commands/|/logs$|^/api/v1/hosts/.*/rotate-key$",
            "--no-color",
            "--max-time",
            "150",
        ])
        .env("PYTHONPATH", &tool)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(WITHIN, run.output()).await.expect("it takes too long").unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("generated"), "{told}");
    let faults = stage.gateway.log_text();
    let faults: Vec<&str> =
        faults.lines().filter(|line| line.contains("panicked") || line.contains("\"status\":500")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}
