//! The start, step by step. Whatever can be found wanting beforehand is found before anything runs.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use reqwest::Method;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    ground::{Ground, Told},
    home::Home,
    image, nats, ports,
    postgres::Postgres,
    sample,
    services::{self, Plan},
    settings::UpSettings,
    ssh,
    supervise::{Parts, State, first_ready},
    trust,
};
use crate::{
    api::Api,
    failure::Failure,
    figures::count,
    local::{BUS_CA, Notice, read_secret},
    migrate,
    place::Place,
    progress::{Console, Step},
};

const HOST_DEADLINE: Duration = Duration::from_secs(30);
const HOST_EVERY: Duration = Duration::from_millis(250);
const BUS_DEFAULT_BYTES: u64 = 8 << 30;

/// What a start goes by.
pub(super) struct Start<'a> {
    pub settings: &'a UpSettings,
    pub config: Option<&'a Path>,
    pub home: &'a Home,
    pub console: &'a Console,
}

/// What runs, for the person in front.
pub(super) struct Started {
    /// Each part.
    pub parts: Vec<Shown>,
    /// The gateway's address.
    pub gateway: String,
    /// The link that the first admin comes in by, while there is none.
    pub first_link: Option<String>,
    /// The host that this machine is.
    pub host: Option<String>,
    /// Where the sample pod answers.
    pub sample: Option<String>,
    /// How long the start took.
    pub took: Duration,
}

