//! Who may say and hear what on the bus. The server enforces it; see `nats/README.md`.

use std::time::Duration;

use super::{
    audit::AUDIT_HEAD,
    command::{Command, Logs, TakeInventory},
    subject::{EventKind, PREFIX, filter},
    topology::{
        BUCKETS, BucketSpec, CONSUMERS, ConsumerSpec, HOSTS, IDEMPOTENCY, KEYS, LEASES, LEDGER, ORCHESTRATOR_INVENTORY,
        ORCHESTRATOR_REQUESTS, PODS, STATUS, StreamName,
    },
};

/// What stands for the user's own name in the grant of a role that many have; the server puts the name in.
pub const OWN_NAME: &str = "{{name()}}";

/// What a user may do. Everything else is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// Subjects and filters that it may publish to.
    pub publish: Vec<String>,
    /// What it may not publish to all the same.
    pub never_publish: Vec<String>,
    /// Subjects and filters that it may subscribe to.
    pub subscribe: Vec<String>,
    /// How long it may answer whoever sent it a message, and nobody else; `None` = not at all.
    pub answer_for: Option<Duration>,
}

/// The inbox of a user: where what it asked for is answered. Nobody else may listen there.
pub fn inbox(name: &str) -> String {
    format!("_INBOX.{name}")
}

/// What a host may do: its own facts, its own commands, its own inbox; nothing of another's, no stream, no bucket.
pub fn host() -> Grant {
    Grant {
        publish: ["heartbeat", "metrics", "inventory"].map(|what| format!("{PREFIX}.host.{OWN_NAME}.{what}")).into(),
        subscribe: vec![format!("{PREFIX}.cmd.{OWN_NAME}.*"), format!("{}.>", inbox(OWN_NAME))],
        // A followed log is many replies.
        answer_for: Some(Duration::from_secs(60 * 60)),
        ..Grant::default()
    }
}

/// What somebody with no limit may do within the application's account.
pub fn everything() -> Grant {
    Grant { publish: vec![">".into()], subscribe: vec![">".into()], ..Grant::default() }
}

/// What may push an account's claims to the servers, by which hosts are revoked. A user of the system account.
pub fn claims(name: &str) -> Grant {
    Grant {
        publish: vec!["$SYS.REQ.CLAIMS.UPDATE".into()],
        subscribe: vec![format!("{}.>", inbox(name))],
        ..Grant::default()
    }
}

/// The users of the application's account that are no hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Follows hosts and carries out requests.
    Orchestrator,
    /// Writes the database.
    Ingest,
    /// The door for people.
    Gateway,
    /// Whoever looks at the bus itself with `pinacle replay`.
    Operator,
    /// `pinacle sim`: plays a fleet.
    Simulator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Orchestrator, Self::Ingest, Self::Gateway, Self::Operator, Self::Simulator];

    /// The user's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Ingest => "ingest",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Simulator => "simulator",
        }
    }

    /// What it may do: what its crate needs, and no more.
    pub fn grant(self) -> Grant {
        let draft = Draft::of(self.name());
        match self {
            Self::Orchestrator => orchestrator(draft),
            Self::Ingest => ingest(draft),
            Self::Gateway => gateway(draft),
            Self::Operator => operator(draft),
            Self::Simulator => draft
                .says([filter::heartbeats(), filter::metrics(), filter::inventories()])
                .looks_at(StreamName::Metrics.as_str()),
        }
        .done()
    }
}

