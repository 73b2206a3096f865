//! Requests: each is written into the live record of what it is about, and then acknowledged. What cannot be done is told
//! as an operation that failed, with the reason.

use std::{sync::Arc, time::Duration};

use pinacle_bus::{
    client::{BusError, Delivered, Entry, Outcome, consume},
    contract::{
        PodId, Subject, Timestamp,
        key::{PodSecrets, SSH_KEY_RING},
        message::Message,
        pod::{CreatePod, Desired, LONGEST_QUEUE, PodPhase, PodRecord, PodSpec},
        request::{CancelOperation, OwnersSecrets, Progress, Request, StartPod, TransferPod},
        topology::{ORCHESTRATOR_REQUESTS, StreamName},
    },
};
use serde::de::DeserializeOwned;

use crate::{
    keys::KeysError,
    lease::won,
    operation::{context::Engine, plan::Verb},
    reconcile::ReconcileError,
    record::{knows, operation_of},
    tell,
    terms::{Terms, TermsError},
};

const AT_ONCE: usize = 64;
/// A request that comes before its pod's creation was written waits so long, at most for [`CREATION_WITHIN`].
const SOON: Duration = Duration::from_millis(200);
const CREATION_WITHIN: Duration = Duration::from_secs(30);
const DEFAULT_RUNTIME: &str = "runsc";
const CANCEL: &str = "cancel";
const ROTATE: &str = "rotate";
const TRANSFER: &str = "transfer";

/// What becomes of a request.
enum Verdict {
    /// It is in the record, or was before.
    Accepted,
    /// All that was asked for is the case already, or has just been done.
    Done,
    /// It cannot be done; why.
    Refused(String),
    /// It may be possible in a moment.
    NotYet,
}

/// Accepts requests until shutdown.
pub async fn run(engine: Engine, terms: Terms) {
    let (bus, shutdown) = (engine.bus.clone(), engine.shutdown.clone());
    let shared = Arc::new((engine, terms));
    consume(&bus, &ORCHESTRATOR_REQUESTS, AT_ONCE, shutdown, move |delivered| {
        let shared = shared.clone();
        async move { accept(&shared.0, &shared.1, &delivered).await }
    })
    .await;
}

async fn accept(engine: &Engine, terms: &Terms, delivered: &Delivered) -> Outcome {
    let request: Request = match delivered.decode() {
        Ok(request) => request,
        Err(error) => return Outcome::Reject { reason: error.to_string() },
    };
    let (kind, id, verb) = (request.kind.clone(), request.target_id.clone(), request.verb.clone());
    if delivered.subject.parse() != Ok(Subject::Request { kind, id, verb }) {
        return Outcome::Reject { reason: "its subject is about something else than its content".into() };
    }
    let verdict = match request.kind.as_str() {
        "pod" => pod(engine, &request).await,
        "host" => match terms.handle(engine, &request).await {
            Ok(()) => return Outcome::Done,
            Err(TermsError::NotYet) => return Outcome::Later(SOON),
            Err(error) => return Outcome::Retry { reason: error.to_string() },
        },
        "key" => key(engine, &request).await,
        other => Ok(Verdict::Refused(format!("nothing is known of things of the kind {other}"))),
    };
    let told = match verdict {
        Ok(Verdict::Accepted) => Ok(()),
        Ok(Verdict::NotYet) => return Outcome::Later(SOON),
        Ok(Verdict::Done) => tell_end(engine, &request, Progress::Succeeded, None).await,
        Ok(Verdict::Refused(why)) => tell_end(engine, &request, Progress::Failed, Some(&why)).await,
        Err(error) => Err(error),
    };
    match told {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Retry { reason: error.to_string() },
    }
}

/// Tells of a request that was never taken up how it ended. Once more is the same.
async fn tell_end(
    engine: &Engine,
    request: &Request,
    progress: Progress,
    cause: Option<&str>,
) -> Result<(), ReconcileError> {
    let mut operation = operation_of(request, &[], request.requested_at, request.requested_at);
    operation.progress = progress;
    operation.cause = cause.map(|cause| cause.chars().take(1000).collect());
    operation.ended_at = Some(Timestamp::now());
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    let message = format!("{} of {}: {}{cause}", request.verb, request.target_id, progress.as_str());
    tell::operation(&engine.bus, &operation, &message).await
}

