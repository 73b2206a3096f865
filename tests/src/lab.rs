//! Several hosts on this machine: each with its own address, sshd, dockerd, gVisor and agent, in namespaces of its own,
//! around one bus. Cutting one off, slowing it down, freezing it and killing it are one call each.
//!
//! ```no_run
//! # async fn example() {
//! use pinacle_tests::lab::Lab;
//! let lab = Lab::builder().hosts(3).orchestrators(2).set("orchestrator.cpu_overcommit", "8").start().await;
//! lab.hosts()[0].cut_off();
//! # }
//! ```
//!
//! All of it dies with the test, and what outlives that is cleared away by the next one: see `leftovers`.

mod bare;
mod host;
mod inside;
mod roots;

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use pinacle_bus::{
    client::Bus,
    contract::{
        HostId,
        host::{HostRecord, HostState},
        topology::HOSTS,
    },
    trust::CertificateAuthority,
};
use rand::RngExt;

use crate::{
    Launch, Nats, Postgres, Process, Sandbox, User,
    docker::{make_root, turn},
    eventually, leftovers, machine,
    process::run,
    stack::{ADMIN_TOKEN, MASTER_KEY, ORCHESTRATOR_KEY},
};

pub use bare::Services;
pub use host::Host;
pub use roots::{BASE_IMAGE, base_image};

/// The image that every host has, and that pods are made from unless told otherwise: busybox, and a first process that
/// stays until it is told to end.
pub const IMAGE: &str = "pinacle-lab/tiny:1";
const STAYS: &str = r#"CMD ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"]"#;
const NAMES: [&str; 6] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];
const ONLINE_WITHIN: Duration = Duration::from_secs(90);

/// What a lab is to consist of.
pub struct Builder {
    hosts: usize,
    orchestrators: usize,
    gateway: bool,
    joinable: bool,
    disk_bytes: Option<u64>,
    bare: Option<Services>,
    images: Vec<PathBuf>,
    settings: Vec<(String, String)>,
}

impl Builder {
    /// So many hosts that run pods.
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// So many copies of the orchestrator.
    pub fn orchestrators(mut self, copies: usize) -> Self {
        self.orchestrators = copies;
        self
    }

    /// Postgres, ingest and a gateway, too.
    pub fn gateway(mut self) -> Self {
        self.gateway = true;
        self
    }

    /// The same with a gateway that machines on the lab's network reach over TLS, and join at.
    pub fn joinable_gateway(mut self) -> Self {
        (self.gateway, self.joinable) = (true, true);
        self
    }

    /// Docker's data on a small disk of its own on each host, so that it can be filled.
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// One more host, `bare`, made from a bare Debian root file system: with an SSH server and this to start services,
    /// without Docker and agent. It can install Docker.
    pub fn bare_debian(mut self, services: Services) -> Self {
        self.bare = Some(services);
        self
    }

    /// An archive of `docker save` that every host has loaded.
    pub fn load(mut self, archive: PathBuf) -> Self {
        self.images.push(archive);
        self
    }

    /// A setting for all services, such as `orchestrator.lease_ms`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("PINACLE__{}", key.replace('.', "__").to_ascii_uppercase());
        self.settings.push((name, value.into()));
        self
    }

    /// Starts everything and waits until each host is online.
    ///
    /// # Panics
    /// Also when the tests do not run as root, which namespaces take.
    pub async fn start(self) -> Lab {
        assert!(machine::is_root(), "the lab takes root: run the tests with sudo");
        let turn = turn().await;
        let sandbox = Sandbox::new();
        let net = Net::make(&sandbox);
        make_key(&sandbox, "client");
        let archive = make_root(&sandbox);
        let nats = Nats::start_for_lab(&net.gateway()).await;
        let bus = nats.bus_with_topology().await;
        let mut lab = Lab {
            orchestrators: Vec::new(),
            services: Vec::new(),
            hosts: Vec::new(),
            gateway: None,
            bare: None,
            bus,
            nats,
            postgres: None,
            database: None,
            settings: self.settings.clone(),
            holdings: Holdings { sandbox },
            _turn: turn,
        };
        for (number, name) in NAMES.into_iter().take(self.hosts).enumerate() {
            lab.hosts.push(Host::begin(&lab, &net, name, number, self.disk_bytes));
        }
        if let Some(services) = self.bare {
            lab.bare = Some(Host::begin_bare(&lab, &net, NAMES.len(), services).await);
        }
        let mut images = vec![(archive, Some(STAYS))];
        images.extend(self.images.iter().map(|archive| (archive.clone(), None)));
        let url = format!("nats://{}:{}", net.gateway(), lab.nats.port());
        let nats = &lab.nats;
        let come_up = lab.hosts.iter_mut().map(|host| {
            let env = nats.env_at(User::host(), &url);
            let images = &images;
            async move { host.come_up(images, &env).await }
        });
        futures_util::future::join_all(come_up).await;
        if self.gateway {
            lab.start_gateway(self.joinable.then_some(&net)).await;
        }
        for _ in 0..self.orchestrators {
            let copy = lab.orchestrator(&[]).await;
            lab.orchestrators.push(copy);
        }
        // Somebody must admit the hosts.
        let helper = if self.orchestrators == 0 { Some(lab.orchestrator(&[]).await) } else { None };
        for name in lab.hosts.iter().map(|host| host.name().to_owned()) {
            lab.online(&name).await;
        }
        if let Some(mut helper) = helper {
            helper.sigterm(Duration::from_secs(15)).await;
        }
        lab
    }
}

