//! Signing in elsewhere: with the real oidc-provider, and with a fake of GitHub that has its real paths.

#![expect(clippy::disallowed_types, reason = "the time of another process is real time")]

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pinacle_tests::{Process, machine, peers};
use reqwest::{Client, Method, redirect};
use serde_json::json;

use super::{
    browser::{Browser, first_admin, person},
    factor,
    stage::{Stage, answer, client},
};

/// Where a browser ends up: the path and query at the gateway.
type Place = String;

/// A browser that is sent around: to the gateway with its cookies, elsewhere with those of there.
struct Traveller {
    browser: Browser,
    client: Client,
    gateway: String,
    elsewhere: Vec<String>,
}

impl Traveller {
    fn new(stage: &Stage) -> Self {
        client();
        let client = Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        let gateway = format!("http://{}", stage.address);
        Self { browser: Browser::new(stage), client, gateway, elsewhere: Vec::new() }
    }

    /// One request; where it leads, and what its page says.
    async fn step(&mut self, url: &str, form: Option<&[(&str, &str)]>) -> (Option<String>, String) {
        let is_ours = url.starts_with(&self.gateway);
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let mut request = self.client.request(method, url);
        let cookies: Vec<String> = if is_ours {
            self.browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect()
        } else {
            self.elsewhere.clone()
        };
        request = request.header("cookie", cookies.join("; "));
        if let Some(form) = form {
            let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"));
        }
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if is_ours && value.is_empty() {
                self.browser.cookies.remove(name);
            } else if is_ours {
                self.browser.cookies.insert(name.to_owned(), value.to_owned());
            } else {
                self.elsewhere.retain(|cookie| !cookie.starts_with(&format!("{name}=")));
                self.elsewhere.push(pair.to_owned());
            }
        }
        let location = response.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        let base = response.url().clone();
        let location = location.map(|location| base.join(&location).unwrap().to_string());
        (location, response.text().await.unwrap())
    }

    /// From the gateway to the provider's door.
    async fn leave(&mut self, provider: &str, next: &str) -> String {
        let (location, _) = self.step(&format!("{}/auth/{provider}/start?next={next}", self.gateway), None).await;
        location.unwrap()
    }

    /// Through oidc-provider's own pages as this person, up to the address that leads back; not followed.
    async fn through_oidc(&mut self, door: &str, name: &str) -> String {
        let mut url = door.to_owned();
        for _ in 0..12 {
            if url.starts_with(&self.gateway) {
                return url;
            }
            let (location, page) = self.step(&url, None).await;
            url = match location {
                Some(location) => location,
                None => {
                    let action = page.split("action=\"").nth(1).unwrap_or_else(|| panic!("{url}: {page}"));
                    let action = action.split('"').next().unwrap().to_owned();
                    let login = [("prompt", "login"), ("login", name), ("password", "any")];
                    let consent = [("prompt", "consent")];
                    let form = if page.contains("value=\"login\"") { login.as_slice() } else { consent.as_slice() };
                    self.step(&action, Some(form)).await.0.unwrap()
                }
            };
        }
        panic!("the provider does not lead back");
    }

    /// Follows an address of the gateway once.
    async fn arrive(&mut self, url: &str) -> Place {
        let (location, page) = self.step(url, None).await;
        let location = location.unwrap_or_else(|| panic!("{url}: {page}"));
        location.strip_prefix(&self.gateway).unwrap_or(&location).to_owned()
    }

    async fn by_oidc(&mut self, name: &str, next: &str) -> Place {
        let door = self.leave("oidc", next).await;
        let back = self.through_oidc(&door, name).await;
        self.arrive(&back).await
    }

    async fn by_github(&mut self, name: &str, next: &str) -> Place {
        let door = self.leave("github", next).await;
        let (back, _) = self.step(&format!("{door}&as={name}"), None).await;
        self.arrive(&back.unwrap()).await
    }
}

async fn with_oidc(more: &[(&str, &str)]) -> (Stage, Process) {
    let (provider, gateway) = (machine::free_address(), machine::free_address());
    let redirect = format!("http://{gateway}/auth/oidc/callback");
    let issuer = format!("http://{provider}");
    let own = [
        ("PINACLE__GATEWAY__OIDC_ISSUER", issuer.as_str()),
        ("PINACLE__GATEWAY__OIDC_CLIENT_ID", "pinacle"),
        ("PINACLE__GATEWAY__OIDC_CLIENT_SECRET", "oidc-client-secret-for-tests"),
    ];
    let process = peers::oidc_provider(provider, &redirect).await;
    (Stage::start_at(gateway, &[own.as_slice(), more].concat()).await, process)
}

