//! A NATS server of a test's own: the pinned program with the repository's `nats/single.conf` and keys of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use pinacle_bus::{
    client::Bus,
    contract::{
        HostId,
        grant::{self, Role},
    },
    settings::{BusSettings, Secret},
    trust::{CertificateAuthority, Credentials, Keys},
};

use crate::{
    eventually, machine,
    process::{Launch, Process, http_get},
    sandbox::Sandbox,
};

/// As `single.conf`, with all that clients say in the log.
const TRACED: &str = "traced.conf";
/// As `single.conf`, but takes clients without TLS as well: a test that looks for a message on its way has to read it.
const READABLE: &str = "readable.conf";
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The test itself: may do everything in the application's account.
    Tester,
    /// A service, or a person with a tool: see `nats/README.md`.
    Role(Role),
    /// The agent of a host.
    Host(HostId),
}

impl User {
    /// A service.
    pub const ORCHESTRATOR: Self = Self::Role(Role::Orchestrator);
    /// A service.
    pub const INGEST: Self = Self::Role(Role::Ingest);
    /// A service.
    pub const GATEWAY: Self = Self::Role(Role::Gateway);
    /// `pinacle replay`.
    pub const OPERATOR: Self = Self::Role(Role::Operator);
    /// `pinacle sim`.
    pub const SIMULATOR: Self = Self::Role(Role::Simulator);

    /// A host that was not there before.
    pub fn host() -> Self {
        Self::Host(HostId::new())
    }

    /// The name that the server knows.
    pub fn name(self) -> String {
        match self {
            Self::Tester => "tester".into(),
            Self::Role(role) => role.name().into(),
            Self::Host(host) => host.to_string(),
        }
    }
}

/// A NATS server. It keeps its ports, its keys and its data over `kill9`, `stop` and `restart`.
pub struct Nats {
    process: Process,
    port: u16,
    monitor: SocketAddr,
    sandbox: Sandbox,
    trust: Trust,
}

