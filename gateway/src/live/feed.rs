//! Fills the live state from the bus: one task a source, so that none waits for another.
//!
//! What comes from the bus is untrusted: what cannot be read, or comes under somebody else's subject, is counted and
//! skipped.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use pinacle_bus::{
    client::{Bus, Change, Incoming, Start, Stored, Watch},
    contract::{
        DecodeError, HostId, Message, PodId, Subject, Timestamp,
        event::{Event, OPERATION_CHANGED},
        host::{Heartbeat, HostRecord},
        metrics::Metrics,
        pod::{CreatePod, PodRecord},
        request::{Operation, Request},
        subject::{EventKind, filter},
        topology::{HOSTS, ORCHESTRATOR_REQUESTS, PODS, StreamName},
    },
    service::{Condition, OnFailure, Supervisor},
};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    Live,
    events::LiveEvent,
    fleet::{Arrival, PodAsked, Received, Taken},
};

/// Pause after the bus broke off.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the newest stored heartbeats and samples are read at the start.
const PRIMING: Duration = Duration::from_secs(10);

/// Which parts of the live state have arrived. They stay: while the bus is away, the newest state is still known.
#[derive(Clone)]
pub struct Primed(Arc<watch::Sender<[bool; 4]>>);

#[derive(Clone, Copy)]
enum Part {
    Hosts = 0,
    Pods = 1,
    Events = 2,
    Requests = 3,
}

impl Default for Primed {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new([false; 4])))
    }
}

impl Primed {
    fn done(&self, part: Part) {
        self.0.send_modify(|parts| {
            if let Some(done) = parts.get_mut(part as usize) {
                *done = true;
            }
        });
    }

    /// Whether all have.
    pub fn is_complete(&self) -> bool {
        self.0.borrow().iter().all(|done| *done)
    }

    async fn complete(&self) {
        // The sender lives in `self`, so this ends only when all is there.
        let _ = self.0.subscribe().wait_for(|parts| parts.iter().all(|done| *done)).await;
    }
}

/// Starts the tasks. `condition` is met once the live state has arrived.
pub fn start(supervisor: &Supervisor, live: &Arc<Live>, condition: Condition) {
    let task = |name: &'static str, run: fn(Arc<Live>) -> Task| {
        let live = live.clone();
        supervisor.spawn(name, OnFailure::Restart, move || {
            let live = live.clone();
            async move {
                let stop = live.shutdown.clone();
                stop.run_until_cancelled(run(live)).await.unwrap_or(Ok(()))
            }
        });
    };
    task("live hosts", |live| Box::pin(hosts(live)));
    task("live pods", |live| Box::pin(pods(live)));
    task("live heartbeats", |live| Box::pin(heartbeats(live)));
    task("live metrics", |live| Box::pin(samples(live)));
    task("live events", |live| Box::pin(events(live)));
    task("live requests", |live| Box::pin(requests(live)));
    let live = live.clone();
    supervisor.spawn_once("live readiness", async move {
        if live.shutdown.run_until_cancelled(live.primed.complete()).await.is_some() {
            condition.met();
        }
        Ok(())
    });
}

type Task = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Counts what cannot be read.
pub fn skip(what: &'static str, error: &DecodeError) {
    metrics::counter!("pinacle_gateway_live_skipped_total", "what" => what, "reason" => "malformed").increment(1);
    debug!(%error, what, "skipped what cannot be read");
}

fn skip_for(what: &'static str, reason: &'static str) {
    metrics::counter!("pinacle_gateway_live_skipped_total", "what" => what, "reason" => reason).increment(1);
}