async fn with_github(gateway: SocketAddr, more: &[(&str, &str)]) -> (Stage, Process) {
    let fake = machine::free_address();
    let url = format!("http://{fake}");
    let own = [
        ("PINACLE__GATEWAY__GITHUB_CLIENT_ID", "github-client"),
        ("PINACLE__GATEWAY__GITHUB_CLIENT_SECRET", "github-client-secret-for-tests"),
        ("PINACLE__GATEWAY__GITHUB_URL", &url),
        ("PINACLE__GATEWAY__GITHUB_API_URL", &url),
    ];
    let process = peers::github_fake(fake, &format!("http://{gateway}/auth/github/callback")).await;
    (Stage::start_at(gateway, &[own.as_slice(), more].concat()).await, process)
}

#[tokio::test]
async fn an_openid_provider_lets_people_into_the_account_of_their_proven_address() {
    let (stage, mut provider) = with_oidc(&[]).await;
    let mut admin = first_admin(&stage).await;
    let ann = person(&stage, &mut admin, "ann@example.org").await.get("/account").await.body["user_id"].clone();
    let ways = answer(stage.request(Method::GET, "/api/v1/accounts/ways")).await;
    assert_eq!(ways.body["providers"][0]["path"], "/auth/oidc/start", "{ways:?}");

    // The address is not proven there, or has no account here: nobody comes in.
    assert_eq!(Traveller::new(&stage).by_oidc("unproven-ann", "/").await, "/sign-in?why=unlinked");
    assert_eq!(Traveller::new(&stage).by_oidc("stranger", "/").await, "/sign-in?why=unlinked");

    let mut traveller = Traveller::new(&stage);
    assert_eq!(traveller.by_oidc("ann", "/pods%3Fphase=running").await, "/pods?phase=running");
    assert_eq!(traveller.browser.get("/account").await.body["user_id"], ann);
    let out = traveller.browser.send(Method::DELETE, "/sessions/current", None).await;
    assert_eq!(out.status, 204, "{out:?}");
    // From then on by who they are there, and to no other site.
    for elsewhere in ["//evil.example", "https://evil.example", "/%5Cevil.example", "/%0d%0aset-cookie:x"] {
        assert_eq!(Traveller::new(&stage).by_oidc("ann", elsewhere).await, "/", "{elsewhere}");
    }

    // An answer counts in the browser that asked, once, with its own state.
    let mut asked = Traveller::new(&stage);
    let door = asked.leave("oidc", "/").await;
    let back = asked.through_oidc(&door, "ann").await;
    assert_eq!(Traveller::new(&stage).arrive(&back).await, "/sign-in?why=refused", "another browser's");
    let mut other = Traveller::new(&stage);
    other.leave("oidc", "/").await;
    assert_eq!(other.arrive(&back).await, "/sign-in?why=refused", "another state");
    let flow = asked.browser.cookies.clone();
    let without = back.replace("state=", "stat=");
    assert_eq!(asked.arrive(&without).await, "/sign-in?why=refused");
    asked.browser.cookies = flow.clone();
    assert_eq!(asked.arrive(&back).await, "/");
    assert!(!asked.browser.cookies.contains_key("pinacle_flow"));
    asked.browser.cookies = flow;
    assert_eq!(asked.arrive(&back).await, "/sign-in?why=refused", "the code is used");

    provider.kill9().await;
    assert_eq!(
        asked.arrive(&format!("http://{}/auth/oidc/callback?code=x&state=y", stage.address)).await,
        "/sign-in?why=refused"
    );
    let log = stage.gateway.log_text();
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
    assert!(!log.contains(code) && !log.contains("oidc-client-secret-for-tests"));
}

#[tokio::test]
async fn who_comes_from_a_provider_is_asked_for_their_second_factor() {
    let (stage, _provider) = with_oidc(&[("PINACLE__GATEWAY__SIGN_UP", "open")]).await;
    let mut admin = first_admin(&stage).await;
    let mut ann = person(&stage, &mut admin, "ann@example.org").await;
    let (secret, ..) = factor::switch_on(&mut ann).await;
    let mut traveller = Traveller::new(&stage);
    let place = traveller.by_oidc("ann", "/pods").await;
    let (page, pending) = place.split_once("#pending=").unwrap_or_else(|| panic!("{place}"));
    assert_eq!(page, "/sign-in?next=%2Fpods");
    assert!(!traveller.browser.cookies.contains_key("pinacle_session"));
    let go_on = |token: &str, code: &str| Some(json!({ "token": token, "code": code }));
    let wrong = traveller.browser.send(Method::POST, "/sessions/second-factor", go_on(pending, "000000x")).await;
    assert_eq!((wrong.status, &wrong.body["code"]), (422, &json!("wrong_code")));
    let code = factor::code(&secret, 1);
    let forged = traveller.browser.send(Method::POST, "/sessions/second-factor", go_on("forged", &code)).await;
    assert_eq!(forged.status, 410);
    let done = traveller.browser.send(Method::POST, "/sessions/second-factor", go_on(pending, &code)).await;
    assert_eq!(done.status, 201, "{done:?}");
    assert_eq!(traveller.browser.get("/account").await.body["email"], "ann@example.org");
    let again = traveller.browser.send(Method::POST, "/sessions/second-factor", go_on(pending, &code)).await;
    assert_eq!(again.status, 410);
    // It sets no password.
    let body = json!({ "token": pending, "password": "paper-Lantern-orbit-9" });
    assert_eq!(traveller.browser.send(Method::POST, "/accounts/password", Some(body)).await.status, 410);

    // Where sign-up is open, a proven address is enough for an account.
    let mut new = Traveller::new(&stage);
    assert_eq!(new.by_oidc("carl", "/").await, "/");
    let carl = new.browser.get("/account").await;
    assert_eq!((&carl.body["email"], &carl.body["is_admin"]), (&json!("carl@example.org"), &json!(false)));
}

