//! Hosts and secrets change hands on the command line.

use pinacle_bus::contract::{HostId, host::HostRecord, topology::HOSTS};
use pinacle_tests::eventually;
use reqwest::Method;
use serde_json::json;

use super::fixture::pinacle;
use crate::gateway::stage::{SOON, Stage, golden};

#[tokio::test]
async fn people_give_their_hosts_and_secrets_to_their_teams() {
    let stage = Stage::start().await;
    let _orchestrator = stage.orchestrator().await;
    let ann = stage.person("ann", false).await;
    let team = stage.team(&ann, "platform").await;
    let host_id = HostId::new();
    let record = HostRecord { host_id, name: "hers".into(), owner: Some(ann.user_id.clone()), ..golden("host_record") };
    stage.bus.bucket(&HOSTS).await.unwrap().create(&host_id.to_string(), &record).await.unwrap();
    eventually(SOON, "the host", async || stage.get("/hosts/hers").await.status == 200).await;
    let put = stage.ask(&ann, Method::PUT, "/secrets/TOKEN", json!({ "value": "x", "project": "a/b c" })).await;
    assert_eq!(put.status, 200, "{put:?}");

    let gateway = format!("http://{}", stage.address);
    let environment = [("PINACLE_GATEWAY", gateway.as_str()), ("PINACLE_TOKEN", ann.token.as_str())];
    let told = pinacle(&["host", "transfer", "hers", "platform"], &environment).ok();
    assert_eq!(told, "hers is platform's now\n");
    eventually(SOON, "the host to be the team's", async || {
        let host = stage.look(&ann, "/hosts/hers").await;
        if host.body["owner"] == json!(team) { Ok(()) } else { Err(host) }
    })
    .await;
    let told = pinacle(&["secrets", "transfer", "TOKEN", "platform", "--project", "a/b c"], &environment).ok();
    assert_eq!(told, "TOKEN is platform's now\n");
    let listed = pinacle(&["secrets", "ls", "--owner", &team, "--json"], &environment).ok();
    assert!(listed.contains("TOKEN"), "{listed}");
    pinacle(&["secrets", "transfer", "TOKEN", "platform"], &environment).refused(1);
    pinacle(&["host", "transfer", "hers"], &environment).refused_at_once(2);
}
