//! Every flow with marker secrets on a real host; then all that is kept or shown anywhere is searched for them. Beside each
//! marker goes a control that is no secret: a search that does not find that one finds nothing at all.

use pinacle_bus::contract::{PodId, pod::PodPhase};
use pinacle_tests::{eventually, lab::Lab};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    stage::{LONG, Stage, container},
    traces::{Found, Marks, Sampler, files, streams, tables},
};
use crate::gateway::stage::client;

/// Somebody with the installation's token.
pub struct Api {
    base: String,
    token: &'static str,
    client: reqwest::Client,
}

impl Api {
    pub fn of(lab: &Lab) -> Self {
        let (address, token) = lab.gateway();
        Self { base: format!("http://{address}/api/v1"), token, client: client() }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(self.token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.send().await.unwrap();
        (response.status(), serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    pub async fn done(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }
}

/// The first person comes in by the link, signs in, mistypes, and changes the password. Returns what must be nowhere, but
/// for the passwords themselves: the link's secret, and those of the sessions.
async fn signs_in(api: &Api, passwords: [&str; 3]) -> Vec<String> {
    let [first, wrong, second] = passwords;
    let link = api.done(Method::POST, "/accounts/first", Value::Null).await["link"].clone();
    let secret = link["url"].as_str().unwrap().split_once('#').unwrap().1.to_owned();
    let email = &link["email"];
    api.done(Method::POST, "/accounts/password", json!({ "token": secret, "password": first })).await;
    let (status, refused) = api.ask(Method::POST, "/sessions", json!({ "email": email, "password": wrong })).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{refused}");
    let body = json!({ "email": email, "password": first });
    let response = api.client.post(format!("{}/sessions", api.base)).json(&body).send().await.unwrap();
    let cookies: Vec<String> = response
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    let signed_in: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let csrf = signed_in["csrf_token"].as_str().unwrap().to_owned();
    let changed = api
        .client
        .put(format!("{}/account/password", api.base))
        .header("cookie", cookies.join("; "))
        .header("x-csrf-token", &csrf)
        .json(&json!({ "current_password": first, "password": second }))
        .send()
        .await
        .unwrap();
    assert_eq!(changed.status(), StatusCode::NO_CONTENT, "{}", changed.text().await.unwrap());
    let values = cookies.iter().map(|cookie| cookie.split_once('=').unwrap().1.to_owned());
    values.chain([secret, csrf]).collect()
}

/// A creation that fails, and one that is refused. Returns the refusal.
async fn fails(stage: &Stage, api: &Api, body: &Value) -> Value {
    let mut broken = body.clone();
    (broken["name"], broken["image"]) = (json!("broken"), json!("pinacle-lab/none:1"));
    let failed = api.done(Method::POST, "/pods", broken).await;
    stage.ends(failed["operation_id"].as_str().unwrap().parse().unwrap()).await;
    let mut refused = body.clone();
    (refused["name"], refused["secrets"]) = (json!("refused"), json!(["ONE", "NONE"]));
    let (status, answer) = api.ask(Method::POST, "/pods", refused).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    answer
}

async fn has_them(stage: &Stage, pod: PodId, values: &[(&str, &str)]) {
    let host = stage.host_of(pod).await;
    for (name, value) in values {
        let look = format!("cat /run/secrets/{name}; echo; stat -c %a /run/secrets/{name}; mount | grep /run/secrets");
        let told = host.docker(&["exec", &container(pod), "sh", "-c", &look]);
        assert!(told.starts_with(&format!("{value}\n400\n")), "{name}: {told}");
        assert!(told.contains("tmpfs"), "{told}");
    }
    let names = host.docker(&["exec", &container(pod), "ls", "-A", "/run/secrets"]);
    assert_eq!(names.split_whitespace().count(), values.len(), "{names}");
}

#[tokio::test]
async fn marker_secrets_of_every_flow_are_in_their_pods_files_and_nowhere_else() {
    let mut stage = Stage::on(Lab::builder().hosts(1).gateway().start().await).await;
    let api = Api::of(&stage.lab);
    let tag = format!("{:016x}", rand::random::<u64>());
    let (one, two, three) = (format!("marker-one-{tag}"), format!("marker-two-{tag}"), format!("marker-three-{tag}"));
    let control = format!("control-{tag}");
    let lines = format!("first line\n{two}\n\tand 'quotes\" $HOME `id`");
    let password = format!("marker-password-{tag}");
    let secrets = [&one[..], &two, &three, &password];
    let sampler = Sampler::start(Marks::new(&secrets, &control));
    let shown = tokio::process::Command::new("sleep").arg("600").env("CONTROL", &control).kill_on_drop(true).spawn();
    let mut answers = Vec::new();

    for (name, value, project) in [
        ("ONE", &three, Value::Null),
        ("ONE", &one, Value::Null),
        ("LINES", &lines, json!("shop")),
        ("LINES", &three, Value::Null),
    ] {
        let body = json!({ "value": value, "project": project });
        answers.push(api.done(Method::PUT, &format!("/secrets/{name}"), body).await);
    }
    let body = json!({ "name": "marked", "secrets": ["ONE", "LINES"], "project": "shop", "environment": { "CONTROL": control } });
    let made = api.done(Method::POST, "/pods", body.clone()).await;
    let operation = made["operation_id"].as_str().unwrap().parse().unwrap();
    let operation = stage.succeeds(operation).await;
    let pod: PodId = operation.target_id.parse().unwrap();
    let values = [("ONE", one.as_str()), ("LINES", lines.as_str())];
    has_them(&stage, pod, &values).await;

    // After each start, also of another copy of the orchestrator.
    stage.done(pod, "restart").await;
    has_them(&stage, pod, &values).await;
    // A start that somebody asks for brings the newest values along; what runs keeps those that it has.
    answers.push(api.done(Method::PUT, "/secrets/ONE", json!({ "value": three })).await);
    has_them(&stage, pod, &values).await;
    let restarted = api.done(Method::POST, &format!("/pods/{pod}/restart"), Value::Null).await;
    stage.succeeds(restarted["operation_id"].as_str().unwrap().parse().unwrap()).await;
    let values = [("ONE", three.as_str()), ("LINES", lines.as_str())];
    has_them(&stage, pod, &values).await;
    api.done(Method::POST, "/secrets/rotate", Value::Null).await;
    stage.done(pod, "stop").await;
    stage.lab.orchestrators()[0].restart().await;
    stage.done(pod, "start").await;
    has_them(&stage, pod, &values).await;
    stage.host_of(pod).await.docker(&["rm", "--force", &container(pod)]);
    let operation = stage.ask(pod, "start", json!({})).await;
    stage.succeeds(operation).await;
    has_them(&stage, pod, &values).await;

    answers.push(fails(&stage, &api, &body).await);
    for path in ["/pods", "/secrets", "/operations", "/events", "/secrets/ONE/versions", &format!("/pods/{pod}/exec")] {
        answers.push(api.done(Method::GET, path, Value::Null).await);
    }

    // Passwords, links and sessions are secrets, too. What the gateway makes itself is known only now.
    let passwords = [&password[..], &format!("{password}-mistyped"), &format!("{password}-changed")];
    let made = signs_in(&api, passwords).await;
    let known: Vec<&str> = secrets.into_iter().chain(made.iter().map(String::as_str)).collect();
    let marks = Marks::new(&known, &control);

    // All is searched while the pod has them.
    let database = eventually(LONG, "the commands in the history", async || {
        let commands = api.done(Method::GET, &format!("/pods/{pod}/exec?limit=1000"), Value::Null).await;
        if commands.to_string().contains("Put secrets in") {
            Ok(stage.lab.database().to_owned())
        } else {
            Err(commands)
        }
    })
    .await;
    streams(&mut stage.lab, &marks).await.check("the streams");
    tables(&database, &marks).await.check("the tables");
    let inspected = stage.host_of(pod).await.docker(&["inspect", &container(pod)]);
    let mut found = Found::default();
    found.look(&marks, inspected.as_bytes(), || inspected.clone());
    found.check("docker inspect");
    let mut found = Found::default();
    files(&stage.lab.folder(), &marks, &mut found);
    found.check("the files of the host and of the services");
    let answered = format!("{answers:?}");
    assert!(!marks.has_secret(answered.as_bytes()), "{answered}");

    let removed = api.done(Method::DELETE, &format!("/pods/{pod}"), Value::Null).await;
    stage.succeeds(removed["operation_id"].as_str().unwrap().parse().unwrap()).await;
    let record = stage.settles(pod, PodPhase::Deleted).await;
    assert_eq!(record.secrets, None, "a deleted pod's record keeps them");
    api.done(Method::DELETE, "/secrets/ONE", Value::Null).await;
    drop(shown);
    sampler.stop().check("the processes");
    streams(&mut stage.lab, &marks).await.check("the streams");
}
