//! People, teams and tokens for a stage: what registration leaves in the database, without its ways.

use chrono::Utc;
use pinacle_bus::contract::{TeamId, UserId};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::stage::{Answer, Stage, TOKEN, answer};

/// Somebody, by a token of theirs.
#[derive(Debug, Clone)]
pub struct Somebody {
    pub user_id: String,
    pub email: String,
    pub token: String,
}

impl Stage {
    /// For looking past the gateway.
    pub async fn sql(&self) -> PgPool {
        PgPool::connect(&self.database).await.unwrap()
    }

    /// An account, and a token that may do all that its person may.
    pub async fn person(&self, name: &str, is_admin: bool) -> Somebody {
        let (user_id, email) = (UserId::new().to_string(), format!("{name}@example.com"));
        let insert = "INSERT INTO account (user_id, email, name, is_admin, created_at) VALUES ($1, $2, $3, $4, $5)";
        let query = sqlx::query(insert).bind(&user_id).bind(&email).bind(name).bind(is_admin).bind(Utc::now());
        query.execute(&self.sql().await).await.unwrap();
        let body = json!({ "name": "all", "grants": ["read", "pods", "hosts", "admin"], "user": email });
        let made = self.as_who(TOKEN, Method::POST, "/tokens", Some(body)).await;
        assert_eq!(made.status, 201, "{made:?}");
        Somebody { user_id, email, token: text(&made.body, "token") }
    }

    /// A team of this owner's, by id.
    pub async fn team(&self, owner: &Somebody, name: &str) -> String {
        let made = self.ask(owner, Method::POST, "/teams", json!({ "name": name })).await;
        assert_eq!(made.status, 201, "{made:?}");
        text(&made.body, "team_id")
    }

    /// Somebody is in a team.
    pub async fn joins(&self, team: &str, who: &Somebody, role: &str) {
        assert!(team.parse::<TeamId>().is_ok());
        let insert = "INSERT INTO team_member (team_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4)";
        let query = sqlx::query(insert).bind(team).bind(&who.user_id).bind(role).bind(Utc::now());
        query.execute(&self.sql().await).await.unwrap();
    }

    /// A request with anybody's token.
    pub async fn as_who(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request(method, &format!("/api/v1{path}")).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// A request of somebody's with a body.
    pub async fn ask(&self, who: &Somebody, method: Method, path: &str, body: Value) -> Answer {
        self.as_who(&who.token, method, path, Some(body)).await
    }

    /// A request of somebody's without one.
    pub async fn look(&self, who: &Somebody, path: &str) -> Answer {
        self.as_who(&who.token, Method::GET, path, None).await
    }
}

/// A field that is a text.
pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}
