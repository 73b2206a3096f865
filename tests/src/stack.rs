//! All of Pinacle for one test: NATS, Postgres with its tables, and as many copies of each service as asked for.
//! Names of the copies: `ingest-1`, `ingest-2`, `orchestrator-1`, `gateway-1`, `agent-1` …

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use crate::{
    machine,
    nats::{Nats, User},
    postgres::Postgres,
    process::{Launch, Process},
    sandbox::Sandbox,
};

/// The admin token of every gateway of a stack.
pub const ADMIN_TOKEN: &str = "token-of-a-test-that-is-long-enough-for-anybody";

/// The key of every orchestrator of a test.
pub const ORCHESTRATOR_KEY: &str = "6f7263686573747261746f72206f662050696e61636c65207465737473202e2e";
/// The master key of every gateway of a test.
pub const MASTER_KEY: &str = "7465737473206f662050696e61636c65207465737473206f662050696e61636c";

/// What a stack is to consist of.
#[derive(Default)]
pub struct Builder {
    ingest: usize,
    orchestrator: usize,
    gateway: usize,
    agent: usize,
    docker: Option<String>,
    traced: bool,
    settings: Vec<(String, String)>,
}

impl Builder {
    /// So many copies of ingest.
    pub fn ingest(mut self, copies: usize) -> Self {
        self.ingest = copies;
        self
    }

    /// So many copies of the orchestrator.
    pub fn orchestrator(mut self, copies: usize) -> Self {
        self.orchestrator = copies;
        self
    }

    /// So many copies of the gateway.
    pub fn gateway(mut self, copies: usize) -> Self {
        self.gateway = copies;
        self
    }

    /// So many agents, each a host of its own that shares this machine's figures.
    pub fn agent(mut self, copies: usize) -> Self {
        self.agent = copies;
        self
    }

    /// Docker's socket for the agents; without it they find none.
    pub fn docker(mut self, socket: &Path) -> Self {
        self.docker = Some(socket.display().to_string());
        self
    }

    /// A setting for all services, such as `ingest.batch_age_ms`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("PINACLE__{}", key.replace('.', "__").to_ascii_uppercase());
        self.settings.push((name, value.into()));
        self
    }

    /// With all that clients say in the bus's log.
    pub fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Starts everything and waits until each part is ready.
    pub async fn start(self) -> Stack {
        let nats = if self.traced { Nats::start_traced().await } else { Nats::start().await };
        if self.orchestrator == 0 {
            // No service but that one may make streams.
            nats.bus_with_topology().await;
        }
        let postgres = Postgres::start().await;
        let database = postgres.database().await;
        let sandbox = Sandbox::new();
        let mut launches = Vec::new();
        for (kind, copies) in [
            ("orchestrator", self.orchestrator),
            ("ingest", self.ingest),
            ("gateway", self.gateway),
            ("agent", self.agent),
        ] {
            for number in 1..=copies {
                let user = match kind {
                    "orchestrator" => User::ORCHESTRATOR,
                    "ingest" => User::INGEST,
                    "gateway" => User::GATEWAY,
                    _ => User::host(),
                };
                let launch = Launch::service(&format!("pinacle-{kind}"))
                    .named(&format!("{kind}-{number}"))
                    .in_sandbox(&sandbox)
                    .envs(nats.env(user))
                    .envs(self.settings.iter().map(|(name, value)| (name, value)))
                    .ready_on_admin_port();
                launches.push((kind, number, launch));
            }
        }
        let mut stack = Stack {
            services: BTreeMap::new(),
            gateways: Vec::new(),
            nats,
            postgres,
            database,
            sandbox: sandbox.clone(),
        };
        for (kind, number, launch) in launches {
            let launch = match kind {
                "agent" => launch
                    .env("PINACLE__AGENT__STATE_DIR", sandbox.folder(&format!("agent-{number}")))
                    .env("PINACLE__AGENT__DOCKER_SOCKET", self.docker.as_deref().unwrap_or("/nonexistent/docker.sock")),
                "gateway" => {
                    let address = machine::free_address();
                    stack.gateways.push(address);
                    launch
                        .env("PINACLE__DATABASE__URL", &stack.database)
                        .env("PINACLE__GATEWAY__LISTEN", address.to_string())
                        .env("PINACLE__GATEWAY__ADMIN_TOKEN", ADMIN_TOKEN)
                        .env(
                            "PINACLE__GATEWAY__AUTHORITY",
                            format!("file:{}", stack.nats.trust().authority_file().display()),
                        )
                        .env("PINACLE__GATEWAY__MASTER_KEY", MASTER_KEY)
                }
                "ingest" => launch.env("PINACLE__DATABASE__URL", &stack.database),
                "orchestrator" => launch.env("PINACLE__ORCHESTRATOR__KEY", ORCHESTRATOR_KEY),
                _ => launch,
            };
            stack.services.insert(format!("{kind}-{number}"), launch.start().await);
        }
        stack
    }
}

/// All of Pinacle, running.
pub struct Stack {
    // Dropped in this order: the services before what they use.
    services: BTreeMap<String, Process>,
    gateways: Vec<SocketAddr>,
    /// The bus.
    pub nats: Nats,
    /// The database's server.
    pub postgres: Postgres,
    /// The database's address.
    pub database: String,
    sandbox: Sandbox,
}

impl Stack {
    /// Nothing yet but NATS and Postgres.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A service by its name.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn service(&mut self, name: &str) -> &mut Process {
        let names: Vec<String> = self.services.keys().cloned().collect();
        self.services.get_mut(name).unwrap_or_else(|| panic!("there is no {name}, but {names:?}"))
    }

    /// The names of all services.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// Where a gateway's API is; the first one is number 1.
    ///
    /// # Panics
    /// When there is none of that number.
    pub fn gateway(&self, number: usize) -> SocketAddr {
        *self.gateways.get(number - 1).expect("a gateway of this number")
    }

    /// Kills a service with SIGKILL.
    pub async fn kill9(&mut self, name: &str) {
        self.service(name).kill9().await;
    }

    /// Starts a service again; kills it first if it runs. Waits until it is ready.
    pub async fn restart(&mut self, name: &str) {
        self.service(name).restart().await;
    }

    /// The folder of this stack.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }
}
