//! A browser as far as these tests need one: it keeps cookies, and gives the second one back in a header.

use std::{collections::BTreeMap, net::SocketAddr};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::stage::{Answer, Stage, client};

/// Strong enough for zxcvbn, and found nowhere else: a log that holds it has it from us.
pub const PASSWORD: &str = "tomato-umbrella-Zürich-42";

pub struct Browser {
    client: Client,
    address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    pub fn new(stage: &Stage) -> Self {
        Self { client: client(), address: stage.address, cookies: BTreeMap::new() }
    }

    /// Somebody who has signed in.
    pub async fn signed_in(stage: &Stage, email: &str) -> Self {
        let mut browser = Self::new(stage);
        let answer = browser.sign_in(email, PASSWORD).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        browser
    }

    pub async fn sign_in(&mut self, email: &str, password: &str) -> Answer {
        self.send(Method::POST, "/sessions", Some(json!({ "email": email, "password": password }))).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// A request as a page of ours makes it.
    pub async fn send(&mut self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(csrf) = self.cookies.get("pinacle_csrf") {
            request = request.header("x-csrf-token", csrf);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.keep(request).await
    }

    /// A request with the cookies alone.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("http://{}/api/v1{path}", self.address));
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) }
    }

    async fn keep(&mut self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all("set-cookie") {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(attributes.contains("SameSite=Lax") && attributes.contains("Path=/"), "{attributes}");
            assert_eq!(name.ends_with("pinacle_session"), attributes.contains("HttpOnly"), "{name}: {attributes}");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        Answer { status, headers: BTreeMap::new(), body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }
}

/// The secret of a link.
pub fn secret(link: &str) -> &str {
    link.split_once("/set-password#").expect("a link that sets a password").1
}

/// The first admin, come in by the link.
pub async fn first_admin(stage: &Stage) -> Browser {
    let link = stage.post("/accounts/first").await;
    let link = link.body["link"]["url"].as_str().unwrap_or_else(|| panic!("{link:?}")).to_owned();
    let mut browser = Browser::new(stage);
    let body = json!({ "token": secret(&link), "password": PASSWORD });
    let set = browser.send(Method::POST, "/accounts/password", Some(body)).await;
    assert_eq!(set.status, 200, "{set:?}");
    Browser::signed_in(stage, "admin@localhost").await
}

/// Somebody who was invited, and came in.
pub async fn person(stage: &Stage, admin: &mut Browser, email: &str) -> Browser {
    let made = admin.send(Method::POST, "/users", Some(json!({ "email": email, "name": "Somebody" }))).await;
    assert_eq!(made.status, 201, "{made:?}");
    let link = made.body["link"].as_str().unwrap_or_else(|| panic!("{made:?}")).to_owned();
    let mut browser = Browser::new(stage);
    let body = json!({ "token": secret(&link), "password": PASSWORD });
    let set = browser.send(Method::POST, "/accounts/password", Some(body)).await;
    assert_eq!(set.status, 200, "{set:?}");
    Browser::signed_in(stage, email).await
}