/// The next change; breaks of the flow are waited out.
async fn next_change<T: Message>(watch: &mut Watch<T>) -> Change<T> {
    loop {
        match watch.next().await {
            Ok(change) => return change,
            Err(error) => {
                debug!(%error, "the watch of a bucket broke off; going on");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn hosts(live: Arc<Live>) -> anyhow::Result<()> {
    let bucket = live.bus.bucket::<HostRecord>(&HOSTS).await.context("open the bucket of hosts")?;
    let mut watch = bucket.watch();
    loop {
        match next_change(&mut watch).await {
            Change::Put { key, entry } if key == entry.record.host_id.to_string() => {
                let owner = entry.record.owner.clone();
                if live.fleet.host_put(entry.record) {
                    live.operations.passed_on(&key, owner.as_deref());
                }
            }
            Change::Put { .. } => skip_for("host_record", "foreign_key"),
            Change::Deleted { key, .. } => {
                if let Ok(host) = key.parse::<HostId>() {
                    live.fleet.host_removed(host);
                }
            }
            Change::Malformed { error, .. } => skip("host_record", &error),
            Change::Current => live.primed.done(Part::Hosts),
        }
    }
}

async fn pods(live: Arc<Live>) -> anyhow::Result<()> {
    let bucket = live.bus.bucket::<PodRecord>(&PODS).await.context("open the bucket of pods")?;
    let mut watch = bucket.watch();
    loop {
        match next_change(&mut watch).await {
            Change::Put { key, entry } if key == entry.record.pod_id.to_string() => {
                live.operations.recorded(&entry.record);
                let owner = entry.record.owner.clone();
                if live.fleet.pod_put(entry.record) {
                    live.operations.passed_on(&key, Some(&owner));
                }
            }
            Change::Put { .. } => skip_for("pod_record", "foreign_key"),
            Change::Deleted { key, .. } => {
                if let Ok(pod) = key.parse::<PodId>() {
                    live.fleet.pod_removed(pod);
                }
            }
            Change::Malformed { error, .. } => skip("pod_record", &error),
            Change::Current => live.primed.done(Part::Pods),
        }
    }
}

async fn heartbeats(live: Arc<Live>) -> anyhow::Result<()> {
    let mut subscription = live.bus.subscribe(filter::heartbeats()).await.context("subscribe to heartbeats")?;
    live.primed.complete().await;
    prime::<Heartbeat>(&live, StreamName::Heartbeats, take_heartbeat).await;
    while let Some(incoming) = subscription.next().await {
        take(&live, &incoming, take_heartbeat);
    }
    anyhow::bail!("the subscription to heartbeats ended")
}

async fn samples(live: Arc<Live>) -> anyhow::Result<()> {
    let mut subscription = live.bus.subscribe(filter::metrics()).await.context("subscribe to metrics")?;
    live.primed.complete().await;
    prime::<Metrics>(&live, StreamName::Metrics, take_metrics).await;
    while let Some(incoming) = subscription.next().await {
        take(&live, &incoming, take_metrics);
    }
    anyhow::bail!("the subscription to metrics ended")
}

type Take<M> = fn(&Live, HostId, Received<M>, Arrival) -> Option<Taken>;

fn take_heartbeat(live: &Live, host: HostId, received: Received<Heartbeat>, arrival: Arrival) -> Option<Taken> {
    (received.value.host_id == host).then(|| live.fleet.heartbeat(received, arrival))
}

fn take_metrics(live: &Live, host: HostId, received: Received<Metrics>, arrival: Arrival) -> Option<Taken> {
    (received.value.host_id == host).then(|| live.fleet.metrics(received, arrival))
}

fn take<M: Message>(live: &Live, incoming: &Incoming, take: Take<M>) {
    match incoming.decode::<M>() {
        Ok(value) => {
            let received = Received { received_at: Timestamp::now(), value };
            note::<M>(sender(&incoming.subject).and_then(|host| take(live, host, received, Arrival::Live)));
        }
        Err(error) => skip(M::NAME, &error),
    }
}

/// The newest message of each host from its stream, so that a gateway that has just started knows what others know.
async fn prime<M: Message>(live: &Live, stream: StreamName, take: Take<M>) {
    let read = async {
        let (first, last) = live.bus.stream_bounds(stream).await?;
        if first > last {
            return Ok(());
        }
        let mut reader = live.bus.read(stream, Start::LastOfEach, None);
        loop {
            let stored: Stored = reader.next().await?;
            match stored.decode::<M>() {
                Ok(value) => {
                    let received = Received { received_at: stored.published_at, value };
                    note::<M>(sender(&stored.subject).and_then(|host| take(live, host, received, Arrival::Stored)));
                }
                Err(error) => skip(M::NAME, &error),
            }
            if stored.pending == 0 {
                return Ok::<(), pinacle_bus::client::BusError>(());
            }
        }
    };
    match timeout(PRIMING, read).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, what = M::NAME, "cannot read what was before; what comes will do"),
        Err(_) => debug!(what = M::NAME, "what was before takes too long; what comes will do"),
    }
}

fn note<M: Message>(taken: Option<Taken>) {
    match taken {
        Some(Taken::Yes) => {
            metrics::counter!("pinacle_gateway_live_taken_total", "what" => M::NAME).increment(1);
        }
        Some(Taken::Older) => skip_for(M::NAME, "older"),
        Some(Taken::UnknownHost) => skip_for(M::NAME, "unknown_host"),
        None => skip_for(M::NAME, "foreign_subject"),
    }
}

/// The host that a subject belongs to. The bus lets a host publish to its own subjects only.
fn sender(subject: &str) -> Option<HostId> {
    match subject.parse() {
        Ok(Subject::Heartbeat(host) | Subject::Metrics(host)) => Some(host),
        _ => None,
    }
}

async fn events(live: Arc<Live>) -> anyhow::Result<()> {
    anew(live, "events", |live| Box::pin(follow_events(live))).await
}

async fn requests(live: Arc<Live>) -> anyhow::Result<()> {
    anew(live, "requests", |live| Box::pin(follow_requests(live))).await
}

/// Follows a stream for ever, from the start after each reconnect, since it may be another one then. What was read
/// already is known, so that reading it again changes nothing.
async fn anew(live: Arc<Live>, what: &'static str, follow: fn(Arc<Live>) -> Task) -> anyhow::Result<()> {
    let mut connection = live.bus.connection();
    loop {
        connection.borrow_and_update();
        let followed = tokio::select! {
            // cancel-safe: what was read is known.
            followed = follow(live.clone()) => followed,
            // cancel-safe: a watch keeps its value.
            _ = connection.changed() => continue,
        };
        if let Err(error) = followed {
            warn!(%error, what, "cannot follow the bus; trying again");
            sleep(PAUSE).await;
        }
    }
}

async fn follow_events(live: Arc<Live>) -> anyhow::Result<()> {
    connected(&live.bus).await;
    let (first, last) = live.bus.stream_bounds(StreamName::Events).await?;
    let log = &live.events;
    let next = log.next();
    if next < first || next > last + 1 {
        let recent = u64::try_from(log.capacity()).unwrap_or(u64::MAX);
        log.restart((last + 1).saturating_sub(recent).max(first));
    }
    let mut reader = live.bus.read(StreamName::Events, Start::Sequence(log.next()), None);
    loop {
        if log.next() > last {
            live.primed.done(Part::Events);
        }
        let stored = reader.next().await?;
        if stored.sequence > log.next() && live.bus.stream_bounds(StreamName::Events).await?.0 > log.next() {
            // The stream dropped events before we read them; from here on the log is complete again.
            log.restart(stored.sequence);
        }
        let event = stored.decode::<Event>().and_then(|event| {
            operation_told(&live, &event);
            LiveEvent::written(&stored, &event)
        });
        log.push(stored.sequence, event.inspect_err(|error| skip("event", error)).ok().flatten());
    }
}

/// What an event says of an operation, if it does.
fn operation_told(live: &Live, event: &Event) {
    if event.kind != EventKind::Op || event.what != OPERATION_CHANGED {
        return;
    }
    let Ok(operation) = Operation::deserialize(&event.detail) else { return skip_for("operation", "malformed") };
    if operation.check().is_err() || operation.operation_id.to_string() != event.target_id {
        return skip_for("operation", "foreign_subject");
    }
    let pod = operation.target_id.parse::<PodId>().ok();
    let owner = live.fleet.owner_of(&operation.target_id);
    // One that ended before it was taken up made nothing.
    if let Some(pod) = pod.filter(|_| operation.ended_at.is_some() && operation.steps.is_empty()) {
        live.fleet.pod_refused(pod, operation.operation_id);
    }
    live.operations.told(operation, owner);
}

/// Requests that the orchestrator has not dealt with yet. From then on the pods' records and the events tell.
async fn follow_requests(live: Arc<Live>) -> anyhow::Result<()> {
    connected(&live.bus).await;
    let (first, last) = live.bus.stream_bounds(StreamName::Requests).await?;
    let from = (live.bus.dealt_with(&ORCHESTRATOR_REQUESTS).await? + 1).max(first);
    let mut reader = live.bus.read(StreamName::Requests, Start::Sequence(from), None);
    let mut next = from;
    loop {
        if next > last {
            live.primed.done(Part::Requests);
        }
        let stored = reader.next().await?;
        next = stored.sequence + 1;
        match stored.decode::<Request>() {
            Ok(request) => requested(&live, request),
            Err(error) => skip("request", &error),
        }
    }
}

/// Somebody asked for something: it is known from now on.
pub fn requested(live: &Live, request: Request) {
    let pod = request.target_id.parse::<PodId>().ok();
    let create = CreatePod::deserialize(&request.parameters);
    if let (Some(pod), "create", Ok(create)) = (pod, request.verb.as_str(), create) {
        let (operation_id, requested_at) = (request.operation_id, request.requested_at);
        live.fleet.pod_asked(pod, PodAsked { operation_id, requested_at, create });
    }
    let owner = live.fleet.owner_of(&request.target_id);
    live.operations.asked(request, owner);
}

async fn connected(bus: &Bus) {
    // The sender lives as long as the bus.
    let _ = bus.connection().wait_for(|connection| connection.connected).await;
}
