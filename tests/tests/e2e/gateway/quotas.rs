//! Quotas: what is used is never more than what is allowed, however many ask at once and wherever.

use futures_util::future::join_all;
use pinacle_bus::contract::{
    Timestamp,
    pod::{PodPhase, PodRecord},
    topology::PODS,
};
use pinacle_tests::{eventually, machine};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    stage::{SOON, Stage, TOKEN, answer, golden},
    tenants::{Somebody, text},
};

impl Stage {
    async fn quota(&self, owner: &str, quota: Value) {
        let set = self.as_who(TOKEN, Method::PUT, &format!("/quotas/{owner}"), Some(quota)).await;
        assert_eq!(set.status, 200, "{set:?}");
    }

    async fn used(&self, who: &Somebody) -> Value {
        self.look(who, &format!("/quotas/{}", who.user_id)).await.body["used"]["pods"].clone()
    }
}

#[tokio::test]
async fn many_at_once_in_two_copies_never_get_more_than_there_is() {
    let stage = Stage::start().await;
    let ann = stage.person("ann", false).await;
    stage.quota(&ann.email, json!({ "pods": 3 })).await;
    let second = machine::free_address();
    let _copy = Stage::launch(&stage.nats, &stage.database, second).ready_on_admin_port().start().await;
    let create = |index: usize| {
        let address = if index.is_multiple_of(2) { stage.address } else { second };
        let url = format!("http://{address}/api/v1/pods");
        answer(stage.client.post(url).bearer_auth(&ann.token).json(&json!({ "name": format!("web-{index}") })))
    };
    let answers = join_all((0..12).map(create)).await;
    let made: Vec<&Value> = answers.iter().filter(|it| it.status == 202).map(|it| &it.body).collect();
    assert_eq!(made.len(), 3, "{answers:?}");
    for refused in answers.iter().filter(|it| it.status != 202) {
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("quota_exceeded")), "{refused:?}");
        let detail = text(&refused.body, "detail");
        assert!(detail.contains("3 pods of 3 pods are used") && detail.contains("1 pods more"), "{detail}");
    }
    assert_eq!(stage.used(&ann).await, 3);

    // A deleted pod makes room for one.
    let pod = text(&made[0]["pod"], "pod_id");
    let record = PodRecord {
        pod_id: pod.parse().unwrap(),
        name: "gone".into(),
        owner: ann.user_id.clone(),
        phase: PodPhase::Deleted,
        host_id: None,
        phase_since: Timestamp::now(),
        ..golden("pod_record")
    };
    stage.bus.bucket(&PODS).await.unwrap().create(&pod, &record).await.unwrap();
    eventually(SOON, "room", async || {
        let used = stage.used(&ann).await;
        if used == 2 { Ok(()) } else { Err(used) }
    })
    .await;
    assert_eq!(create(100).await.status, 202);
    assert_eq!(create(102).await.status, 409);

    // The installation has no quota, and an admin may raise a person's.
    assert_eq!(stage.as_who(TOKEN, Method::POST, "/pods", Some(json!({ "name": "own" }))).await.status, 202);
    stage.quota(&ann.user_id, json!({ "pods": 10, "memory_bytes": 1 })).await;
    let refused = create(104).await;
    assert!(text(&refused.body, "detail").contains("GiB of memory"), "{refused:?}");
    stage.quota(&ann.user_id, json!({})).await;
    assert_eq!(create(106).await.status, 202);
}

#[tokio::test]
async fn without_postgres_the_installation_alone_makes_pods() {
    let mut stage = Stage::start().await;
    let ann = stage.person("ann", false).await;
    assert_eq!(stage.look(&ann, "/pods").await.status, 200);
    stage.postgres.stop().await;
    assert_eq!(stage.look(&ann, "/pods").await.status, 200, "who was known stays known");
    let refused = stage.ask(&ann, Method::POST, "/pods", json!({ "name": "web" })).await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("database_unavailable")), "{refused:?}");
    let made = stage.as_who(TOKEN, Method::POST, "/pods", Some(json!({ "name": "web" }))).await;
    assert_eq!(made.status, 202, "{made:?}");
}