#[tokio::test]
async fn github_lets_people_in_by_their_primary_proven_address() {
    let (stage, _fake) =
        with_github(machine::free_address(), &[("PINACLE__GATEWAY__ADMIN_EMAILS", "boss@example.org")]).await;
    let mut admin = first_admin_of(&stage).await;
    person(&stage, &mut admin, "bob@example.org").await;
    person(&stage, &mut admin, "other@example.org").await;
    assert_eq!(Traveller::new(&stage).by_github("unproven-bob", "/").await, "/sign-in?why=unlinked");
    assert_eq!(Traveller::new(&stage).by_github("stranger", "/").await, "/sign-in?why=unlinked");
    let mut bob = Traveller::new(&stage);
    assert_eq!(bob.by_github("bob", "/pods").await, "/pods");
    assert_eq!(bob.browser.get("/account").await.body["email"], "bob@example.org");
    assert_eq!(Traveller::new(&stage).by_github("bob", "//evil.example").await, "/");
    let none = answer(stage.request(Method::GET, "/auth/oidc/start")).await;
    assert_eq!(none.status, 404, "{none:?}");
    assert!(!stage.gateway.log_text().contains("gho_"));
}

#[tokio::test]
async fn a_provider_that_is_away_is_said_to_be_and_holds_nothing_up() {
    // One takes connections and never says a word, the other is not there at all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}", silent.local_addr().unwrap());
    let nobody = format!("http://{}", machine::free_address());
    let stage = Stage::start_with(&[
        ("PINACLE__GATEWAY__OIDC_ISSUER", &issuer),
        ("PINACLE__GATEWAY__OIDC_CLIENT_ID", "pinacle"),
        ("PINACLE__GATEWAY__OIDC_CLIENT_SECRET", "oidc-client-secret-for-tests"),
        ("PINACLE__GATEWAY__GITHUB_CLIENT_ID", "github-client"),
        ("PINACLE__GATEWAY__GITHUB_CLIENT_SECRET", "github-client-secret-for-tests"),
        ("PINACLE__GATEWAY__GITHUB_URL", &nobody),
        ("PINACLE__GATEWAY__GITHUB_API_URL", &nobody),
    ])
    .await;
    let away = |place: &str| assert!(place.ends_with("/sign-in?why=unavailable"), "{place}");
    let mut bob = Traveller::new(&stage);
    let door = bob.leave("github", "/").await;
    let state = door.split("state=").nth(1).unwrap().split('&').next().unwrap();
    away(&bob.arrive(&format!("http://{}/auth/github/callback?code=x&state={state}", stage.address)).await);

    let began = Instant::now();
    let mut travellers: Vec<Traveller> = (0..8).map(|_| Traveller::new(&stage)).collect();
    let all = join_all(travellers.iter_mut().map(|traveller| traveller.leave("oidc", "/")));
    let first_admin = async {
        // While they wait, others come in by their password.
        first_admin(&stage).await;
        began.elapsed()
    };
    let (places, came_in) = tokio::join!(all, first_admin);
    places.iter().for_each(|place| away(place));
    let waited = began.elapsed();
    assert!(came_in < waited, "{came_in:?} {waited:?}");
    assert!((Duration::from_secs(5)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
    assert!(!stage.gateway.log_text().contains("client-secret-for-tests"));
}

/// The first admin where `admin_emails` names them.
async fn first_admin_of(stage: &Stage) -> Browser {
    let link = stage.post("/accounts/first").await;
    let body = json!({
        "token": super::browser::secret(link.body["link"]["url"].as_str().unwrap()),
        "password": super::browser::PASSWORD,
    });
    let mut browser = Browser::new(stage);
    assert_eq!(browser.send(Method::POST, "/accounts/password", Some(body)).await.status, 200);
    Browser::signed_in(stage, "boss@example.org").await
}
