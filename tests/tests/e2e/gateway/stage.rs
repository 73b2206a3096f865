//! A gateway with what it needs, and things to look at: records, samples and events over the real contract.

use std::{collections::BTreeMap, fs, net::SocketAddr, sync::Once, time::Duration};

use pinacle_bus::{
    client::{Bus, Published},
    contract::{
        EventId, HostId, PodId, Subject, Timestamp,
        event::Event,
        host::{HostRecord, HostState},
        metrics::{Metrics, PodSample},
        pod::PodRecord,
        subject::EventKind,
        topology::{HOSTS, PODS},
    },
};
use pinacle_tests::{
    Launch, Nats, Postgres, Process, User, eventually, machine,
    stack::{MASTER_KEY, ORCHESTRATOR_KEY},
};
use reqwest::{Client, Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::socket::Socket;

pub const TOKEN: &str = "test-token-0123456789abcdef0123456789abcdef";
pub const SOON: Duration = Duration::from_secs(20);

pub struct Stage {
    pub gateway: Process,
    pub address: SocketAddr,
    pub database: String,
    pub client: Client,
    pub bus: Bus,
    pub postgres: Postgres,
    pub nats: Nats,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// A message of the contract, from its golden file.
pub fn golden<T: DeserializeOwned>(name: &str) -> T {
    let file = machine::repository().join(format!("bus/golden/v1/{name}.json"));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

pub fn client() -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder().timeout(SOON).build().unwrap()
}

impl Stage {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings of its own.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_at(machine::free_address(), settings).await
    }

    /// At an address that others have to know beforehand.
    pub async fn start_at(address: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let (nats, postgres) = tokio::join!(Nats::start(), Postgres::start());
        let (bus, database) = tokio::join!(nats.bus_with_topology(), postgres.database());
        let launch = Self::launch(&nats, &database, address).envs(settings.iter().copied());
        let gateway = launch.ready_on_admin_port().start().await;
        let stage = Self { gateway, address, database, client: client(), bus, postgres, nats };
        // By its own word: an admin server that was asked before the service named its conditions says ready, too.
        eventually(SOON, "the live state", async || {
            let answer = stage.get("/hosts").await;
            if answer.status == 200 { Ok(()) } else { Err(answer) }
        })
        .await;
        stage
    }

    pub fn launch(nats: &Nats, database: &str, address: SocketAddr) -> Launch {
        Launch::service("pinacle-gateway")
            .in_sandbox(nats.sandbox())
            .envs(nats.env(User::GATEWAY))
            .env("PINACLE__DATABASE__URL", database)
            .env("PINACLE__GATEWAY__LISTEN", address.to_string())
            .env("PINACLE__GATEWAY__ADMIN_TOKEN", TOKEN)
            .env("PINACLE__GATEWAY__MASTER_KEY", MASTER_KEY)
            .env("PINACLE__GATEWAY__AUTHORITY", format!("file:{}", nats.trust().authority_file().display()))
    }

    /// Ingest, for what comes from the history.
    pub async fn ingest(&self) -> Process {
        Launch::service("pinacle-ingest")
            .in_sandbox(self.nats.sandbox())
            .envs(self.nats.env(User::INGEST))
            .env("PINACLE__DATABASE__URL", &self.database)
            .ready_on_admin_port()
            .start()
            .await
    }

    /// The orchestrator, for what is asked of it.
    pub async fn orchestrator(&self) -> Process {
        Launch::service("pinacle-orchestrator")
            .in_sandbox(self.nats.sandbox())
            .envs(self.nats.env(User::ORCHESTRATOR))
            .env("PINACLE__ORCHESTRATOR__KEY", ORCHESTRATOR_KEY)
            .ready_on_admin_port()
            .start()
            .await
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, &format!("/api/v1{path}")).bearer_auth(TOKEN)).await
    }

    pub async fn post(&self, path: &str) -> Answer {
        answer(self.request(Method::POST, &format!("/api/v1{path}")).bearer_auth(TOKEN)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, &format!("/api/v1{path}")).bearer_auth(TOKEN)).await
    }

    pub async fn socket(&self) -> Socket {
        Socket::open(self.address, TOKEN).await
    }

    /// An admitted host, and the gateway knows it.
    pub async fn host(&self, name: &str) -> HostId {
        let host = self.host_unseen(name).await;
        eventually(SOON, "the gateway to know the host", async || {
            let answer = self.get(&format!("/hosts/{host}")).await;
            if answer.status == 200 { Ok(()) } else { Err(answer) }
        })
        .await;
        host
    }

    /// An admitted host, whether the gateway knows it or not.
    pub async fn host_unseen(&self, name: &str) -> HostId {
        let host_id = HostId::new();
        // The installation's own: that an admin looks at it is no event among those that tests count.
        let record = HostRecord { host_id, name: name.into(), owner: None, ..golden("host_record") };
        self.bus.bucket(&HOSTS).await.unwrap().create(&host_id.to_string(), &record).await.unwrap();
        host_id
    }

    /// Changes a host's record as the orchestrator does.
    pub async fn host_becomes(&self, host: HostId, state: HostState) {
        let bucket = self.bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
        let entry = bucket.get(&host.to_string()).await.unwrap().unwrap();
        bucket.update(&host.to_string(), &HostRecord { state, ..entry.record }, entry.revision).await.unwrap();
    }

    pub async fn pod(&self, name: &str, owner: &str, host_id: Option<HostId>) -> PodId {
        let pod_id = PodId::new();
        let record = PodRecord { pod_id, name: name.into(), owner: owner.into(), host_id, ..golden("pod_record") };
        self.bus.bucket(&PODS).await.unwrap().create(&pod_id.to_string(), &record).await.unwrap();
        pod_id
    }

    /// A sample of a host and its pods; its CPU figure tells samples apart.
    pub async fn sample(&self, host_id: HostId, cpu_percent: f64, pods: &[PodId]) -> Metrics {
        let metrics = sample(host_id, cpu_percent, pods);
        self.publish(&metrics).await;
        metrics
    }

    pub async fn publish(&self, metrics: &Metrics) -> Published {
        self.bus.publish(&Subject::Metrics(metrics.host_id), &metrics.message_id(), metrics).await.unwrap()
    }

    /// Publishes an event of a host; what it says tells events apart.
    pub async fn event(&self, host: HostId, message: &str) -> u64 {
        publish_event(&self.bus, host, message).await.unwrap()
    }
}

pub fn sample(host_id: HostId, cpu_percent: f64, pods: &[PodId]) -> Metrics {
    let mut metrics: Metrics = golden("metrics");
    let pod = metrics.pods[0].clone();
    metrics.host_id = host_id;
    metrics.sampled_at = Timestamp::now();
    metrics.host.cpu_percent = cpu_percent;
    metrics.pods = pods.iter().map(|pod_id| PodSample { pod_id: *pod_id, cpu_percent, ..pod.clone() }).collect();
    metrics
}

pub async fn publish_event(bus: &Bus, host: HostId, message: &str) -> Result<u64, pinacle_bus::client::BusError> {
    let event = Event {
        event_id: EventId::new(),
        at: Timestamp::now(),
        target_id: host.to_string(),
        message: message.into(),
        ..golden("event")
    };
    let subject = Subject::Event { kind: EventKind::Host, id: host.to_string(), what: event.what.clone() };
    Ok(bus.publish(&subject, &event.event_id.to_string(), &event).await?.sequence)
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}