fn orchestrator(draft: Draft) -> Draft {
    let draft = draft
        .makes_streams()
        .says([
            filter::events_of(EventKind::Host),
            filter::events_of(EventKind::Pod),
            filter::events_of(EventKind::Op),
            filter::exec(),
            filter::command(TakeInventory::VERB),
            filter::command(Logs::VERB),
        ])
        .hears([filter::heartbeats(), filter::metrics(), filter::CONNECTED.into(), filter::DISCONNECTED.into()])
        .consumes(&ORCHESTRATOR_INVENTORY)
        .consumes(&ORCHESTRATOR_REQUESTS)
        .looks_at(StreamName::Heartbeats.as_str())
        .reads(StreamName::Heartbeats.as_str())
        .reads(StreamName::Inventory.as_str())
        .recalls(StreamName::Heartbeats)
        .recalls(StreamName::Events)
        .recalls(StreamName::Requests)
        .recalls(StreamName::Inventory)
        // What a host that is removed has said last.
        .says(
            [StreamName::Heartbeats, StreamName::Inventory]
                .map(|stream| format!("$JS.API.STREAM.PURGE.{}", stream.as_str())),
        );
    let draft = [HOSTS, PODS, LEDGER, KEYS].iter().fold(draft, |draft, bucket| draft.follows(bucket));
    let draft =
        [HOSTS, PODS, LEDGER, LEASES, STATUS, KEYS].iter().fold(draft, |draft, bucket| draft.writes(bucket, ">"));
    // How far the audit log has come is ingest's to say.
    draft.never_says(format!("$KV.{}.{AUDIT_HEAD}", STATUS.name))
}

fn ingest(draft: Draft) -> Draft {
    let consumers = CONSUMERS.iter().filter(|consumer| consumer.name.starts_with("ingest-"));
    let draft = consumers.fold(draft, |draft, consumer| draft.consumes(consumer));
    let draft = draft.looks_at(StreamName::Events.as_str()).looks_at(StreamName::Exec.as_str());
    draft
        .says([filter::committed()])
        .follows(&HOSTS)
        .follows(&PODS)
        .opens(&HOSTS)
        .opens(&PODS)
        .writes(&STATUS, AUDIT_HEAD)
}

fn gateway(draft: Draft) -> Draft {
    let draft = draft
        .says([
            filter::requests(),
            filter::commands_to_all(),
            filter::events_of(EventKind::Audit),
            filter::events_of(EventKind::Dead),
        ])
        // A dead letter's message is sent again to where it came from.
        .says([filter::metrics(), filter::inventories(), filter::events(), filter::exec()])
        .hears([filter::heartbeats(), filter::metrics(), filter::committed()])
        .recalls(StreamName::Events)
        .asks_about(&ORCHESTRATOR_REQUESTS);
    let streams =
        [StreamName::Heartbeats, StreamName::Metrics, StreamName::Requests, StreamName::Events, StreamName::Exec];
    let draft = streams.into_iter().fold(draft, |draft, stream| draft.looks_at(stream.as_str()).reads(stream.as_str()));
    draft.follows(&HOSTS).follows(&PODS).lists(&STATUS).opens(&KEYS).writes(&IDEMPOTENCY, ">")
}

fn operator(draft: Draft) -> Draft {
    let streams = StreamName::DECLARED.into_iter();
    let draft = streams.fold(draft, |draft, stream| draft.looks_at(stream.as_str()).reads(stream.as_str()));
    draft.follows(&HOSTS).follows(&PODS).opens(&STATUS)
}

/// A grant in the making: one call for each thing that its user does.
struct Draft {
    grant: Grant,
    reads: Vec<String>,
    consumes: Vec<&'static str>,
}

impl Draft {
    fn of(name: &str) -> Self {
        let grant = Grant { subscribe: vec![format!("{}.>", inbox(name))], ..Grant::default() };
        Self { grant, reads: Vec::new(), consumes: Vec::new() }
    }

    fn says(mut self, subjects: impl IntoIterator<Item = String>) -> Self {
        self.grant.publish.extend(subjects);
        self
    }

    fn never_says(mut self, subject: String) -> Self {
        self.grant.never_publish.push(subject);
        self
    }

    fn hears(mut self, subjects: impl IntoIterator<Item = String>) -> Self {
        self.grant.subscribe.extend(subjects);
        self
    }

    /// Makes and changes streams, buckets and consumers: the topology.
    fn makes_streams(self) -> Self {
        let streams = StreamName::DECLARED.iter().map(|stream| stream.as_str().to_owned());
        let all: Vec<String> = streams.chain(BUCKETS.iter().map(stream_of)).collect();
        let subjects =
            all.iter().flat_map(|stream| ["CREATE", "UPDATE"].map(|what| format!("$JS.API.STREAM.{what}.{stream}")));
        let consumers =
            CONSUMERS.iter().map(|spec| format!("$JS.API.CONSUMER.CREATE.{}.{}", spec.stream.as_str(), spec.name));
        // Before a bucket is made the client asks what the server can.
        let server = ["$JS.API.INFO".to_owned()];
        let subjects: Vec<String> = subjects.chain(consumers).chain(server).collect();
        self.says(subjects)
    }

