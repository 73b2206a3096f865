//! A gateway with TLS of its own, and machines that join there.

use std::{fs, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pinacle_bus::{
    contract::enrolment::renewal_text,
    trust::{CertificateAuthority, Credentials, nkeys::KeyPair},
};
use pinacle_tests::{Launch, Process, Sandbox, Stack, eventually, stack::ADMIN_TOKEN};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::gateway::stage::client;

pub const SOON: Duration = Duration::from_secs(40);

/// Everything but agents.
pub struct Field {
    pub stack: Stack,
    pub client: Client,
    pub ca_file: PathBuf,
    pub sandbox: Sandbox,
    pub url: String,
}

/// A machine that may join: its state directory and what tells it from others.
pub struct Machine {
    pub name: String,
    pub state: PathBuf,
    etc: PathBuf,
}

impl Field {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox::new();
        let folder = sandbox.folder("tls");
        let authority = CertificateAuthority::generate().unwrap();
        let server = authority.server(&["127.0.0.1".into()]).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let ca_file = file("ca.pem", &authority.own.certificate);
        let mut builder = Stack::builder().orchestrator(1).ingest(1).gateway(1);
        for (key, path) in [
            ("gateway.tls_certificate_file", file("server.pem", &server.certificate)),
            ("gateway.tls_key_file", file("server.key", &server.key)),
            ("gateway.tls_ca_file", ca_file.clone()),
        ] {
            builder = builder.set(key, path.to_str().unwrap());
        }
        for (key, value) in settings {
            builder = builder.set(key, value);
        }
        let stack = builder.start().await;
        // Installs the provider of TLS.
        drop(client());
        let certificate = Certificate::from_pem(authority.own.certificate.as_bytes()).unwrap();
        let client = Client::builder().timeout(SOON).tls_certs_only([certificate]).build().unwrap();
        let url = format!("https://{}", stack.gateway(1));
        let field = Self { stack, client, ca_file, sandbox, url };
        eventually(SOON, "the live state", async || match field.ask(Method::GET, "/hosts", None).await {
            (200, _) => Ok(()),
            other => Err(other),
        })
        .await;
        field
    }

    /// As the installation.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(ADMIN_TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// As nobody.
    pub async fn ask_openly(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.client.post(format!("{}/api/v1{path}", self.url)).json(body)).await
    }

    /// A new token.
    pub async fn token(&self, terms: Value) -> String {
        let (status, made) = self.ask(Method::POST, "/hosts/enrolment-tokens", Some(terms)).await;
        assert_eq!(status, 201, "{made}");
        made["token"].as_str().unwrap().to_owned()
    }

    /// A machine with an id of its own.
    pub fn machine(&self, name: &str, id: &str) -> Machine {
        let etc = self.sandbox.folder(&format!("{name}-etc"));
        fs::write(etc.join("machine-id"), format!("{id}\n")).unwrap();
        Machine { name: name.into(), state: self.sandbox.folder(&format!("{name}-state")), etc }
    }

    /// Its agent, as it was set up with this token.
    pub fn agent(&self, machine: &Machine, token: &str) -> Launch {
        let file = self.sandbox.path().join(format!("{}.token", machine.name));
        fs::write(&file, token).unwrap();
        Launch::service("pinacle-agent")
            .named(&machine.name)
            .in_sandbox(&self.sandbox)
            .env("PINACLE__AGENT__GATEWAY_URL", &self.url)
            .env("PINACLE__AGENT__GATEWAY_CA_FILE", &self.ca_file)
            .env("PINACLE__AGENT__ENROLMENT_TOKEN", format!("file:{}", file.display()))
            .env("PINACLE__AGENT__STATE_DIR", &machine.state)
            .env("PINACLE__AGENT__ETC_DIR", &machine.etc)
            .env("PINACLE__AGENT__HOSTNAME", &machine.name)
            .env("PINACLE__AGENT__DOCKER_SOCKET", "/nonexistent/docker.sock")
            .env("PINACLE__AGENT__INTERVAL_MS", "1000")
            .env("PINACLE__BUS__RECONNECT_MAX_MS", "500")
            .ready_on_admin_port()
    }

    /// A machine that has joined under this name, and is online.
    pub async fn joined(&self, name: &str, terms: Value) -> (Machine, Process, String) {
        let machine = self.machine(name, &format!("{name:0>32}"));
        let token = self.token(terms).await;
        let agent = self.agent(&machine, &token).start().await;
        self.online(name).await;
        (machine, agent, token)
    }

    pub async fn online(&self, name: &str) -> Value {
        self.is(name, |host| host["state"] == "online").await
    }

    /// Waits until a host is so.
    pub async fn is(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(SOON, &format!("{name} to be as it should"), async || {
            let (status, host) = self.ask(Method::GET, &format!("/hosts/{name}"), None).await;
            if status == 200 && wanted(&host) { Ok(host) } else { Err((status, host["state"].clone())) }
        })
        .await
    }

    /// Waits for the end of an operation that was accepted.
    pub async fn done(&self, answer: (u16, Value)) -> Value {
        let (status, accepted) = answer;
        assert_eq!(status, 202, "{accepted}");
        let id = accepted["operation_id"].as_str().unwrap().to_owned();
        eventually(SOON, "the operation's end", async || {
            let (_, operation) = self.ask(Method::GET, &format!("/operations/{id}"), None).await;
            if operation["ended_at"].is_string() { Ok(operation) } else { Err(operation) }
        })
        .await
    }

    pub async fn database(&self) -> PgConnection {
        PgConnection::connect(&self.stack.database).await.unwrap()
    }
}

impl Machine {
    /// What it keeps of its enrolment.
    pub fn stored(&self) -> Value {
        serde_json::from_slice(&fs::read(self.state.join("enrolment.json")).unwrap()).unwrap()
    }

    pub fn key(&self) -> KeyPair {
        KeyPair::from_seed(self.stored()["seed"].as_str().unwrap()).unwrap()
    }

    /// What it connects with now.
    pub fn credentials(&self) -> Credentials {
        Credentials::new(self.stored()["grant"]["jwt"].as_str().unwrap(), self.key()).unwrap()
    }
}

/// What a machine without an agent would send.
pub fn claim(token: &str, key: &KeyPair) -> Value {
    json!({ "token": token, "public_key": key.public_key(), "machine_id": "", "hostname": "by-hand", "ssh_host_keys": [] })
}

/// A renewal, signed by these keys.
pub fn renewal(challenge: &str, key: &KeyPair, signer: &KeyPair) -> Value {
    let signature = signer.sign(renewal_text(challenge, None).as_bytes()).unwrap();
    json!({
        "public_key": key.public_key(),
        "challenge": challenge,
        "signature": URL_SAFE_NO_PAD.encode(signature),
    })
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Whether a text is in none of these files.
pub fn is_nowhere(text: &str, folder: &std::path::Path) {
    for entry in fs::read_dir(folder.join("logs")).unwrap().flatten() {
        let log = fs::read_to_string(entry.path()).unwrap_or_default();
        assert!(!log.contains(text), "{} holds a secret", entry.path().display());
    }
}
