//! Teams: who may what, invitations, and what belongs to a team.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    stage::Stage,
    tenants::{Somebody, text},
};

impl Stage {
    async fn tries(&self, who: &Somebody, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let answer = self.as_who(&who.token, method, path, body).await;
        (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned())
    }
}

fn done() -> (u16, String) {
    (204, String::new())
}

#[tokio::test]
async fn a_role_decides_who_may_what_and_one_owner_stays() {
    let stage = Stage::start().await;
    let (owner, admin) = (stage.person("owner", false).await, stage.person("chief", false).await);
    let (member, other) = (stage.person("member", false).await, stage.person("other", false).await);
    let team = stage.team(&owner, "platform").await;
    stage.joins(&team, &admin, "admin").await;
    stage.joins(&team, &member, "member").await;
    let role_missing = || (403, "role_missing".to_owned());
    let is_not_there = || (404, "team_not_found".to_owned());

    // Members use what the team has; its admins delete it.
    let made = stage.ask(&member, Method::POST, "/pods", json!({ "name": "shared", "owner": "platform" })).await;
    assert_eq!((made.status, &made.body["pod"]["owner"]), (202, &json!(team)), "{made:?}");
    assert_eq!(stage.tries(&member, Method::POST, "/pods/shared/stop", None).await.0, 202);
    assert_eq!(stage.tries(&member, Method::DELETE, "/pods/shared", None).await, role_missing());
    let to = || Some(json!({ "owner": member.user_id }));
    assert_eq!(stage.tries(&member, Method::POST, "/pods/shared/transfer", to()).await, role_missing());
    assert_eq!(stage.tries(&other, Method::DELETE, "/pods/shared", None).await, (404, "pod_not_found".into()));
    assert_eq!(stage.tries(&admin, Method::DELETE, "/pods/shared", None).await.0, 202);

    // Nobody gives or takes more than they have.
    let role = |who: &Somebody| format!("/teams/platform/members/{}", who.user_id);
    let body = |role: &str| Some(json!({ "role": role }));
    for (who, expected) in [(&member, role_missing()), (&other, is_not_there()), (&admin, done())] {
        assert_eq!(stage.tries(who, Method::PUT, &role(&member), body("admin")).await, expected, "{}", who.email);
    }
    assert_eq!(stage.tries(&admin, Method::PUT, &role(&member), body("owner")).await, role_missing());
    assert_eq!(stage.tries(&admin, Method::PUT, &role(&owner), body("member")).await, role_missing());
    assert_eq!(stage.tries(&admin, Method::DELETE, &role(&owner), None).await, role_missing());
    assert_eq!(stage.tries(&owner, Method::PUT, &role(&member), body("member")).await, done());
    assert_eq!(stage.tries(&owner, Method::PUT, &role(&other), body("member")).await, (404, "user_not_found".into()));

    for attempt in [
        stage.tries(&owner, Method::PUT, &role(&owner), body("admin")).await,
        stage.tries(&owner, Method::DELETE, &role(&owner), None).await,
    ] {
        assert_eq!(attempt, (409, "last_owner".into()));
    }
    let rename = |name: &str| Some(json!({ "name": name }));
    for (who, expected) in [(&member, role_missing()), (&admin, role_missing()), (&other, is_not_there())] {
        assert_eq!(stage.tries(who, Method::PUT, "/teams/platform", rename("core")).await, expected);
        assert_eq!(stage.tries(who, Method::DELETE, "/teams/platform", None).await, expected);
    }
    assert_eq!(stage.tries(&owner, Method::PUT, "/teams/platform", rename("Not so")).await.0, 422);
    stage.team(&other, "taken").await;
    assert_eq!(stage.tries(&owner, Method::PUT, "/teams/platform", rename("taken")).await, (409, "name_taken".into()));
    assert_eq!(stage.tries(&owner, Method::PUT, "/teams/platform", rename("core")).await, done());

    // What has something stays; who leaves has nothing of it.
    assert_eq!(stage.tries(&owner, Method::DELETE, "/teams/core", None).await, (409, "team_not_empty".into()));
    assert_eq!(stage.look(&member, "/pods/shared").await.status, 200);
    assert_eq!(
        stage.tries(&member, Method::DELETE, &format!("/teams/core/members/{}", member.user_id), None).await,
        done()
    );
    assert_eq!(stage.look(&member, "/pods/shared").await.status, 404);
    assert_eq!(stage.look(&member, "/teams").await.body["items"], json!([]));
}

#[tokio::test]
async fn an_invitation_counts_once_for_whom_it_is_for() {
    let stage = Stage::start().await;
    let (ann, bob) = (stage.person("ann", false).await, stage.person("bob", false).await);
    let eve = stage.person("eve", false).await;
    let team = stage.team(&ann, "platform").await;
    let invite = async |role: &str| {
        let body = json!({ "email": "Bob@example.com", "role": role });
        let made = stage.ask(&ann, Method::POST, "/teams/platform/invitations", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        (text(&made.body, "token"), text(&made.body, "invitation_id"))
    };
    let answer = |token: &str| Some(json!({ "token": token }));
    let gone = || (404, "invitation_not_found".to_owned());

    let (first, _) = invite("member").await;
    let (second, id) = invite("admin").await;
    assert_eq!(stage.tries(&bob, Method::POST, "/invitations/accept", answer(&first)).await, gone(), "it was replaced");
    assert_eq!(stage.tries(&eve, Method::POST, "/invitations/accept", answer(&second)).await, gone(), "not hers");
    let listed = stage.look(&ann, "/teams/platform/invitations").await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1, "{listed:?}");
    assert_eq!(text(&listed.body["items"][0], "email"), "bob@example.com");
    assert!(!listed.body.to_string().contains(&second));
    let joined = stage.as_who(&bob.token, Method::POST, "/invitations/accept", answer(&second)).await;
    assert_eq!((joined.status, &joined.body), (200, &json!({ "team_id": team, "role": "admin" })), "{joined:?}");
    assert_eq!(stage.tries(&bob, Method::POST, "/invitations/accept", answer(&second)).await, gone(), "once");
    let path = format!("/teams/platform/invitations/{id}");
    assert_eq!(stage.tries(&ann, Method::DELETE, &path, None).await, gone());
    assert_eq!(stage.look(&bob, "/teams/platform").await.body["role"], "admin");

    // Declined, taken back, and over: nothing comes of them.
    stage.as_who(&ann.token, Method::DELETE, &format!("/teams/platform/members/{}", bob.user_id), None).await;
    let (declined, _) = invite("member").await;
    assert_eq!(stage.tries(&bob, Method::POST, "/invitations/decline", answer(&declined)).await.0, 200);
    let (withdrawn, id) = invite("member").await;
    let path = format!("/teams/platform/invitations/{id}");
    assert_eq!(stage.tries(&ann, Method::DELETE, &path, None).await, done());
    let (expired, _) = invite("member").await;
    sqlx::query("UPDATE team_invitation SET expires_at = now()").execute(&stage.sql().await).await.unwrap();
    for token in [declined, withdrawn, expired] {
        assert_eq!(stage.tries(&bob, Method::POST, "/invitations/accept", answer(&token)).await, gone());
    }
    assert_eq!(stage.look(&bob, "/teams").await.body["items"], json!([]));
}