async fn pod(engine: &Engine, request: &Request) -> Result<Verdict, ReconcileError> {
    let Ok(pod) = request.target_id.parse::<PodId>() else {
        return Ok(Verdict::Refused(format!("{} is no pod's id", request.target_id)));
    };
    match (request.verb.as_str(), Verb::find(&request.verb)) {
        (CANCEL, _) => cancel(engine, pod, request).await,
        (TRANSFER, _) => transfer(engine, pod, request).await,
        (_, Some(Verb::Create)) => create(engine, pod, request).await,
        // Only reconcilers clean.
        (_, Some(verb)) if verb != Verb::Clean => queue(engine, pod, verb, request).await,
        _ => Ok(Verdict::Refused(format!("a pod knows no {}", request.verb))),
    }
}

/// The SSH key is exchanged: here it is made, and a reconciler brings it to the hosts.
async fn key(engine: &Engine, request: &Request) -> Result<Verdict, ReconcileError> {
    if (request.target_id.as_str(), request.verb.as_str()) != (SSH_KEY_RING, ROTATE) {
        return Ok(Verdict::Refused(format!("nothing is known of {} of a key {}", request.verb, request.target_id)));
    }
    if !engine.view.is_complete() {
        return Ok(Verdict::NotYet);
    }
    let hosts = engine.view.hosts().iter().filter(|host| host.facts.ssh.is_some()).map(|host| host.host_id).collect();
    Ok(match engine.keys.rotate(request.request_id, hosts).await {
        Ok(Ok(())) => Verdict::Done,
        Ok(Err(why)) => Verdict::Refused(why),
        Err(KeysError::Bus(error)) => return Err(error.into()),
        Err(error) => Verdict::Refused(error.to_string()),
    })
}

fn parameters<T: DeserializeOwned>(request: &Request) -> Result<T, String> {
    T::deserialize(&request.parameters).map_err(|error| format!("its parameters are not as they must be: {error}"))
}

async fn create(engine: &Engine, pod: PodId, request: &Request) -> Result<Verdict, ReconcileError> {
    let key = pod.to_string();
    if let Some(entry) = engine.pods.get(&key).await? {
        if knows(&entry.record, request.operation_id) {
            return Ok(Verdict::Accepted);
        }
        return Ok(Verdict::Refused(format!("there is a pod {pod} already, called {}", entry.record.name)));
    }
    let record = match parameters::<CreatePod>(request).and_then(|wanted| expanded(engine, pod, request, wanted)) {
        Ok(record) => record,
        Err(why) => return Ok(Verdict::Refused(why)),
    };
    if let Some(why) = name_taken(engine, pod, &record.owner, &record.name) {
        return Ok(Verdict::Refused(why));
    }
    match won(engine.pods.create(&key, &record).await)? {
        true => Ok(Verdict::Accepted),
        // Delivered twice at once.
        false => Ok(Verdict::NotYet),
    }
}

/// Why an owner cannot have this pod under this name, if so.
fn name_taken(engine: &Engine, pod: PodId, owner: &str, name: &str) -> Option<String> {
    let same = |other: &PodRecord| {
        (other.name.as_str(), other.owner.as_str()) == (name, owner)
            && other.phase != PodPhase::Deleted
            && other.desired != Desired::Deleted
            && other.pod_id != pod
    };
    let pods = engine.view.pods();
    let other = pods.iter().find(|other| same(&other.entry.record))?.entry.record.pod_id;
    Some(format!("{owner} has a pod called {name} already: {other}"))
}

/// The record that a creation begins with.
fn expanded(engine: &Engine, pod: PodId, request: &Request, wanted: CreatePod) -> Result<PodRecord, String> {
    wanted.check().map_err(|invalid| invalid.to_string())?;
    let runtime = wanted.runtime.unwrap_or_else(|| DEFAULT_RUNTIME.into());
    if runtime == "runc" && !engine.settings.allow_runc {
        return Err("the runtime runc is not allowed in this installation (orchestrator.allow_runc)".into());
    }
    let spec = PodSpec {
        tier: wanted.tier,
        image: wanted.image.unwrap_or_else(|| engine.settings.base_image.clone()),
        runtime,
        environment: wanted.environment,
        host_labels: wanted.host_labels,
        only_host: wanted.only_host,
        restart: wanted.restart,
    };
    let record = PodRecord {
        pod_id: pod,
        name: wanted.name,
        owner: wanted.owner,
        spec,
        desired: Desired::Running,
        phase: PodPhase::Pending,
        cause: None,
        phase_since: Timestamp::now(),
        created_at: request.requested_at,
        host_id: None,
        external_port: None,
        subnet: None,
        residue: false,
        restarts: 0,
        restarted_at: None,
        restart_at: None,
        operation: None,
        cancelled_by: None,
        queue: vec![without_secrets(request)],
        ended_operations: Vec::new(),
        fence: 0,
        secrets: wanted.secrets,
    };
    record.check().map_err(|invalid| invalid.to_string())?;
    Ok(record)
}

