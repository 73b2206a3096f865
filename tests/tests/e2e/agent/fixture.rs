//! A server, an agent and what the test sees of them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use pinacle_bus::{
    client::{AskError, Bus, Start, Subscription},
    contract::{HostId, command::Command, host::Heartbeat, metrics::Metrics, subject::filter, topology::StreamName},
};
use pinacle_tests::{Launch, Nats, Process, Sandbox, User, eventually};

pub const LONG: Duration = Duration::from_secs(20);

/// An agent with a state directory of its own. Fields go in this order: the agent first.
pub struct Fixture {
    pub agent: Process,
    pub host: HostId,
    pub bus: Bus,
    state: Sandbox,
    heartbeats: Subscription,
    pub nats: Nats,
}

/// An agent's start. `settings` are keys of `[agent]`; there is no Docker unless they say so.
pub fn launch(bus: &[(String, String)], state: &Path, settings: &[(&str, &str)]) -> Launch {
    let key = |key: &str| format!("PINACLE__AGENT__{key}");
    Launch::service("pinacle-agent")
        .envs(bus.iter().map(|(key, value)| (key, value)))
        .env(key("STATE_DIR"), state)
        .env(key("DOCKER_SOCKET"), "/nonexistent/docker.sock")
        .envs(settings.iter().map(|(name, value)| (key(name), *value)))
        .ready_on_admin_port()
}

impl Fixture {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let nats = Nats::start().await;
        let environment = nats.env(User::host());
        Self::start_at(nats, environment, settings).await
    }

    /// The agent finds the server where `environment` says.
    pub async fn start_at(nats: Nats, environment: Vec<(String, String)>, settings: &[(&str, &str)]) -> Self {
        let bus = nats.bus_with_topology().await;
        let heartbeats = bus.subscribe(filter::heartbeats()).await.unwrap();
        let state = Sandbox::new();
        let agent = launch(&environment, &state_dir(&state), settings).start().await;
        let host = host_id(&state).await;
        Self { agent, host, bus, state, heartbeats, nats }
    }

    /// The server was there once, and is away when the agent starts.
    pub async fn without_bus(settings: &[(&str, &str)]) -> Self {
        let mut nats = Nats::start().await;
        let bus = nats.bus_with_topology().await;
        let heartbeats = bus.subscribe(filter::heartbeats()).await.unwrap();
        nats.kill9().await;
        let state = Sandbox::new();
        let agent = launch(&nats.env(User::host()), &state_dir(&state), settings).with_admin_port().start().await;
        let host = host_id(&state).await;
        Self { agent, host, bus, state, heartbeats, nats }
    }

    /// The agent's state directory.
    pub fn state_dir(&self) -> PathBuf {
        state_dir(&self.state)
    }

    pub async fn ask<C: Command>(&self, command: &C) -> Result<C::Reply, AskError> {
        self.bus.ask(self.host, command, LONG).await
    }

    pub async fn next_heartbeat(&mut self) -> Heartbeat {
        let incoming = tokio::time::timeout(LONG, self.heartbeats.next()).await.expect("no heartbeat came").unwrap();
        incoming.decode().unwrap()
    }

    /// The newest sample, once there is one after `before`.
    pub async fn next_sample(&self, before: Option<&Metrics>) -> Metrics {
        eventually(LONG, "the next sample", async || {
            let newest = samples(&self.bus).await.pop();
            newest.filter(|sample| before.is_none_or(|before| sample.sampled_at > before.sampled_at)).ok_or("none yet")
        })
        .await
    }

    /// Waits until there are as many samples.
    pub async fn samples(&self, least: usize) {
        eventually(LONG, "samples", async || {
            let count = samples(&self.bus).await.len();
            if count >= least { Ok(()) } else { Err(count) }
        })
        .await;
    }

    pub fn spool_names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.state_dir().join("spool")) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".json"))
            .collect();
        names.sort_unstable();
        names
    }

    pub fn spooled(&self) -> usize {
        self.spool_names().len()
    }
}

/// Not the sandbox itself, which has a lock of its own.
fn state_dir(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join("state")
}

async fn host_id(state: &Sandbox) -> HostId {
    eventually(LONG, "the agent to have an id", async || {
        let text = std::fs::read_to_string(state_dir(state).join("host_id")).map_err(|error| error.to_string())?;
        text.trim().parse::<HostId>().map_err(|error| error.to_string())
    })
    .await
}

/// Every sample in the stream.
pub async fn samples(bus: &Bus) -> Vec<Metrics> {
    let Ok((first, last)) = bus.stream_bounds(StreamName::Metrics).await else { return Vec::new() };
    let mut found = Vec::new();
    if last < first {
        return found;
    }
    let mut reader = bus.read(StreamName::Metrics, Start::Beginning, None);
    loop {
        let stored = tokio::time::timeout(LONG, reader.next()).await.expect("the stream can be read").unwrap();
        found.push(stored.decode().unwrap());
        if stored.sequence >= last {
            return found;
        }
    }
}
