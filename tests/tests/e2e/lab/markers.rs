//! Every flow with marker secrets on a real host; then all that is kept or shown anywhere is searched for them. Beside each
//! marker goes a control that is no secret: a search that does not find that one finds nothing at all.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use futures_util::TryStreamExt;
use parking_lot::Mutex;
use pinacle_bus::contract::{PodId, pod::PodPhase};
use pinacle_tests::{eventually, lab::Lab};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{PgPool, Row};

use super::stage::{LONG, Stage, container};
use crate::gateway::stage::client;

/// What must be nowhere, in the forms that it could have, and what must be found.
struct Marks {
    secrets: Vec<Vec<u8>>,
    control: Vec<u8>,
}

impl Marks {
    fn new(values: &[&str], control: &str) -> Self {
        let mut secrets = Vec::new();
        for value in values {
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            secrets.extend([value.as_bytes().to_vec(), hex.into_bytes()]);
            // At whichever place of another text it is: the part that is the same wherever it begins.
            for skipped in 0..3 {
                let rest = value.as_bytes().get(skipped..).unwrap();
                let whole = rest.len() / 3 * 3;
                secrets.push(STANDARD_NO_PAD.encode(&rest[..whole]).into_bytes());
            }
        }
        Self { secrets, control: control.as_bytes().to_vec() }
    }

    fn has_secret(&self, text: &[u8]) -> bool {
        self.secrets.iter().any(|secret| contains(text, secret))
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    let mut rest = text;
    while let Some(place) = rest.iter().position(|byte| *byte == part[0]) {
        rest = &rest[place..];
        if rest.starts_with(part) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Where a search found what.
#[derive(Default, Debug)]
struct Found {
    secrets: BTreeSet<String>,
    control: bool,
}

impl Found {
    fn look(&mut self, marks: &Marks, text: &[u8], place: impl FnOnce() -> String) {
        self.control |= contains(text, &marks.control);
        if marks.has_secret(text) {
            self.secrets.insert(place());
        }
    }

    fn check(&self, what: &str) {
        assert!(self.control, "the search of {what} finds nothing at all");
        assert!(self.secrets.is_empty(), "secrets are in {what}: {:?}", self.secrets);
    }
}

/// Looks at the arguments and environments of all processes of the machine until it is stopped.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Found>,
}

impl Sampler {
    fn start(marks: Marks) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut found = Found::default();
            while !stopped.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").unwrap().flatten() {
                    for file in ["cmdline", "environ"] {
                        // It may have ended.
                        let Ok(text) = fs::read(process.path().join(file)) else { continue };
                        found.look(&marks, &text, || String::from_utf8_lossy(&text).into_owned());
                    }
                }
                thread::sleep(Duration::from_millis(5));
            }
            found
        });
        Self { stop, thread }
    }

    fn stop(self) -> Found {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn streams(lab: &mut Lab, marks: &Marks) -> Found {
    let mut found = Found::default();
    let jetstream = lab.nats().jetstream().await;
    let names: Vec<String> = jetstream.stream_names().try_collect().await.unwrap();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let mut stream = jetstream.get_stream(&name).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        for sequence in state.first_sequence..=state.last_sequence {
            // It may have been replaced by a newer one.
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            let headers = format!("{:?} {}", message.headers, message.subject);
            for part in [&message.payload[..], headers.as_bytes()] {
                found.look(marks, part, || format!("{name} {} {}", message.subject, String::from_utf8_lossy(part)));
            }
        }
    }
    found
}

async fn tables(database: &str, marks: &Marks) -> Found {
    let mut found = Found::default();
    let pool = PgPool::connect(database).await.unwrap();
    let tables = "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public'";
    for table in sqlx::query(tables).fetch_all(&pool).await.unwrap() {
        let table: String = table.get(0);
        // Bytes are written in hexadecimal digits, which is one of the forms.
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"))).fetch_all(&pool).await.unwrap();
        for row in rows {
            let text: String = row.get(0);
            found.look(marks, text.as_bytes(), || format!("{table}: {text}"));
        }
    }
    found
}

/// Every file below a folder, those of the bus, the database and Docker among them.
fn files(folder: &Path, marks: &Marks, found: &mut Found) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if kind.is_dir() {
            files(&path, marks, found);
        } else if kind.is_file()
            && let Ok(text) = fs::read(&path)
        {
            found.look(marks, &text, || path.display().to_string());
        }
    }
}

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
    let answers = Mutex::new(Vec::new());

    for (name, value, project) in [
        ("ONE", &three, Value::Null),
        ("ONE", &one, Value::Null),
        ("LINES", &lines, json!("shop")),
        ("LINES", &three, Value::Null),
    ] {
        let body = json!({ "value": value, "project": project });
        answers.lock().push(api.done(Method::PUT, &format!("/secrets/{name}"), body).await);
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
    api.done(Method::POST, "/secrets/rotate", Value::Null).await;
    stage.done(pod, "stop").await;
    stage.lab.orchestrators()[0].restart().await;
    stage.done(pod, "start").await;
    has_them(&stage, pod, &values).await;
    stage.host_of(pod).await.docker(&["rm", "--force", &container(pod)]);
    let operation = stage.ask(pod, "start", json!({})).await;
    stage.succeeds(operation).await;
    has_them(&stage, pod, &values).await;

    // What fails.
    let mut broken = body.clone();
    (broken["name"], broken["image"]) = (json!("broken"), json!("pinacle-lab/none:1"));
    let failed = api.done(Method::POST, "/pods", broken).await;
    stage.ends(failed["operation_id"].as_str().unwrap().parse().unwrap()).await;
    let mut refused = body.clone();
    (refused["name"], refused["secrets"]) = (json!("refused"), json!(["ONE", "NONE"]));
    let (status, answer) = api.ask(Method::POST, "/pods", refused).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    answers.lock().push(answer);
    for path in ["/pods", "/secrets", "/operations", "/events", "/secrets/ONE/versions", &format!("/pods/{pod}/exec")] {
        answers.lock().push(api.done(Method::GET, path, Value::Null).await);
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
    let answered = format!("{:?}", answers.lock());
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