/// A part's name, where it is, what it is.
pub(super) type Shown = (String, String, &'static str);

/// A part that is on its way, with its line on the screen.
struct Pending(watch::Receiver<State>, Step);

impl Pending {
    async fn ready(self) -> Result<(), Failure> {
        let Self(state, step) = self;
        match first_ready(state, |waits_for| step.note(waits_for)).await {
            Ok(()) => {
                step.done("");
                Ok(())
            }
            Err(failure) => {
                step.failed();
                Err(failure)
            }
        }
    }
}

impl Start<'_> {
    pub async fn all(&self, parts: &mut Parts) -> Result<Started, Failure> {
        let began = Instant::now();
        let up = &self.settings.up;
        let listen = self.settings.listen()?;
        let names = services::NAMES.into_iter().filter(|name| up.agent || *name != "agent");
        for name in names.clone() {
            services::program(name)?;
        }
        ports::require("gateway", listen, "--listen")?;
        let server = if up.nats.is_empty() {
            ports::require("nats", self.nats_address(), "--nats-port")?;
            let mut names = ["127.0.0.1", "::1", "localhost"].map(str::to_owned).to_vec();
            names.extend(self.settings.nats_names());
            // The gateway has the same certificate.
            names.extend(self.settings.outer().map(|address| address.to_string()));
            names.extend(std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()));
            trust::prepare(self.home, &names)?;
            Some(nats::find(self.home, &up.nats_server)?)
        } else {
            None
        };
        let postgres = if up.database.is_empty() { Some(Postgres::find(self.home, &up.postgres_bin)?) } else { None };
        self.home.secret("admin_token")?;
        self.home.key(services::MASTER_KEY)?;
        self.home.key(services::ORCHESTRATOR_KEY)?;

        let mut shown = Vec::new();
        let mut ground = Vec::new();
        let prepared = self.prepare_ground(parts, &mut ground).await;
        let nats_url = self.servers(parts, &mut shown, server, postgres).await?;
        self.migrate().await?;
        self.note(listen, &nats_url)?;
        let told = self.stand_on(prepared).await;
        if told.is_some() {
            shown.append(&mut ground);
        }
        self.services(parts, &mut shown, names, &self.plan(&nats_url, listen, told.clone())).await?;
        let first_link = self.first_link(&self.gateway_url(listen)).await?;
        if let Some(ground) = &told {
            self.let_in(&self.gateway_url(listen), &ground.keys).await;
        }
        let host = if up.agent { Some(self.await_host(&self.gateway_url(listen)).await?) } else { None };
        let sample = if told.is_some() { self.sample(&self.gateway_url(listen)).await } else { None };
        Ok(Started { parts: shown, gateway: self.gateway_url(listen), first_link, host, sample, took: began.elapsed() })
    }

    /// The authority of the gateway's certificate, where others can reach it: it then speaks TLS, with the certificate
    /// of the bus.
    fn gateway_ca(&self, listen: SocketAddr) -> Option<PathBuf> {
        let is_ours = self.settings.up.nats.is_empty() && !listen.ip().is_loopback();
        is_ours.then(|| self.home.folder.secret(BUS_CA))
    }

    /// How this machine reaches the gateway.
    fn gateway_url(&self, listen: SocketAddr) -> String {
        let scheme = if self.gateway_ca(listen).is_some() { "https" } else { "http" };
        if listen.ip().is_unspecified() {
            format!("{scheme}://127.0.0.1:{}", listen.port())
        } else {
            format!("{scheme}://{listen}")
        }
    }

    /// The gateway, as the installation.
    fn api(&self, gateway: &str) -> Result<Api, Failure> {
        let token = read_secret(&self.home.folder.secret("admin_token"))?;
        let authority = self.gateway_ca(self.settings.listen()?);
        Api::of(&Place::known(gateway, authority.as_deref())?)?.with_token(&token)
    }

    /// The token by which the agent of this machine joins, as long as it has not.
    async fn agent_token(&self, gateway: &str) -> Result<(), Failure> {
        if self.settings.up.nats.is_empty() && !self.home.folder.path("agent/enrolment.json").exists() {
            let made =
                self.api(gateway)?.change(Method::POST, "/hosts/enrolment-tokens", &serde_json::json!({})).await?;
            let token = made.get("token").and_then(serde_json::Value::as_str).unwrap_or_default();
            self.home.write_secret(services::AGENT_TOKEN, token)?;
        }
        Ok(())
    }

    /// The folder with everybody's credentials for the bus; none where `[bus]` says all.
    fn credentials(&self) -> Option<PathBuf> {
        let up = &self.settings.up;
        if up.nats.is_empty() {
            return Some(self.home.folder.path("secrets"));
        }
        (!up.nats_credentials.as_os_str().is_empty()).then(|| up.nats_credentials.clone())
    }

    /// Where the NATS server listens.
    fn nats_address(&self) -> SocketAddr {
        let everywhere = !self.settings.nats_names().is_empty();
        (if everywhere { [0, 0, 0, 0] } else { [127, 0, 0, 1] }, self.settings.up.nats_port).into()
    }

    /// What pods stand on, started. Its absence is no reason to stop.
    async fn prepare_ground(&self, parts: &mut Parts, shown: &mut Vec<Shown>) -> Option<Result<Ground, String>> {
        let up = &self.settings.up;
        if !up.pods {
            return None;
        }
        Some(Ground::prepare(self.home, &up.docker_socket, self.console, parts, shown).await)
    }

    async fn stand_on(&self, prepared: Option<Result<Ground, String>>) -> Option<Told> {
        let ready = match prepared? {
            Ok(ground) => ground.ready().await,
            Err(reason) => Err(reason),
        };
        ready.inspect_err(|reason| self.console.warn(&format!("no pods on this machine, all else runs: {reason}"))).ok()
    }

    /// Lets the orchestrator in, by the key that it has made. Whatever is in the way is no reason to stop.
    async fn let_in(&self, gateway: &str, run: &Path) {
        let learnt = async {
            let api = self.api(gateway)?;
            let key = api.get("/ssh-key", &[]).await?;
            let key = key.get("public_key").and_then(serde_json::Value::as_str).unwrap_or_default();
            ssh::let_in(self.home, run, key)
        };
        if let Err(failure) = learnt.await {
            self.console.warn(&format!("no new pods on this machine until the next start: {}", failure.line()));
        }
    }

    /// The image for pods, and the first one. Whatever is in the way is no reason to stop.
    async fn sample(&self, gateway: &str) -> Option<String> {
        if let Err(reason) = image::ensure(self.home, self.console).await {
            self.console.warn(&format!("no base image for pods, only those of other images can be made: {reason}"));
            if !sample::is_known(self.home) {
                return None;
            }
        }
        let made = async {
            let api = self.api(gateway)?;
            sample::ensure(self.home, &api, self.console).await
        };
        made.await.unwrap_or_else(|failure| {
            self.console.warn(&format!("no sample pod: {}", failure.line()));
            None
        })
    }

    /// While nobody has an account: the link that the first admin sets a password by.
    async fn first_link(&self, gateway: &str) -> Result<Option<String>, Failure> {
        let api = self.api(gateway)?;
        let answer = api.send(Method::POST, "/accounts/first", &[]).await?;
        Ok(answer.pointer("/link/url").and_then(serde_json::Value::as_str).map(str::to_owned))
    }

    /// NATS and Postgres side by side; what is missing of the two was given by address.
    async fn servers(
        &self,
        parts: &mut Parts,
        shown: &mut Vec<Shown>,
        server: Option<PathBuf>,
        postgres: Option<Postgres>,
    ) -> Result<String, Failure> {
        let up = &self.settings.up;
        let mut nats_url = up.nats.clone();
        let mut nats = None;
        if let Some(program) = server {
            let monitor = ports::free(up.nats_monitor_port)?;
            let step = self.console.step("nats");
            nats = Some(Pending(parts.start(nats::part(self.home, program, self.nats_address(), monitor)?), step));
            nats_url = format!("nats://127.0.0.1:{}", up.nats_port);
            shown.push(("nats".into(), nats_url.clone(), "the bus"));
        }
        let nats_ready = async { if let Some(nats) = nats { nats.ready().await } else { Ok(()) } };
        let database_ready = async {
            let Some(postgres) = postgres else {
                return self.home.write_secret("database_url", up.database.expose()).map(drop);
            };
            let step = self.console.step("postgres");
            let port = postgres.prepare(self.home, up.postgres_port, &step).await?;
            shown.push(("postgres".into(), format!("127.0.0.1:{port}"), "the database"));
            Pending(parts.start(postgres.part(port)?), step).ready().await
        };
        // The first failure is told at once, rather than after the other's start.
        tokio::try_join!(nats_ready, database_ready)?;
        Ok(nats_url)
    }

    async fn services(
        &self,
        parts: &mut Parts,
        shown: &mut Vec<Shown>,
        names: impl Iterator<Item = &'static str>,
        plan: &Plan,
    ) -> Result<(), Failure> {
        let first_port = self.settings.up.admin_port;
        let mut pending = Vec::new();
        for (offset, name) in (0_u16..).zip(names) {
            if name == "agent" {
                // Its first heartbeat is not to go by before anybody listens: the host would come online a beat later.
                try_join_all(pending.drain(..).map(Pending::ready)).await?;
                self.agent_token(&self.gateway_url(self.settings.listen()?)).await?;
            }
            let port = ports::free(if first_port == 0 { 0 } else { first_port + offset })?;
            let step = self.console.step(name);
            pending.push(Pending(parts.start(plan.part(self.home, name, port)?), step));
            let metrics = format!("127.0.0.1:{port}/metrics");
            shown.push(match name {
                "gateway" => (name.to_owned(), self.gateway_url(self.settings.listen()?), "the API"),
                "orchestrator" => (name.to_owned(), metrics, "follows hosts, runs pods"),
                "ingest" => (name.to_owned(), metrics, "bus to database"),
                _ => (name.to_owned(), metrics, "watches this machine"),
            });
        }
        try_join_all(pending.into_iter().map(Pending::ready)).await.map(drop)
    }

    async fn migrate(&self) -> Result<(), Failure> {
        let step = self.console.step("schema");
        let url = read_secret(&self.home.folder.secret("database_url"))?;
        match migrate::bring_up(&url).await {
            Ok(0) => step.done("up to date"),
            Ok(changes) => step.done(&format!("{} applied", count(changes, "change"))),
            Err(failure) => {
                step.failed();
                return Err(failure);
            }
        }
        Ok(())
    }

    fn plan(&self, nats_url: &str, listen: SocketAddr, ground: Option<Told>) -> Plan {
        let embedded = self.settings.up.nats.is_empty();
        let bus = &self.settings.bus;
        // Streams reserve their sizes, which must fit the disk; half of it is left to others.
        let half_free = super::home::free_mib(self.home.folder.root()).map(|mib| mib * 1024 * 1024 / 2);
        let scarce =
            half_free.filter(|half| embedded && bus.storage_bytes == BUS_DEFAULT_BYTES && *half < BUS_DEFAULT_BYTES);
        Plan {
            nats_url: nats_url.to_owned(),
            credentials: self.credentials(),
            ca_file: embedded.then(|| self.home.folder.secret(BUS_CA)),
            database: self.home.secret_setting("database_url"),
            listen: listen.to_string(),
            gateway: self.gateway_url(listen),
            gateway_ca: self.gateway_ca(listen),
            nats_outside: self
                .settings
                .nats_names()
                .first()
                .map(|name| format!("nats://{name}:{}", self.settings.up.nats_port)),
            storage_bytes: scarce,
            ground,
            config: self.config.map(Path::to_path_buf),
            dev: self.credentials().is_none() && bus.credentials.is_empty(),
        }
    }

    /// For the other commands: where everything is.
    fn note(&self, listen: SocketAddr, nats_url: &str) -> Result<(), Failure> {
        let notice = Notice {
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
            gateway: self.gateway_url(listen),
            gateway_ca: self.gateway_ca(listen),
            nats: nats_url.to_owned(),
            nats_credentials: self.credentials(),
            nats_ca: self.settings.up.nats.is_empty().then(|| self.home.folder.secret(BUS_CA)),
        };
        let path = self.home.folder.path("run/up.json");
        let text = serde_json::to_string(&notice).context("encode run/up.json")?;
        Ok(std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?)
    }

    /// Waits until the gateway knows this machine as a host that is online. Its absence is no reason to stop.
    async fn await_host(&self, gateway: &str) -> Result<String, Failure> {
        let step = self.console.step("this host");
        let api = self.api(gateway)?;
        let began = Instant::now();
        loop {
            // The agent writes its id before it says it is ready.
            let id = self.home.folder.host().unwrap_or_default();
            let found = api.hosts(None).await;
            let host = found.iter().flatten().find(|host| host.host_id == id);
            match (&found, host) {
                (_, Some(host)) if host.state == "online" => {
                    step.done(&format!("{} is online", host.name));
                    return Ok(host.name.clone());
                }
                (_, Some(host)) => step.note(&format!("{} is {}", host.name, host.state)),
                (Ok(_), None) => step.note("waiting for its inventory"),
                (Err(failure), None) => step.note(&failure.line()),
            }
            if began.elapsed() > HOST_DEADLINE {
                step.done("not online yet: see pinacle host ls, and the agent's log");
                return Ok(host.map_or_else(|| id, |host| host.name.clone()));
            }
            sleep(HOST_EVERY).await;
        }
    }
}