    /// Asks how far a stream has come.
    fn looks_at(self, stream: &str) -> Self {
        self.says([format!("$JS.API.STREAM.INFO.{stream}")])
    }

    /// Asks how far a consumer has come.
    fn asks_about(self, consumer: &ConsumerSpec) -> Self {
        self.says([format!("$JS.API.CONSUMER.INFO.{}.{}", consumer.stream.as_str(), consumer.name)])
    }

    /// Reads a stream in order through consumers of its own that have no lasting name.
    fn reads(mut self, stream: &str) -> Self {
        self.reads.push(stream.to_owned());
        self.says([
            format!("$JS.API.CONSUMER.CREATE.{stream}"),
            // When a flow breaks off the client makes the consumer anew under a name of its own.
            format!("$JS.API.CONSUMER.CREATE.{stream}.>"),
            format!("$JS.API.CONSUMER.DELETE.{stream}.*"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.*"),
        ])
    }

    /// Asks for the newest message of a subject.
    fn recalls(self, stream: StreamName) -> Self {
        self.says([format!("$JS.API.DIRECT.GET.{}.>", stream.as_str())])
    }

    /// Works on a durable consumer's messages, and lays aside those that cannot be handled.
    fn consumes(mut self, spec: &ConsumerSpec) -> Self {
        self.consumes.push(spec.name);
        let place = format!("{}.{}", spec.stream.as_str(), spec.name);
        self.says([
            format!("$JS.API.CONSUMER.CREATE.{place}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{place}"),
            format!("$JS.ACK.{place}.>"),
            format!("{PREFIX}.dead.{place}"),
        ])
    }

    /// Follows a bucket's changes.
    fn follows(self, bucket: &BucketSpec) -> Self {
        let stream = stream_of(bucket);
        self.looks_at(&stream).reads(&stream)
    }

    /// Lists a bucket's records.
    fn lists(self, bucket: &BucketSpec) -> Self {
        let stream = stream_of(bucket);
        self.opens(bucket).says([
            format!("$JS.API.CONSUMER.CREATE.{stream}"),
            format!("$JS.API.CONSUMER.CREATE.{stream}.>"),
            format!("$JS.API.CONSUMER.DELETE.{stream}.*"),
        ])
    }

    /// Reads a bucket's records one by one.
    fn opens(self, bucket: &BucketSpec) -> Self {
        let stream = stream_of(bucket);
        self.looks_at(&stream).says([format!("$JS.API.DIRECT.GET.{stream}.>")])
    }

    /// Writes a bucket's records under these keys.
    fn writes(self, bucket: &BucketSpec, keys: &str) -> Self {
        self.opens(bucket).says([format!("$KV.{}.{keys}", bucket.name)])
    }

    /// Each subject once. Who may read a stream has no business with the durable consumers of others on it.
    fn done(mut self) -> Grant {
        for spec in CONSUMERS.iter().filter(|spec| !self.consumes.contains(&spec.name)) {
            let stream = spec.stream.as_str();
            if self.reads.iter().any(|read| read == stream) {
                let consumer = format!("{stream}.{}", spec.name);
                // Whoever makes the topology makes these, too.
                if !self.grant.publish.contains(&format!("$JS.API.CONSUMER.CREATE.{consumer}")) {
                    self.grant.never_publish.push(format!("$JS.API.CONSUMER.CREATE.{consumer}"));
                    self.grant.never_publish.push(format!("$JS.API.CONSUMER.CREATE.{consumer}.>"));
                }
                self.grant.never_publish.push(format!("$JS.API.CONSUMER.DELETE.{consumer}"));
                self.grant.never_publish.push(format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"));
            }
        }
        for list in [&mut self.grant.publish, &mut self.grant.never_publish, &mut self.grant.subscribe] {
            list.sort();
            list.dedup();
        }
        self.grant
    }
}

fn stream_of(bucket: &BucketSpec) -> String {
    format!("KV_{}", bucket.name)
}
