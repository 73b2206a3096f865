//! Real NATS, real Postgres, real ingest processes, and a fleet of hosts that is played over the real contract.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt;
use pinacle_bus::{
    client::{Bucket, Bus},
    contract::{
        HostId, Message, PodId, SCHEMA_VERSION, Subject, Timestamp, decode, host::HostRecord, metrics::Metrics,
        pod::PodRecord, topology,
    },
};
use pinacle_tests::{Launch, Nats, Postgres, Process, User, eventually};
use sqlx::{PgPool, Row, postgres::PgPoolOptions};

/// For what needs several processes to start or to recover.
pub const LONG: Duration = Duration::from_secs(120);

/// A message as its golden file has it.
pub fn golden<M: Message>() -> M {
    let path = format!("{}/../bus/golden/v{SCHEMA_VERSION}/{}.json", env!("CARGO_MANIFEST_DIR"), M::NAME);
    decode(SCHEMA_VERSION, &std::fs::read(path).unwrap()).unwrap()
}

/// A host and its pods.
#[derive(Debug, Clone)]
pub struct Host {
    pub id: HostId,
    pub pods: Vec<PodId>,
}

impl Host {
    pub fn with_pods(pods: usize) -> Self {
        Self { id: HostId::new(), pods: (0..pods).map(|_| PodId::new()).collect() }
    }

    /// A sample whose figures depend on its host, pods and time alone: sent twice, it is the same.
    pub fn sample(&self, at: Timestamp) -> Metrics {
        let template: Metrics = golden();
        let pods = (1..)
            .zip(&self.pods)
            .map(|(number, pod_id)| {
                let mut pod = template.pods[0].clone();
                pod.pod_id = *pod_id;
                pod.pids = number;
                pod.memory_bytes = figure(at) * number;
                pod
            })
            .collect();
        let mut sample = Metrics { host_id: self.id, sampled_at: at, pods, ..template };
        sample.host.memory_used_bytes = figure(at);
        sample
    }
}

/// A figure that is told from the time, to see whose row it is.
pub fn figure(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis() % 1_000_000_007).unwrap()
}

/// What the tables must hold: samples by host and time, each with its pods and their figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    pub hosts: BTreeMap<(String, i64), i64>,
    pub pods: BTreeMap<(String, i64), i64>,
}

impl Tables {
    pub fn expect(&mut self, sample: &Metrics) {
        self.expect_without(sample, &[]);
    }

    pub fn expect_without(&mut self, sample: &Metrics, left_out: &[PodId]) {
        let time = sample.sampled_at.as_millis();
        let signed = |value: u64| i64::try_from(value).unwrap();
        self.hosts.insert((sample.host_id.to_string(), time), signed(sample.host.memory_used_bytes));
        for pod in sample.pods.iter().filter(|pod| !left_out.contains(&pod.pod_id)) {
            self.pods.insert((pod.pod_id.to_string(), time), signed(pod.memory_bytes));
        }
    }

    /// What differs, in short.
    fn difference(&self, found: &Self) -> String {
        let keys = |rows: &BTreeMap<(String, i64), i64>| rows.keys().cloned().collect::<BTreeSet<_>>();
        let report = |name: &str, wanted: &BTreeMap<(String, i64), i64>, found: &BTreeMap<(String, i64), i64>| {
            let (wanted_keys, found_keys) = (keys(wanted), keys(found));
            let missing = wanted_keys.difference(&found_keys).count();
            let surplus = found_keys.difference(&wanted_keys).count();
            let differ = wanted.iter().filter(|(key, value)| found.get(*key).is_some_and(|it| it != *value)).count();
            format!("{name}: {} wanted, {missing} missing, {surplus} too many, {differ} differ", wanted.len())
        };
        format!("{}; {}", report("hosts", &self.hosts, &found.hosts), report("pods", &self.pods, &found.pods))
    }
}

/// The servers, and a bus and a database to look at them.
pub struct Stage {
    pub nats: Nats,
    pub postgres: Postgres,
    pub bus: Bus,
    pub url: String,
    pub pool: PgPool,
    pub hosts: Bucket<HostRecord>,
    pub pods: Bucket<PodRecord>,
}

