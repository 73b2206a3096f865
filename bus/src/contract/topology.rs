//! Streams, durable consumers and buckets: declared here once, applied by whoever starts first, changed in place.

use std::time::Duration;

use super::subject::filter;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamName {
    /// The newest heartbeat of each host, in memory.
    Heartbeats,
    /// Samples.
    Metrics,
    /// The newest inventory of each host.
    Inventory,
    /// What people want done.
    Requests,
    /// What happened.
    Events,
    /// Commands' results.
    Exec,
    /// What could not be handled.
    Dead,
    /// The change feed of the bucket `hosts`.
    HostRecords,
    /// The change feed of the bucket `pods`.
    PodRecords,
}

impl StreamName {
    /// Every stream that is declared as one; a bucket makes its own.
    pub const DECLARED: [Self; 7] =
        [Self::Heartbeats, Self::Metrics, Self::Inventory, Self::Requests, Self::Events, Self::Exec, Self::Dead];

    /// As the server knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeats => "HEARTBEATS",
            Self::Metrics => "METRICS",
            Self::Inventory => "INVENTORY",
            Self::Requests => "REQUESTS",
            Self::Events => "EVENTS",
            Self::Exec => "EXEC",
            Self::Dead => "DEAD",
            Self::HostRecords => "KV_hosts",
            Self::PodRecords => "KV_pods",
        }
    }

    /// Its declaration; `None` for a bucket's feed.
    pub fn spec(self) -> Option<StreamSpec> {
        let file = |subjects: Vec<String>, keep: Keep, storage_percent: u64, description| StreamSpec {
            name: self,
            subjects,
            in_memory: false,
            keep,
            storage_percent,
            duplicate_window: 2 * MINUTE,
            async_persist: false,
            description,
        };
        Some(match self {
            Self::Heartbeats => StreamSpec {
                in_memory: true,
                ..file(vec![filter::heartbeats()], Keep::LastOfEach, 2, "the newest heartbeat of each host")
            },
            Self::Metrics => StreamSpec {
                async_persist: true,
                ..file(vec![filter::metrics()], Keep::For(DAY), 46, "samples of hosts and pods")
            },
            Self::Inventory => {
                file(vec![filter::inventories()], Keep::LastOfEach, 5, "the newest inventory of each host")
            }
            Self::Requests => file(vec![filter::requests()], Keep::For(7 * DAY), 8, "what people want done"),
            Self::Events => file(vec![filter::events()], Keep::For(30 * DAY), 8, "what happened"),
            Self::Exec => file(vec![filter::exec()], Keep::For(7 * DAY), 8, "results of commands on hosts"),
            Self::Dead => file(vec![filter::dead()], Keep::For(30 * DAY), 8, "messages that could not be handled"),
            Self::HostRecords | Self::PodRecords => return None,
        })
    }
}

/// How long a stream keeps messages. Beyond its size the oldest go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Each for so long.
    For(Duration),
    /// The newest of each subject.
    LastOfEach,
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Which.
    pub name: StreamName,
    /// What it takes in.
    pub subjects: Vec<String>,
    /// In memory: gone when the server restarts.
    pub in_memory: bool,
    /// How long it keeps messages.
    pub keep: Keep,
    /// Its share of the storage that the settings allow.
    pub storage_percent: u64,
    /// How long a message's id is remembered.
    pub duplicate_window: Duration,
    /// Acknowledged before it is on disk. Only samples: another one follows in a moment, and the rate is high.
    pub async_persist: bool,
    /// For people.
    pub description: &'static str,
}

/// A durable pull consumer. Its members share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Its name.
    pub name: &'static str,
    /// What it reads.
    pub stream: StreamName,
    /// A message is delivered again when nobody has acknowledged or prolonged it for so long.
    pub ack_wait: Duration,
    /// How many messages may be out at once over all members.
    pub max_ack_pending: i64,
    /// How often a message is tried before it becomes a dead letter.
    pub max_tries: u64,
    /// For people.
    pub description: &'static str,
}

const fn consumer(name: &'static str, stream: StreamName, description: &'static str) -> ConsumerSpec {
    ConsumerSpec { name, stream, ack_wait: Duration::from_secs(30), max_ack_pending: 1000, max_tries: 10, description }
}