impl Nats {
    /// Starts one and waits until JetStream answers.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1", &[], "single.conf").await
    }

    /// Starts one that writes all that clients say into its log.
    pub async fn start_traced() -> Self {
        Self::start_at("127.0.0.1", &[], TRACED).await
    }

    /// Starts one that hosts in network namespaces of their own can reach as well, under this address.
    pub(crate) async fn start_for_lab(address: &str) -> Self {
        Self::start_at("0.0.0.0", &[address.to_owned()], READABLE).await
    }

    async fn start_at(address: &str, names: &[String], configuration: &str) -> Self {
        let sandbox = Sandbox::new();
        let trust = Trust::make(&sandbox, names);
        let port = machine::free_port();
        let monitor = machine::free_address();
        let launch = trust.server(&sandbox, "nats", configuration).args([
            "-a",
            address,
            "-p",
            &port.to_string(),
            "-m",
            &monitor.port().to_string(),
        ]);
        let mut nats = Self { process: launch.spawn(), port, monitor, sandbox, trust };
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

    /// The keys of the bus, its certificate's authority, and the files with them.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Settings for a client in the test.
    pub fn settings(&self) -> BusSettings {
        self.settings_for(User::Tester)
    }

    /// The same for another user.
    pub fn settings_for(&self, user: User) -> BusSettings {
        self.trust.settings(&self.url(), user)
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
            variable("CREDENTIALS", &format!("file:{}", self.trust.credentials_file(user).display())),
            variable("CA_FILE", &self.trust.ca_file().display().to_string()),
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
        let bus = self.bus(User::Tester, "test").await;
        bus.apply_topology().await.expect("apply the topology");
        bus
    }

    /// A client without the contract around it, for what our own refuses to do.
    pub async fn client(&self) -> async_nats::Client {
        self.client_as(User::Tester, "test").await
    }

    /// JetStream through such a client.
    pub async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.client().await)
    }

    /// The same as [`Self::client`] as another user. `name` is what the server's notices say.
    pub async fn client_as(&self, user: User, name: &str) -> async_nats::Client {
        self.connect(&self.trust.credentials(user), name).await.expect("connect to the test's NATS server")
    }

    /// Tries once to connect with any credentials.
    ///
    /// # Errors
    /// When the server refuses them.
    pub async fn connect(
        &self,
        credentials: &Credentials,
        name: &str,
    ) -> Result<async_nats::Client, async_nats::ConnectError> {
        async_nats::ConnectOptions::with_credentials(&credentials.to_text().unwrap())
            .unwrap()
            .add_root_certificates(self.trust.ca_file())
            .require_tls(true)
            .custom_inbox_prefix(grant::inbox(credentials.name()))
            .name(name)
            .connect(self.url())
            .await
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

/// Who is who on a test's bus.
pub struct Trust {
    folder: PathBuf,
    keys: Keys,
    /// Each user has one key as long as the bus stands.
    users: Mutex<Vec<(User, Credentials)>>,
}

impl Trust {
    /// Makes keys and certificates in the sandbox. `names` are those of the server besides this machine's own.
    pub fn make(sandbox: &Sandbox, names: &[String]) -> Self {
        let folder = sandbox.folder("trust");
        let keys = Keys::generate();
        let authority = CertificateAuthority::generate().unwrap();
        let server = authority.server(&[&["127.0.0.1".to_owned()], names].concat()).unwrap();
        for (name, text) in [
            ("trust.conf", keys.server_configuration().unwrap()),
            ("ca.pem", authority.own.certificate),
            ("server.pem", server.certificate),
            ("server.key", server.key),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let traced = "include \"single.conf\"\ntrace: true\nmax_traced_msg_len: 16\n";
        fs::write(folder.join(TRACED), traced).unwrap();
        fs::write(folder.join(READABLE), "include \"single.conf\"\nallow_non_tls: true\n").unwrap();
        for name in ["single.conf", "cluster.conf"] {
            fs::copy(machine::repository().join("nats").join(name), folder.join(name)).unwrap();
        }
        Self { folder, keys, users: Mutex::default() }
    }

    /// The pinned server with its data in a folder of this name. `configuration` lies in [`Trust::folder`].
    pub fn server(&self, sandbox: &Sandbox, name: &str, configuration: &str) -> Launch {
        let quoted = |path: &Path| format!("\"{}\"", path.display());
        let data = sandbox.folder(name);
        Launch::program(server())
            .named(name)
            .in_sandbox(sandbox)
            .arg("-c")
            .arg(self.folder.join(configuration))
            .arg("-sd")
            .arg(&data)
            .env("PINACLE_NATS_CERT", quoted(&self.folder.join("server.pem")))
            .env("PINACLE_NATS_KEY", quoted(&self.folder.join("server.key")))
            .env("PINACLE_NATS_CA", quoted(&self.ca_file()))
            .env("PINACLE_NATS_ACCOUNTS", quoted(&data.join("accounts")))
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The certificate of the authority.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A user's credentials.
    pub fn credentials(&self, user: User) -> Credentials {
        let mut users = self.users.lock();
        if let Some((_, credentials)) = users.iter().find(|(known, _)| *known == user) {
            return credentials.clone();
        }
        let credentials = match user {
            User::Tester => self.keys.user(&user.name(), &grant::everything()),
            User::Role(role) => self.keys.role(role),
            User::Host(_) => self.keys.host(&user.name()),
        };
        let credentials = credentials.unwrap();
        users.push((user, credentials.clone()));
        credentials
    }

    /// A file with a user's credentials.
    pub fn credentials_file(&self, user: User) -> PathBuf {
        let path = self.folder.join(format!("{}.creds", user.name()));
        fs::write(&path, self.credentials(user).to_text().unwrap()).unwrap();
        path
    }

    /// A file with what admits hosts and revokes them, for a gateway.
    pub fn authority_file(&self) -> PathBuf {
        let path = self.folder.join("authority.json");
        fs::write(&path, self.keys.authority().unwrap().to_text().unwrap()).unwrap();
        path
    }

    /// Settings for a client in the test.
    pub fn settings(&self, url: &str, user: User) -> BusSettings {
        BusSettings {
            url: url.into(),
            credentials: Secret::new(self.credentials(user).to_text().unwrap()),
            ca_file: self.ca_file().display().to_string(),
            replicas: 1,
            storage_bytes: STORAGE_BYTES,
            publish_timeout_ms: 5000,
            reconnect_max_ms: 500,
        }
    }
}

/// The pinned server's program, checked.
fn server() -> std::path::PathBuf {
    let repository = machine::repository();
    let folder = repository.join(".pinacle/bin");
    crate::process::run(std::process::Command::new(repository.join("nats/install")).arg("--check").arg(&folder));
    folder.join("nats-server")
}