/// The record has them once, where they are dropped with the pod.
fn without_secrets(request: &Request) -> Request {
    let mut request = request.clone();
    if let Some(parameters) = request.parameters.as_object_mut() {
        parameters.remove("secrets");
    }
    request
}

/// The live record of a pod; without one, what that means for a request about it.
async fn known(engine: &Engine, pod: PodId) -> Result<Result<Entry<PodRecord>, Verdict>, BusError> {
    if let Some(entry) = engine.pods.get(&pod.to_string()).await? {
        return Ok(Ok(entry));
    }
    let subject = Subject::Request { kind: "pod".into(), id: pod.to_string(), verb: Verb::Create.as_str().into() };
    let creation = engine.bus.last(StreamName::Requests, &subject).await?;
    let is_coming = creation.is_some_and(|stored| stored.published_at.plus(CREATION_WITHIN) > Timestamp::now());
    Ok(Err(if is_coming { Verdict::NotYet } else { Verdict::Refused(format!("there is no pod {pod}")) }))
}

/// Whether a pod's end has been asked for.
fn is_to_go(record: &PodRecord) -> bool {
    let delete = Verb::Delete.as_str();
    record.desired == Desired::Deleted
        || record.queue.iter().any(|request| request.verb == delete)
        || record.operation.as_ref().is_some_and(|operation| operation.verb == delete)
}

async fn queue(engine: &Engine, pod: PodId, verb: Verb, request: &Request) -> Result<Verdict, ReconcileError> {
    loop {
        let entry = match known(engine, pod).await? {
            Ok(entry) => entry,
            Err(verdict) => return Ok(verdict),
        };
        let mut record = entry.record.clone();
        if knows(&record, request.operation_id) {
            return Ok(Verdict::Accepted);
        }
        if record.phase == PodPhase::Deleted && !record.residue {
            return Ok(match verb {
                Verb::Delete => Verdict::Done,
                _ => Verdict::Refused(format!("{} has been deleted", record.name)),
            });
        }
        // A deletion that was given up, because its host was away, may be asked for again.
        if is_to_go(&record) && !(verb == Verb::Delete && record.operation.is_none() && record.queue.is_empty()) {
            return Ok(Verdict::Refused(format!("{} is being deleted", record.name)));
        }
        let mut dropped = Vec::new();
        if verb == Verb::Delete {
            dropped = std::mem::take(&mut record.queue);
            let under_way = record.operation.as_ref().filter(|operation| operation.ended_at.is_none());
            if under_way.is_some_and(|operation| operation.verb != Verb::Clean.as_str()) {
                record.cancelled_by.get_or_insert_with(|| request.requested_by.clone());
            }
        } else if record.queue.len() >= LONGEST_QUEUE {
            return Ok(Verdict::Refused(format!("{LONGEST_QUEUE} requests wait for {} already", record.name)));
        }
        if let Err(why) = renew_secrets(&mut record, verb, request) {
            return Ok(Verdict::Refused(why));
        }
        record.queue.push(without_secrets(request));
        if won(engine.pods.update(&pod.to_string(), &record, entry.revision).await)? {
            for other in dropped {
                let cause = format!("{} asked for the pod's deletion", request.requested_by);
                tell_end(engine, &other, Progress::Cancelled, Some(&cause)).await?;
            }
            return Ok(Verdict::Accepted);
        }
    }
}

/// A start brings the newest values along. They are not taken when the pod has been given to somebody else meanwhile.
fn renew_secrets(record: &mut PodRecord, verb: Verb, request: &Request) -> Result<(), String> {
    if !matches!(verb, Verb::Start | Verb::Restart) {
        return Ok(());
    }
    let Some(OwnersSecrets { owner, secrets }) = parameters::<StartPod>(request)?.secrets else { return Ok(()) };
    let Some(had) = record.secrets.as_mut().filter(|had| owner == record.owner && had.names == secrets.names) else {
        return Ok(());
    };
    secrets.check().map_err(|invalid| invalid.to_string())?;
    *had = secrets;
    Ok(())
}