/// Samples → `host_metrics` and `pod_metrics`.
pub const INGEST_METRICS: ConsumerSpec = ConsumerSpec {
    max_ack_pending: 20_000,
    ..consumer("ingest-metrics", StreamName::Metrics, "samples → host_metrics, pod_metrics")
};
/// Requests → `request`.
pub const INGEST_REQUESTS: ConsumerSpec = consumer("ingest-requests", StreamName::Requests, "requests → request");
/// Events → `host_event`, `pod_event`, `operation`, `operation_step`, `audit_entry`.
pub const INGEST_EVENTS: ConsumerSpec = consumer(
    "ingest-events",
    StreamName::Events,
    "events → host_event, pod_event, operation, operation_step, audit_entry",
);
/// Commands' results → `exec_log`.
pub const INGEST_EXEC: ConsumerSpec = consumer("ingest-exec", StreamName::Exec, "results of commands → exec_log");
/// Dead letters → `dead_letter`.
pub const INGEST_DEAD: ConsumerSpec = consumer("ingest-dead", StreamName::Dead, "dead letters → dead_letter");
/// The bucket `hosts` → `host`.
pub const INGEST_HOSTS: ConsumerSpec =
    consumer("ingest-hosts", StreamName::HostRecords, "the live records of hosts → host");
/// The bucket `pods` → `pod`.
pub const INGEST_PODS: ConsumerSpec = consumer("ingest-pods", StreamName::PodRecords, "the live records of pods → pod");
/// Inventories → admission and facts.
pub const ORCHESTRATOR_INVENTORY: ConsumerSpec =
    consumer("orchestrator-inventory", StreamName::Inventory, "inventories → the live records of hosts");

/// Requests → the live records of pods and hosts.
pub const ORCHESTRATOR_REQUESTS: ConsumerSpec =
    consumer("orchestrator-requests", StreamName::Requests, "requests → the live records of pods and hosts");

/// Every consumer.
pub const CONSUMERS: [ConsumerSpec; 9] = [
    INGEST_METRICS,
    INGEST_REQUESTS,
    INGEST_EVENTS,
    INGEST_EXEC,
    INGEST_DEAD,
    INGEST_HOSTS,
    INGEST_PODS,
    ORCHESTRATOR_INVENTORY,
    ORCHESTRATOR_REQUESTS,
];

/// A key-value bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSpec {
    /// Its name.
    pub name: &'static str,
    /// Entries vanish after so long without a write; zero = never.
    pub time_to_live: Duration,
    /// The largest value.
    pub max_value_bytes: i32,
    /// Its share of the storage that the settings allow.
    pub storage_percent: u64,
    /// For people.
    pub description: &'static str,
}

/// The live record of each host.
pub const HOSTS: BucketSpec = BucketSpec {
    name: "hosts",
    time_to_live: Duration::ZERO,
    max_value_bytes: 64 * 1024,
    storage_percent: 3,
    description: "the live record of each host",
};
/// The live record of each pod.
pub const PODS: BucketSpec = BucketSpec {
    name: "pods",
    time_to_live: Duration::ZERO,
    max_value_bytes: 256 * 1024,
    storage_percent: 3,
    description: "the live record of each pod",
};
/// What is taken of each host.
pub const LEDGER: BucketSpec = BucketSpec {
    name: "ledger",
    time_to_live: Duration::ZERO,
    max_value_bytes: 256 * 1024,
    storage_percent: 3,
    description: "capacity, ports and subnets taken, one key a host",
};
/// Who does what for now.
pub const LEASES: BucketSpec = BucketSpec {
    name: "leases",
    time_to_live: Duration::from_secs(30),
    max_value_bytes: 4096,
    storage_percent: 1,
    description: "who does what for now",
};

/// What the reconcilers see and do, and the end of the chain of the audit log.
pub const STATUS: BucketSpec = BucketSpec {
    name: "status",
    time_to_live: Duration::ZERO,
    max_value_bytes: 512 * 1024,
    storage_percent: 1,
    description: "what each reconciler found and did last; the newest entry of the audit log",
};
/// Requests by idempotency key.
pub const IDEMPOTENCY: BucketSpec = BucketSpec {
    name: "idempotency",
    time_to_live: DAY,
    max_value_bytes: 512 * 1024,
    storage_percent: 3,
    description: "requests that came with an idempotency key",
};

/// The orchestrator's keys.
pub const KEYS: BucketSpec = BucketSpec {
    name: "keys",
    time_to_live: Duration::ZERO,
    max_value_bytes: 512 * 1024,
    storage_percent: 1,
    description: "the orchestrator's keys, private halves encrypted",
};

/// Every bucket.
pub const BUCKETS: [BucketSpec; 7] = [HOSTS, PODS, LEDGER, LEASES, STATUS, IDEMPOTENCY, KEYS];