/// Hosts around a bus.
pub struct Lab {
    // Dropped in this order: what uses the bus before the bus.
    orchestrators: Vec<Process>,
    services: Vec<Process>,
    hosts: Vec<Host>,
    bare: Option<Host>,
    gateway: Option<SocketAddr>,
    bus: Bus,
    nats: Nats,
    postgres: Option<Postgres>,
    database: Option<String>,
    settings: Vec<(String, String)>,
    holdings: Holdings,
    _turn: File,
}

/// What the lab has outside of its processes; let go of when dropped.
struct Holdings {
    sandbox: Sandbox,
}

impl Drop for Holdings {
    fn drop(&mut self) {
        leftovers::release(self.sandbox.path());
    }
}

impl Lab {
    /// Three hosts and one orchestrator, unless told otherwise.
    pub fn builder() -> Builder {
        Builder {
            hosts: 3,
            orchestrators: 1,
            gateway: false,
            joinable: false,
            disk_bytes: None,
            bare: None,
            images: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// A client of the bus that may do everything.
    pub fn bus(&self) -> Bus {
        self.bus.clone()
    }

    /// The hosts that run pods.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The hosts, to do something to them.
    pub fn hosts_mut(&mut self) -> &mut [Host] {
        &mut self.hosts
    }

    /// The bare host.
    ///
    /// # Panics
    /// When the lab was not asked for one.
    pub fn bare(&self) -> &Host {
        self.bare.as_ref().expect("the lab has no bare host: ask its builder")
    }

    /// The name of a host.
    ///
    /// # Panics
    /// When there is none of that id.
    pub fn host_of(&self, id: HostId) -> String {
        let found = self.hosts.iter().find(|host| host.known_id() == Some(id));
        found.unwrap_or_else(|| panic!("no host of the lab is {id}")).name().to_owned()
    }

    /// The image that every host has.
    pub fn image(&self) -> &'static str {
        IMAGE
    }

    /// The gateway's address, and its admin token.
    ///
    /// # Panics
    /// When the lab was not asked for one.
    pub fn gateway(&self) -> (SocketAddr, &'static str) {
        (self.gateway.expect("the lab has no gateway: ask its builder"), ADMIN_TOKEN)
    }

    /// The live record of a host.
    ///
    /// # Panics
    /// When there is none.
    pub async fn host_record(&self, name: &str) -> HostRecord {
        self.find_record(name).await.unwrap_or_else(|| panic!("no host is called {name}"))
    }

    async fn find_record(&self, name: &str) -> Option<HostRecord> {
        let bucket = self.bus.bucket::<HostRecord>(&HOSTS).await.ok()?;
        for key in bucket.keys().await.ok()? {
            if let Some(entry) = bucket.get(&key).await.ok().flatten()
                && entry.record.name == name
            {
                return Some(entry.record);
            }
        }
        None
    }

    /// Waits until a host is online with all that pods need.
    pub async fn online(&self, name: &str) -> HostRecord {
        eventually(ONLINE_WITHIN, &format!("{name} to be online"), async || match self.find_record(name).await {
            Some(record)
                if record.state == HostState::Online
                    && record.facts.runtimes.iter().any(|runtime| runtime == "runsc")
                    && !record.pinned_host_keys.is_empty() =>
            {
                Ok(record)
            }
            other => Err(other.map(|record| (record.state, record.cause, record.facts.runtimes))),
        })
        .await
    }

    /// One more copy of the orchestrator, with these variables in its environment; it is the caller's.
    pub async fn orchestrator(&self, environment: &[(&str, &str)]) -> Process {
        self.launch_orchestrator(environment).start().await
    }

    fn launch_orchestrator(&self, environment: &[(&str, &str)]) -> Launch {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Launch::service("pinacle-orchestrator")
            .named(&format!("orchestrator-{number}"))
            .in_sandbox(&self.holdings.sandbox)
            .arg("--dev")
            .envs(self.nats.env(User::ORCHESTRATOR))
            .env("PINACLE__ORCHESTRATOR__KEY", ORCHESTRATOR_KEY)
            .env("PINACLE__ORCHESTRATOR__SSH_KEY", format!("file:{}", self.key().display()))
            .env("PINACLE__ORCHESTRATOR__BASE_IMAGE", IMAGE)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().copied())
            .ready_on_admin_port()
    }

