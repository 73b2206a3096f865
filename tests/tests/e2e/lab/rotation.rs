//! The orchestrator's own SSH key: made by itself, and exchanged while hosts are there, away, and the orchestrator is killed.

use std::{fs, path::PathBuf};

use pinacle_bus::contract::host::HostState;
use pinacle_tests::{
    eventually,
    lab::{Host, Lab},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    markers::Api,
    stage::{LONG, Stage},
};

fn authorized_keys(host: &Host) -> PathBuf {
    host.folder().join("ssh/authorized_keys")
}

fn let_in(host: &Host) -> String {
    fs::read_to_string(authorized_keys(host)).unwrap()
}

/// Waits until the hosts that are behind are these, and returns what is said of the key then.
async fn behind(api: &Api, hosts: &[&str]) -> Value {
    eventually(LONG, "the hosts to get the current key", async || {
        let key = api.done(Method::GET, "/ssh-key", Value::Null).await;
        let is_so = key["hosts_behind"] == json!(hosts) && (!hosts.is_empty() || key["former"] == json!([]));
        if is_so { Ok(key) } else { Err(key) }
    })
    .await
}

#[tokio::test]
async fn the_ssh_key_is_exchanged_on_every_host_also_on_one_that_was_away_and_over_a_crash() {
    let lab =
        Lab::builder().hosts(2).gateway().set("orchestrator.ssh_key", "").set("orchestrator.reconcile_ms", "1000");
    let mut stage = Stage::on(lab.start().await).await;
    let api = Api::of(&stage.lab);
    let line = |key: &Value| format!("restrict {}\n", key["public_key"].as_str().unwrap());

    let first = api.done(Method::GET, "/ssh-key", Value::Null).await;
    assert_eq!((&first["from_settings"], &first["hosts_behind"]), (&json!(false), &json!([])), "{first}");
    for host in stage.lab.hosts() {
        fs::write(authorized_keys(host), line(&first)).unwrap();
    }
    let pods = [stage.running("one").await, stage.running("two").await];

    let (there, away) = (stage.lab.hosts()[0].name().to_owned(), stage.lab.hosts()[1].name().to_owned());
    let away_id = stage.host(&away).host_id().await.to_string();
    stage.host(&away).cut_off();
    eventually(LONG, "the host to be away", async || match stage.lab.host_record(&away).await.state {
        HostState::Offline => Ok(()),
        other => Err(other),
    })
    .await;
    let asked = api.done(Method::POST, "/ssh-key/rotate", Value::Null).await;
    stage.succeeds(asked["operation_id"].as_str().unwrap().parse().unwrap()).await;
    let second = behind(&api, &[&away_id]).await;
    assert_ne!(second["fingerprint"], first["fingerprint"]);
    assert_eq!(second["former"], json!([first["fingerprint"]]), "{second}");
    assert_eq!(let_in(stage.host(&there)), line(&second), "the former key is withdrawn where the new one works");
    assert_eq!(let_in(stage.host(&away)), line(&first));

    stage.host(&away).reconnect();
    let second = behind(&api, &[]).await;
    assert_eq!(let_in(stage.host(&away)), line(&second));
    for pod in pods {
        stage.settles(pod, pinacle_bus::contract::pod::PodPhase::Running).await;
        stage.done(pod, "restart").await;
    }

    // Killed at once, and killed again while it catches up.
    let asked = api.done(Method::POST, "/ssh-key/rotate", Value::Null).await;
    for _ in 0..2 {
        stage.lab.orchestrators()[0].kill9().await;
        stage.lab.orchestrators()[0].restart().await;
    }
    stage.succeeds(asked["operation_id"].as_str().unwrap().parse().unwrap()).await;
    let third = behind(&api, &[]).await;
    assert_ne!(third["fingerprint"], second["fingerprint"]);
    for host in stage.lab.hosts() {
        assert_eq!(let_in(host), line(&third));
    }
    for pod in pods {
        stage.done(pod, "stop").await;
    }
}
