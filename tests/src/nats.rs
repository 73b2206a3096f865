//! A NATS server of a test's own: the pinned program with the repository's `nats/single.conf`.

use std::{net::SocketAddr, time::Duration};

use nix::sys::signal::Signal;
use pinacle_bus::{
    client::Bus,
    settings::{BusSettings, Secret},
};

use crate::{
    eventually, machine,
    process::{Launch, Process, http_get},
    sandbox::Sandbox,
};

const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// A service: may do everything.
    Service,
    /// An agent: see `nats/README.md`.
    Agent,
}

impl User {
    /// The name that the server knows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Agent => "agent",
        }
    }

    /// The password in tests.
    pub fn password(self) -> &'static str {
        match self {
            Self::Service => "service-password-of-a-test",
            Self::Agent => "agent-password-of-a-test",
        }
    }
}

/// A NATS server. It keeps its ports and its data over `kill9`, `stop` and `restart`.
pub struct Nats {
    process: Process,
    port: u16,
    monitor: SocketAddr,
    sandbox: Sandbox,
}

impl Nats {
    /// Starts one and waits until JetStream answers.
    pub async fn start() -> Self {
        Self::start_with("single.conf").await
    }

    /// Starts one with another file of the repository's `nats/`.
    pub async fn start_with(configuration: &str) -> Self {
        Self::start_at("127.0.0.1", configuration).await
    }

    /// Starts one that hosts in network namespaces of their own can reach as well.
    pub(crate) async fn start_for_lab() -> Self {
        Self::start_at("0.0.0.0", "single.conf").await
    }

    async fn start_at(address: &str, configuration: &str) -> Self {
        let repository = machine::repository();
        let sandbox = Sandbox::new();
        let port = machine::free_port();
        let monitor = machine::free_address();
        let launch = Launch::program(server())
            .named("nats-server")
            .in_sandbox(&sandbox)
            .arg("-c")
            .arg(repository.join("nats").join(configuration))
            .args(["-a", address, "-p", &port.to_string(), "-m", &monitor.port().to_string(), "-sd"])
            .arg(sandbox.folder("nats"))
            .env("PINACLE_NATS_SERVICE_PASSWORD", User::Service.password())
            .env("PINACLE_NATS_AGENT_PASSWORD", User::Agent.password());
        let mut nats = Self { process: launch.spawn(), port, monitor, sandbox };
        nats.await_ready().await;
        nats
    }

    async fn await_ready(&mut self) {
        let monitor = self.monitor;
        let ended = eventually(STARTS_WITHIN, "the NATS server to be ready", async || {
            if let Some(status) = self.process.poll() {
                return Ok(Some(status));
            }
            match http_get(monitor, "/healthz").await {
                Ok((200, _)) => Ok(None),
                other => Err(other),
            }
        })
        .await;
        if let Some(status) = ended {
            panic!("the NATS server ended: {status}\n{}", self.process.tail());
        }
    }

    /// `nats://127.0.0.1:port`, without a user.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address of its port for clients.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Address of its monitoring endpoint, for `/varz`, `/connz`, `/jsz`.
    pub fn monitor(&self) -> SocketAddr {
        self.monitor
    }

    /// The server's process: pid, log, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Settings for a client in the test.
    pub fn settings(&self) -> BusSettings {
        self.settings_for(User::Service)
    }

    /// The same for another user.
    pub fn settings_for(&self, user: User) -> BusSettings {
        BusSettings {
            url: self.url(),
            user: user.name().into(),
            password: Secret::new(user.password()),
            ca_file: String::new(),
            replicas: 1,
            storage_bytes: STORAGE_BYTES,
            publish_timeout_ms: 5000,
            reconnect_max_ms: 500,
        }
    }

    /// The same settings for a service's environment.
    pub fn env(&self, user: User) -> Vec<(String, String)> {
        self.env_at(user, &self.url())
    }

    /// The same at another address, such as that of a [`Proxy`](crate::Proxy).
    pub fn env_at(&self, user: User, url: &str) -> Vec<(String, String)> {
        let variable = |key: &str, value: &str| (format!("PINACLE__BUS__{key}"), value.to_owned());
        vec![
            variable("URL", url),
            variable("USER", user.name()),
            variable("PASSWORD", user.password()),
            variable("STORAGE_BYTES", &STORAGE_BYTES.to_string()),
            variable("RECONNECT_MAX_MS", "500"),
        ]
    }

    /// A connected client.
    pub async fn bus(&self, user: User, name: &str) -> Bus {
        let bus = Bus::connect(&self.settings_for(user), name).await.expect("connect to the test's NATS server");
        bus.connected(STARTS_WITHIN).await.expect("connect to the test's NATS server");
        bus
    }

    /// A connected client with every stream, consumer and bucket in place.
    pub async fn bus_with_topology(&self) -> Bus {
        let bus = self.bus(User::Service, "test").await;
        bus.apply_topology().await.expect("apply the topology");
        bus
    }

    /// A client without the contract around it, for what our own refuses to do.
    pub async fn client(&self) -> async_nats::Client {
        self.client_as(User::Service, "test").await
    }

    /// JetStream through such a client.
    pub async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.client().await)
    }

    /// The same as [`Self::client`] as another user. `name` is what the server's notices say.
    pub async fn client_as(&self, user: User, name: &str) -> async_nats::Client {
        async_nats::ConnectOptions::with_user_and_password(user.name().into(), user.password().into())
            .custom_inbox_prefix(format!("_INBOX.{}", user.name()))
            .name(name)
            .connect(self.url())
            .await
            .expect("connect to the test's NATS server")
    }

    /// Kills it with SIGKILL.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// Stops it in order.
    pub async fn stop(&mut self) {
        self.process.sigterm(STARTS_WITHIN).await;
    }

    /// Starts it again on the same port with the same data; kills it first if it runs.
    pub async fn restart(&mut self) {
        self.process.restart_unready();
        self.await_ready().await;
    }

    /// Stops it from running without ending it, as a machine that hangs; [`Self::thaw`] lets it go on.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// See [`Self::freeze`].
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// The folder of this test's server.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }
}

/// Small, so that many servers fit on one disk: the server refuses streams that could outgrow it.
const STORAGE_BYTES: u64 = 1024 * 1024 * 1024;

/// The pinned server's program, checked.
fn server() -> std::path::PathBuf {
    let repository = machine::repository();
    let folder = repository.join(".pinacle/bin");
    crate::process::run(std::process::Command::new(repository.join("nats/install")).arg("--check").arg(&folder));
    folder.join("nats-server")
}