async fn cancel(engine: &Engine, pod: PodId, request: &Request) -> Result<Verdict, ReconcileError> {
    let wanted: CancelOperation = match parameters(request) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(Verdict::Refused(why)),
    };
    loop {
        let entry = match known(engine, pod).await? {
            Ok(entry) => entry,
            Err(verdict) => return Ok(verdict),
        };
        let mut record = entry.record.clone();
        let is_it = |id| id == wanted.operation_id;
        let waiting = record.queue.iter().position(|queued| is_it(queued.operation_id));
        let mut taken_out = None;
        if let Some(place) = waiting {
            taken_out = Some(record.queue.remove(place));
        } else if record.operation.as_ref().is_some_and(|under_way| is_it(under_way.operation_id)) {
            let Some(under_way) = record.operation.as_ref().filter(|operation| operation.ended_at.is_none()) else {
                return Ok(Verdict::Refused("the operation has ended".into()));
            };
            if [Verb::Delete, Verb::Clean].iter().any(|verb| verb.as_str() == under_way.verb) {
                return Ok(Verdict::Refused("a deletion that has begun cannot be cancelled".into()));
            }
            if record.cancelled_by.is_some() {
                return Ok(Verdict::Done);
            }
            record.cancelled_by = Some(request.requested_by.clone());
        } else if record.ended_operations.contains(&wanted.operation_id) {
            return Ok(Verdict::Refused("the operation has ended".into()));
        } else {
            return Ok(Verdict::Refused(format!("{} has no operation {}", record.name, wanted.operation_id)));
        }
        if !won(engine.pods.update(&pod.to_string(), &record, entry.revision).await)? {
            continue;
        }
        if let Some(other) = taken_out {
            let cause = format!("cancelled by {}", request.requested_by);
            tell_end(engine, &other, Progress::Cancelled, Some(&cause)).await?;
            if other.verb == Verb::Create.as_str() {
                never_made(engine, pod, &cause).await?;
            }
        }
        return Ok(Verdict::Done);
    }
}

/// The pod is another owner's from then on, and so are its secrets, which are in nobody's memory meanwhile. Nothing on its
/// host changes: labels say whose it was when it was made.
async fn transfer(engine: &Engine, pod: PodId, request: &Request) -> Result<Verdict, ReconcileError> {
    let TransferPod { owner, secrets } = match parameters(request) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(Verdict::Refused(why)),
    };
    loop {
        let entry = match known(engine, pod).await? {
            Ok(entry) => entry,
            Err(verdict) => return Ok(verdict),
        };
        let mut record = entry.record.clone();
        if record.owner == owner {
            return Ok(Verdict::Done);
        }
        if record.phase == PodPhase::Deleted || is_to_go(&record) {
            return Ok(Verdict::Refused(format!("{} is deleted, or is being", record.name)));
        }
        if let Some(why) = name_taken(engine, pod, &owner, &record.name) {
            return Ok(Verdict::Refused(why));
        }
        if record.holds_secrets() {
            let why = format!("{} has its owner's secrets in memory: stop it before it is given away", record.name);
            return Ok(Verdict::Refused(why));
        }
        let names = |secrets: &Option<PodSecrets>| secrets.as_ref().map(|secrets| secrets.names.clone());
        if names(&record.secrets) != names(&secrets) {
            let why = format!("the secrets of {} would not be its new owner's: ask for it again", record.name);
            return Ok(Verdict::Refused(why));
        }
        (record.owner, record.secrets) = (owner.clone(), secrets.clone());
        if let Err(invalid) = record.check() {
            return Ok(Verdict::Refused(invalid.to_string()));
        }
        if won(engine.pods.update(&pod.to_string(), &record, entry.revision).await)? {
            return Ok(Verdict::Done);
        }
    }
}

/// A pod whose creation was cancelled before it was taken up.
async fn never_made(engine: &Engine, pod: PodId, cause: &str) -> Result<(), ReconcileError> {
    let key = pod.to_string();
    while let Some(mut entry) = engine.pods.get(&key).await? {
        if entry.record.phase != PodPhase::Pending {
            break;
        }
        crate::record::settle(&mut entry.record, PodPhase::Failed, Some(cause.into()));
        if won(engine.pods.update(&key, &entry.record, entry.revision).await)? {
            tell::phase_changed(&engine.bus, &entry.record).await?;
            break;
        }
    }
    Ok(())
}
