//! Tokens for the API: what they may, how they end, and what is kept of them.

use chrono::{TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    stage::{Stage, TOKEN},
    tenants::{Somebody, text},
};

impl Stage {
    /// A token of somebody's, made with their other one.
    async fn token(&self, who: &Somebody, grants: &[&str], team: Option<&str>) -> Value {
        let body = json!({ "name": "more", "grants": grants, "team": team });
        let made = self.ask(who, Method::POST, "/tokens", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body
    }

    async fn status(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let answer = self.as_who(token, method, path, body).await;
        (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn a_token_may_what_it_was_made_for_and_never_more_than_its_person() {
    let stage = Stage::start().await;
    let (ann, boss) = (stage.person("ann", false).await, stage.person("boss", true).await);
    let allowed = |status: u16| (status, String::new());
    let refused = |code: &str| (403, code.to_owned());

    let reader = text(&stage.token(&ann, &["read"], None).await, "token");
    assert_eq!(stage.status(&reader, Method::GET, "/pods", None).await, allowed(200));
    let create = || Some(json!({ "name": "web" }));
    assert_eq!(stage.status(&reader, Method::POST, "/pods", create()).await, refused("grant_missing"));
    assert_eq!(
        stage.status(&reader, Method::POST, "/teams", Some(json!({ "name": "x1" }))).await,
        refused("grant_missing")
    );
    let more = || Some(json!({ "name": "more", "grants": ["read"] }));
    assert_eq!(stage.status(&reader, Method::POST, "/tokens", more()).await, refused("grant_missing"));

    // `read` comes with the others; `admin` of somebody who is none is no admin's.
    let maker = text(&stage.token(&ann, &["pods"], None).await, "token");
    assert_eq!(stage.status(&maker, Method::GET, "/pods", None).await, allowed(200));
    assert_eq!(stage.status(&maker, Method::POST, "/pods", create()).await, allowed(202));
    for path in ["/dead-letters", "/users", "/reconcilers", "/admin/overview"] {
        assert_eq!(stage.status(&ann.token, Method::GET, path, None).await, refused("forbidden"), "{path}");
        assert_eq!(stage.status(&boss.token, Method::GET, path, None).await, allowed(200), "{path}");
        assert_eq!(stage.status(&maker, Method::GET, path, None).await, refused("grant_missing"), "{path}");
    }

    // An admin's token without the grant sees what anybody would.
    let pod = text(&stage.look(&ann, "/pods/web").await.body, "pod_id");
    assert_eq!(stage.look(&boss, &format!("/pods/{pod}")).await.status, 200);
    let plain = text(&stage.token(&boss, &["pods"], None).await, "token");
    assert_eq!(stage.status(&plain, Method::GET, &format!("/pods/{pod}"), None).await, (404, "pod_not_found".into()));

    // What its person loses, it loses at once.
    let demoted = stage.as_who(TOKEN, Method::DELETE, &format!("/users/{}/admin", boss.email), None).await;
    assert_eq!(demoted.body["code"], "last_admin", "{demoted:?}");
    let chief = stage.person("chief", true).await;
    let demoted = stage.as_who(&chief.token, Method::DELETE, &format!("/users/{}/admin", boss.email), None).await;
    assert_eq!(demoted.status, 204, "{demoted:?}");
    assert_eq!(stage.status(&boss.token, Method::GET, "/users", None).await, refused("forbidden"));
    let suspended = stage.as_who(&chief.token, Method::POST, &format!("/users/{}/suspend", ann.user_id), None).await;
    assert_eq!(suspended.status, 204, "{suspended:?}");
    for token in [&ann.token, &reader, &maker] {
        assert_eq!(stage.status(token, Method::GET, "/pods", None).await, (401, "unauthorized".into()));
    }
    stage.as_who(&chief.token, Method::POST, &format!("/users/{}/unsuspend", ann.user_id), None).await;
    assert_eq!(stage.status(&reader, Method::GET, "/pods", None).await, allowed(200));
}

#[tokio::test]
async fn a_token_for_a_team_has_that_team_alone() {
    let stage = Stage::start().await;
    let (ann, bob) = (stage.person("ann", false).await, stage.person("bob", false).await);
    let (team, other) = (stage.team(&ann, "platform").await, stage.team(&ann, "other").await);
    stage.joins(&team, &bob, "member").await;
    let token = text(&stage.token(&bob, &["pods"], Some("platform")).await, "token");

    for (owner, name) in [(None, "own"), (Some(&team), "shared"), (Some(&other), "elsewhere")] {
        let made = stage.ask(&ann, Method::POST, "/pods", json!({ "name": name, "owner": owner })).await;
        assert_eq!(made.status, 202, "{made:?}");
    }
    let made = stage.ask(&bob, Method::POST, "/pods", json!({ "name": "bobs" })).await;
    assert_eq!(made.status, 202, "{made:?}");
    let names = async |token: &str| {
        let listed = stage.as_who(token, Method::GET, "/pods", None).await;
        let items = listed.body["items"].as_array().unwrap().clone();
        items.iter().map(|pod| text(pod, "name")).collect::<Vec<_>>()
    };
    assert_eq!(names(&token).await, ["shared"]);
    assert_eq!(names(&bob.token).await, ["shared", "bobs"]);

    // What it makes is the team's, and nothing else can be.
    let made = stage.as_who(&token, Method::POST, "/pods", Some(json!({ "name": "more" }))).await;
    assert_eq!((made.status, &made.body["pod"]["owner"]), (202, &json!(team)), "{made:?}");
    for owner in [&bob.user_id, &ann.user_id, &other, "other", "nowhere"] {
        let body = json!({ "name": "never", "owner": owner });
        let refused = stage.status(&token, Method::POST, "/pods", Some(body)).await;
        assert_eq!(refused, (404, "owner_not_found".into()), "{owner}");
    }
    // A token that is made with it is for the team, too.
    let wide = text(&stage.token(&bob, &["admin"], Some(&team)).await, "token");
    let next = stage.as_who(&wide, Method::POST, "/tokens", Some(json!({ "name": "next", "grants": ["read"] }))).await;
    assert_eq!((next.status, &next.body["team_id"]), (201, &json!(team)), "{next:?}");
    assert_eq!(stage.status(&wide, Method::POST, "/teams", Some(json!({ "name": "mine" }))).await.0, 403);

    // Who has left the team has nothing of it.
    let path = format!("/teams/{team}/members/{}", bob.user_id);
    assert_eq!(stage.as_who(&bob.token, Method::DELETE, &path, None).await.status, 204);
    assert_eq!(names(&token).await, Vec::<String>::new());
    let made = stage.as_who(&token, Method::POST, "/pods", Some(json!({ "name": "late" }))).await;
    assert_eq!(made.status, 404, "{made:?}");
}

#[tokio::test]
async fn a_token_is_told_once_kept_as_a_digest_and_ends_with_what_made_it() {
    let stage = Stage::start().await;
    let (ann, eve) = (stage.person("ann", false).await, stage.person("eve", false).await);
    let made = stage.token(&ann, &["admin"], None).await;
    let (token, id) = (text(&made, "token"), text(&made, "token_id"));
    let child =
        stage.as_who(&token, Method::POST, "/tokens", Some(json!({ "name": "child", "grants": ["read"] }))).await;
    let (child, child_id) = (text(&child.body, "token"), text(&child.body, "token_id"));

    let more = Some(json!({ "name": "more", "grants": ["read", "pods"] }));
    assert_eq!(stage.status(&token, Method::POST, "/tokens", more).await, (403, "grant_missing".into()));
    let listed = stage.look(&ann, "/tokens").await;
    let listed_ids: Vec<&Value> = listed.body["items"].as_array().unwrap().iter().map(|it| &it["token_id"]).collect();
    assert!(listed_ids.contains(&&json!(id)) && listed_ids.contains(&&json!(child_id)), "{listed:?}");
    let used = |id: &str| {
        let all = listed.body["items"].as_array().unwrap();
        all.iter().find(|it| it["token_id"] == id).unwrap()["used_at"].clone()
    };
    assert!(used(&id).is_string() && used(&child_id).is_null(), "{listed:?}");
    let secret: String = sqlx::query_scalar("SELECT string_agg(api_token::text, ' ') FROM api_token")
        .fetch_one(&stage.sql().await)
        .await
        .unwrap();
    for text in [&token, &child] {
        assert!(!secret.contains(text.as_str()) && !listed.body.to_string().contains(text.as_str()));
    }
    assert!(!stage.gateway.log_text().contains(&token));

    // Nobody ends what is not theirs, or learns that it is there.
    let unknown = "token_000000000000000000000000000";
    for id in [id.as_str(), unknown, "nonsense"] {
        let refused = stage.status(&eve.token, Method::DELETE, &format!("/tokens/{id}"), None).await;
        assert_eq!(refused, (404, "token_not_found".into()), "{id}");
    }
    for path in [format!("/tokens?user={}", ann.email), "/tokens?user=nobody@example.com".into()] {
        assert_eq!(stage.status(&eve.token, Method::GET, &path, None).await, (403, "forbidden".into()), "{path}");
    }

    assert_eq!(stage.as_who(&ann.token, Method::DELETE, &format!("/tokens/{id}"), None).await.status, 204);
    for token in [&token, &child] {
        assert_eq!(stage.status(token, Method::GET, "/pods", None).await, (401, "unauthorized".into()));
    }
    assert_eq!(stage.status(&ann.token, Method::DELETE, &format!("/tokens/{id}"), None).await.0, 404);
}

#[tokio::test]
async fn expired_truncated_forged_and_foreign_tokens_are_nobodys() {
    let stage = Stage::start().await;
    let ann = stage.person("ann", false).await;
    let made = stage.token(&ann, &["read"], None).await;
    let token = text(&made, "token");
    let end = token.len();
    let mut forged: String = token[..end - 8].into();
    forged.push_str("AAAAAAAA");
    for wrong in [&token[..end - 1], &token[..20], "pin_", &forged, &token.to_uppercase(), &format!("{token}A")] {
        assert_eq!(stage.status(wrong, Method::GET, "/pods", None).await, (401, "unauthorized".into()), "{wrong}");
    }
    assert_eq!(stage.status(&token, Method::GET, "/pods", None).await.0, 200);
    let past = Utc::now() - TimeDelta::seconds(1);
    let update = "UPDATE api_token SET expires_at = $2 WHERE token_id = $1";
    sqlx::query(update).bind(text(&made, "token_id")).bind(past).execute(&stage.sql().await).await.unwrap();
    assert_eq!(stage.status(&token, Method::GET, "/pods", None).await, (401, "unauthorized".into()));
    for days in [0, 367] {
        let body = json!({ "name": "long", "grants": ["read"], "days": days });
        assert_eq!(stage.status(&ann.token, Method::POST, "/tokens", Some(body)).await.0, 422);
    }
}
