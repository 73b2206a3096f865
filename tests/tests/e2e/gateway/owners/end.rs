//! A team ends when it has nothing any more.

use chrono::Utc;
use pinacle_bus::contract::{
    host::HostRecord,
    pod::PodRecord,
    topology::{HOSTS, PODS},
};
use pinacle_tests::eventually;
use reqwest::Method;
use serde_json::json;

use crate::gateway::{
    stage::{SOON, Stage},
    tenants::text,
};

#[tokio::test]
async fn a_team_stays_while_it_has_a_pod_a_host_a_secret_or_a_token() {
    let stage = Stage::start().await;
    let ann = stage.person("ann", false).await;
    let team = stage.team(&ann, "platform").await;
    let still_has = async |what: &str| {
        let refused = stage.as_who(&ann.token, Method::DELETE, "/teams/platform", None).await;
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("team_not_empty")), "{refused:?}");
        let detail = text(&refused.body, "detail");
        assert!(detail.starts_with(&format!("there is still {what}: ")), "{detail}");
    };
    let pod = stage.pod("web", &team, None).await;
    let host = stage.host_of("ours", Some(&team)).await;
    eventually(SOON, "the pod", async || stage.get(&format!("/pods/{pod}")).await.status == 200).await;
    for name in ["ONE", "TWO"] {
        let body = json!({ "value": "x", "owner": team });
        assert_eq!(stage.ask(&ann, Method::PUT, &format!("/secrets/{name}"), body).await.status, 200);
    }
    let made = stage.ask(&ann, Method::POST, "/hosts/enrolment-tokens", json!({ "owner": team })).await;
    assert_eq!(made.status, 201, "{made:?}");
    still_has("1 pod, 1 host, 2 secrets, 1 enrolment token").await;

    let pods = stage.bus.bucket::<PodRecord>(&PODS).await.unwrap();
    let entry = pods.get(&pod.to_string()).await.unwrap().unwrap();
    pods.delete(&pod.to_string(), entry.revision).await.unwrap();
    eventually(SOON, "the pod to be gone", async || stage.get(&format!("/pods/{pod}")).await.status == 404).await;
    still_has("1 host, 2 secrets, 1 enrolment token").await;

    let hosts = stage.bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
    let entry = hosts.get(&host.to_string()).await.unwrap().unwrap();
    hosts.delete(&host.to_string(), entry.revision).await.unwrap();
    eventually(SOON, "the host to be gone", async || stage.get(&format!("/hosts/{host}")).await.status == 404).await;
    still_has("2 secrets, 1 enrolment token").await;

    for name in ["ONE", "TWO"] {
        let path = format!("/secrets/{name}?owner={team}");
        assert_eq!(stage.as_who(&ann.token, Method::DELETE, &path, None).await.status, 204);
    }
    still_has("1 enrolment token").await;

    // A machine that has just joined is a host before the orchestrator has written so.
    let id = text(&made.body, "enrolment_id");
    let insert = "INSERT INTO host_key (public_key, host_id, owner, machine_id, enrolment_id, state, issued_at, expires_at) \
                  VALUES ('U1', $1, $2, '', $3, 'active', now(), $4)";
    let query = sqlx::query(insert).bind(host.to_string()).bind(&team).bind(&id).bind(Utc::now());
    query.execute(&stage.sql().await).await.unwrap();
    sqlx::query("UPDATE host_enrolment SET used = uses").execute(&stage.sql().await).await.unwrap();
    still_has("1 host").await;

    sqlx::query("UPDATE host_key SET state = 'revoked'").execute(&stage.sql().await).await.unwrap();
    assert_eq!(stage.as_who(&ann.token, Method::DELETE, "/teams/platform", None).await.status, 204);
    // Nothing comes to a team that has ended.
    let body = json!({ "value": "x", "owner": team });
    assert_eq!(stage.ask(&ann, Method::PUT, "/secrets/LATE", body).await.status, 404);
}