impl Stage {
    pub async fn start() -> Self {
        let (nats, postgres) = (Nats::start().await, Postgres::start().await);
        let bus = nats.bus_with_topology().await;
        let url = postgres.database().await;
        let pool =
            PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(2)).connect_lazy(&url).unwrap();
        let (hosts, pods) = (bus.bucket(&topology::HOSTS).await.unwrap(), bus.bucket(&topology::PODS).await.unwrap());
        Self { nats, postgres, bus, url, pool, hosts, pods }
    }

    /// How an ingest is started here.
    pub fn launch(&self, name: &str) -> Launch {
        Launch::service("pinacle-ingest")
            .named(name)
            .envs(self.nats.env(User::INGEST))
            .env("PINACLE__DATABASE__URL", &self.url)
            .env("PINACLE__DATABASE__MAX_CONNECTIONS", "8")
            .ready_on_admin_port()
    }

    /// An ingest that is ready.
    pub async fn ingest(&self, name: &str) -> Process {
        self.launch(name).start().await
    }

    /// A host that was admitted.
    pub async fn admitted(&self, pods: usize) -> Host {
        let host = Host::with_pods(pods);
        self.admit(host.id).await;
        host
    }

    pub async fn admit(&self, host: HostId) {
        let record = HostRecord { host_id: host, name: host.to_string(), ..golden() };
        self.hosts.create(&host.to_string(), &record).await.unwrap();
    }

    /// Publishes a sample, however long the bus is away.
    pub async fn publish(&self, sample: &Metrics) {
        self.publish_as(sample, &sample.message_id()).await;
    }

    pub async fn publish_as(&self, sample: &Metrics, message_id: &str) {
        let subject = Subject::Metrics(sample.host_id);
        eventually(LONG, "the bus to take a sample", async || {
            self.bus.publish(&subject, message_id, sample).await.map(drop)
        })
        .await;
    }

    /// Publishes many, several at a time.
    pub async fn publish_all(&self, samples: &[Metrics]) {
        futures_util::stream::iter(samples).for_each_concurrent(64, |sample| self.publish(sample)).await;
    }

    /// Publishes bytes on a host's subject.
    pub async fn publish_raw(&self, host: HostId, message_id: &str, bytes: impl Into<Vec<u8>>) {
        let payload: Vec<u8> = bytes.into();
        self.bus.publish_bytes(&Subject::Metrics(host).to_string(), message_id, payload.into()).await.unwrap();
    }

    pub async fn tables(&self) -> Result<Tables, sqlx::Error> {
        let rows = async |sql: &'static str| {
            let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
            rows.iter()
                .map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)))
                .collect::<Result<BTreeMap<(String, i64), i64>, sqlx::Error>>()
        };
        Ok(Tables {
            hosts: rows(
                "SELECT host_id, (extract(epoch FROM time) * 1000)::bigint, memory_used_bytes FROM host_metrics",
            )
            .await?,
            pods: rows("SELECT pod_id, (extract(epoch FROM time) * 1000)::bigint, memory_bytes FROM pod_metrics")
                .await?,
        })
    }

    /// Waits until the tables hold exactly this, and nothing is left to do.
    pub async fn settles_at(&self, wanted: &Tables) {
        eventually(LONG, "the tables to hold what was published", async || {
            let found = self.tables().await.map_err(|error| error.to_string())?;
            let (left, unacknowledged) = self.unfinished("METRICS", "ingest-metrics").await?;
            if &found == wanted && left == 0 && unacknowledged == 0 {
                return Ok(());
            }
            Err(format!("{}; {left} waiting, {unacknowledged} not acknowledged", wanted.difference(&found)))
        })
        .await;
        // The keys of the tables forbid doubles, so a number that is right says that nothing is there twice.
        let found = self.tables().await.unwrap();
        assert_eq!((found.hosts.len(), found.pods.len()), (wanted.hosts.len(), wanted.pods.len()));
    }

    /// Messages that a consumer was not given yet, and that it has not acknowledged.
    pub async fn unfinished(&self, stream: &str, consumer: &str) -> Result<(u64, usize), String> {
        let jetstream = self.nats.jetstream().await;
        let stream = jetstream.get_stream(stream).await.map_err(|error| error.to_string())?;
        let info = stream.consumer_info(consumer).await.map_err(|error| error.to_string())?;
        Ok((info.num_pending, info.num_ack_pending))
    }

    /// Waits for a number from the database.
    pub async fn count_becomes(&self, wanted: i64, sql: &'static str) {
        eventually(LONG, &format!("{wanted} from {sql}"), async || {
            let found: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await.map_err(|error| error.to_string())?;
            if found == wanted { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
    }

    /// Waits for a dead letter whose reason holds `part`; its message's sequence.
    pub async fn dead_letter(&self, part: &str) -> i64 {
        eventually(LONG, &format!("a dead letter about {part:?}"), async || {
            let letters: Vec<(i64, String)> =
                sqlx::query_as("SELECT stream_sequence, reason FROM dead_letter WHERE stream = 'METRICS'")
                    .fetch_all(&self.pool)
                    .await
                    .map_err(|error| error.to_string())?;
            letters.iter().find(|(_, reason)| reason.contains(part)).map(|(it, _)| *it).ok_or(format!("{letters:?}"))
        })
        .await
    }
}

/// Times one after the other, `step` ms apart, that end about now.
pub fn times(number: usize, step: u64) -> Vec<Timestamp> {
    let step = Duration::from_millis(step);
    let first = Timestamp::now().minus(step * u32::try_from(number).unwrap());
    (0..u32::try_from(number).unwrap()).map(|index| first.plus(step * index)).collect()
}