    /// What makes a gateway one that machines can join at, besides its address.
    fn joining(&self, net: &Net) -> Vec<(&'static str, String)> {
        let folder = self.holdings.sandbox.folder("tls");
        let authority = CertificateAuthority::generate().unwrap();
        let server = authority.server(&[net.gateway()]).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        vec![
            ("TLS_CERTIFICATE_FILE", file("server.pem", &server.certificate)),
            ("TLS_KEY_FILE", file("server.key", &server.key)),
            ("TLS_CA_FILE", file("ca.pem", &authority.own.certificate)),
            ("AUTHORITY", format!("file:{}", self.nats.trust().authority_file().display())),
            ("AGENT_BUS_URL", format!("nats://{}:{}", net.gateway(), self.nats.port())),
            ("AGENT_DIR", machine::programs().display().to_string()),
        ]
    }

    /// The authority of a gateway that machines join at.
    pub fn gateway_ca(&self) -> PathBuf {
        self.holdings.sandbox.path().join("tls/ca.pem")
    }

    async fn start_gateway(&mut self, joinable: Option<&Net>) {
        let postgres = Postgres::start().await;
        let database = postgres.database().await;
        self.postgres = Some(postgres);
        let mut address = machine::free_address();
        let mut joining = Vec::new();
        if let Some(net) = joinable {
            address.set_ip(net.gateway().parse().unwrap());
            joining = self.joining(net);
        }
        let joining: Vec<(String, String)> =
            joining.into_iter().map(|(key, value)| (format!("PINACLE__GATEWAY__{key}"), value)).collect();
        for (name, user) in [("ingest", User::INGEST), ("gateway", User::GATEWAY)] {
            let launch = Launch::service(&format!("pinacle-{name}"))
                .named(name)
                .in_sandbox(&self.holdings.sandbox)
                .envs(self.nats.env(user))
                .envs(self.settings.iter().map(|(name, value)| (name, value)))
                .env("PINACLE__DATABASE__URL", &database)
                .env("PINACLE__GATEWAY__LISTEN", address.to_string())
                .env("PINACLE__GATEWAY__ADMIN_TOKEN", ADMIN_TOKEN)
                .env("PINACLE__GATEWAY__MASTER_KEY", MASTER_KEY)
                .envs(joining.iter().map(|(name, value)| (name, value)))
                .ready_on_admin_port();
            self.services.push(launch.start().await);
        }
        self.gateway = Some(address);
        self.database = Some(database);
    }

    /// The database's address.
    ///
    /// # Panics
    /// When the lab was not asked for a gateway.
    pub fn database(&self) -> &str {
        self.database.as_deref().expect("the lab has no database: ask its builder for a gateway")
    }

    /// The private key that every host lets in as root.
    pub fn key(&self) -> PathBuf {
        self.holdings.sandbox.path().join("client")
    }

    /// Where logs and data are.
    pub fn folder(&self) -> PathBuf {
        self.holdings.sandbox.path().to_owned()
    }

    /// The bus.
    pub fn nats(&mut self) -> &mut Nats {
        &mut self.nats
    }

    /// Where services find the bus.
    pub fn bus_address(&self) -> SocketAddr {
        self.nats.address()
    }

    /// The orchestrators that were asked for.
    pub fn orchestrators(&mut self) -> &mut [Process] {
        &mut self.orchestrators
    }

    /// Kills the bus's server and starts it again with its data.
    pub async fn restart_nats(&mut self) {
        self.nats.kill9().await;
        self.nats.restart().await;
    }
}

/// The network that all hosts are on: a bridge of the lab's own.
struct Net {
    bridge: String,
    /// The `n` of `10.77.n.0/24`.
    number: u8,
}

impl Net {
    fn make(sandbox: &Sandbox) -> Self {
        let tag = sandbox.path().file_name().unwrap().to_string_lossy().into_owned();
        fs::write(sandbox.path().join(leftovers::CGROUP), format!("pinacle-lab-{tag}")).unwrap();
        // At most 15 letters.
        let bridge = format!("pl{tag}");
        fs::write(sandbox.path().join(leftovers::LINKS), &bridge).unwrap();
        let net = Self { bridge, number: free_number() };
        ip(&["link", "add", &net.bridge, "type", "bridge"]);
        ip(&["address", "add", &format!("{}/24", net.gateway()), "dev", &net.bridge]);
        ip(&["link", "set", &net.bridge, "up"]);
        net
    }

    fn gateway(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    fn address(&self, number: usize) -> String {
        format!("10.77.{}.{}", self.number, number + 11)
    }
}

/// The `n` of a `10.77.n.0/24` that the machine has no route to: a killed lab may have left one.
fn free_number() -> u8 {
    let routes = run(Command::new(machine::tool("ip")).args(["-4", "route"]));
    let first: u8 = rand::rng().random_range(1..=254);
    let mut numbers = (first..=254).chain(1..first);
    numbers.find(|number| !routes.contains(&format!("10.77.{number}.0/24"))).expect("a lab's network is free")
}

fn ip(arguments: &[&str]) {
    run(Command::new(machine::tool("ip")).args(arguments));
}

/// An SSH key pair.
fn make_key(sandbox: &Sandbox, name: &str) {
    let path = sandbox.path().join(name);
    run(Command::new(machine::tool("ssh-keygen")).args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(path));
}
