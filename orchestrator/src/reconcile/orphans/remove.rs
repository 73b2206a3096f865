//! Listing and removing on a host, over SSH, as an operation on the host with an exec record for each command.

use std::time::Duration;

use pinacle_bus::contract::{
    OperationId, PodId, RequestId, Timestamp,
    host::HostRecord,
    request::{Operation, OperationStep, Progress},
};

use super::{Kind, Stray};
use crate::{
    reconcile::{
        ReconcileError,
        context::{Context, PINACLE},
    },
    ssh::{Command, ExecSink, FENCES, Finished, fence_file},
    tell,
};

const LIST_WITHIN: Duration = Duration::from_secs(3);
const REMOVE_WITHIN: Duration = Duration::from_secs(5);
/// A run has little time; the next one goes on.
const MOST_AT_ONCE: usize = 2;
const LONGEST: Duration = Duration::from_secs(15);
const VERB: &str = "remove-orphans";
/// Fences that one run removes.
const MOST_FENCES: usize = 100;

/// The volumes of pods on a host.
///
/// # Errors
/// Why they cannot be listed, for people.
pub async fn volumes(context: &Context, host: &HostRecord) -> Result<Vec<Stray>, String> {
    let command = Command::new("docker")
        .args(["volume", "ls", "--filter", "label=pinacle.pod"])
        .args(["--format", r#"{{.Name}} {{.Label "pinacle.pod"}}"#]);
    let text = unrecorded(context, host, command).await?;
    let stray = |line: &str| {
        let (name, pod) = line.split_once(' ')?;
        let name = name.to_owned();
        Some(Stray { kind: Kind::Volume, handle: name.clone(), name, pod_id: Some(pod.trim().parse().ok()?) })
    };
    Ok(text.lines().filter_map(stray).collect())
}

/// Removes the fences of pods that nobody remembers any more: no command for one can still be on its way.
///
/// # Errors
/// Why that was not possible, for people.
pub async fn fences(context: &Context, host: &HostRecord) -> Result<(), String> {
    let listed = unrecorded(context, host, Command::shell("ls \"$1\" 2>/dev/null || true").arg(FENCES)).await?;
    let mut forgotten = Vec::new();
    let unknown =
        listed.lines().filter_map(|name| name.parse::<PodId>().ok()).filter(|pod| context.view.pod(*pod).is_none());
    for pod in unknown.take(MOST_FENCES) {
        // The view may lag behind a creation.
        let record = context.pods.get(&pod.to_string()).await.map_err(|error| error.to_string())?;
        if record.is_none() {
            forgotten.push(fence_file(pod));
        }
    }
    if forgotten.is_empty() {
        return Ok(());
    }
    unrecorded(context, host, Command::new("rm").arg("-f").args(forgotten)).await.map(drop)
}

/// Runs a command that comes often and says nothing of a pod: it is on no record. Returns what it printed.
async fn unrecorded(context: &Context, host: &HostRecord, command: Command) -> Result<String, String> {
    let endpoint = context.endpoint(host).ok_or("it does not say where it takes SSH")?;
    let connection = context.connections.host(host.host_id, &endpoint);
    let command = command.deadline(LIST_WITHIN);
    let finished = connection.run_unrecorded(&command, &context.shutdown).await.map_err(|error| error.to_string())?;
    if finished.is_success() { Ok(finished.stdout.text().into_owned()) } else { Err(said(&finished)) }
}

/// Removes them, containers first; returns those that are gone.
///
/// # Errors
/// When the bus does not take in what is told.
pub async fn remove(
    context: &Context,
    host: &HostRecord,
    strays: Vec<(Stray, Timestamp)>,
) -> Result<Vec<(Stray, Timestamp)>, ReconcileError> {
    let Some(endpoint) = context.endpoint(host) else { return Ok(Vec::new()) };
    let connection = context.connections.host(host.host_id, &endpoint);
    let mut operation = begin(host);
    let sink = ExecSink::new(&context.bus, operation.operation_id, host.host_id, None, 1);
    let (mut gone, mut cause) = (Vec::new(), None);
    for (stray, found_at) in strays.into_iter().take(MOST_AT_ONCE) {
        let kind = stray.kind.as_str();
        let label = format!("remove_{kind}");
        let started_at = Timestamp::now();
        let outcome = connection.run(&command(&stray), &sink.at(&label, host.host_id), &context.shutdown).await;
        let failure = match outcome {
            Ok(finished) if finished.is_success() || is_absent(&finished) => None,
            Ok(finished) => Some(said(&finished)),
            Err(error) => Some(error.to_string()),
        };
        operation.steps.push(OperationStep {
            label,
            progress: if failure.is_none() { Progress::Succeeded } else { Progress::Failed },
            cause: failure.as_deref().map(tell::line),
            note: Some(stray.name.clone()),
            started_at: Some(started_at),
            ended_at: Some(Timestamp::now()),
        });
        match failure {
            None => gone.push((stray, found_at)),
            Some(failure) => cause = Some(format!("the {kind} {} is still there: {failure}", stray.name)),
        }
    }
    let count = gone.len();
    operation.progress = if cause.is_none() { Progress::Succeeded } else { Progress::Failed };
    operation.cause = cause.as_deref().map(tell::line);
    operation.ended_at = Some(Timestamp::now());
    tell::operation(&context.bus, &operation, &format!("removed {count} things without a pod from {}", host.name))
        .await?;
    Ok(gone)
}

fn begin(host: &HostRecord) -> Operation {
    let started_at = Timestamp::now();
    Operation {
        operation_id: OperationId::new(),
        request_id: RequestId::new(),
        kind: "host".into(),
        target_id: host.host_id.to_string(),
        verb: VERB.into(),
        requested_by: PINACLE.into(),
        host_id: Some(host.host_id),
        takeovers: 0,
        progress: Progress::Running,
        cause: None,
        started_at,
        deadline_at: started_at.plus(LONGEST),
        ended_at: None,
        steps: Vec::new(),
    }
}

fn command(stray: &Stray) -> Command {
    let command = Command::new("docker");
    let command = match stray.kind {
        Kind::Container => command.args(["rm", "--force"]),
        Kind::Network => command.args(["network", "rm"]),
        Kind::Volume => command.args(["volume", "rm"]),
    };
    let label = format!("Remove the orphan {}", stray.kind.as_str());
    command.arg(&stray.handle).label(label).deadline(REMOVE_WITHIN)
}

/// Docker says so when somebody else was faster.
fn is_absent(finished: &Finished) -> bool {
    let said = finished.stderr.text().to_lowercase();
    ["no such container", "no such network", "no such volume", "not found"].iter().any(|text| said.contains(text))
}

fn said(finished: &Finished) -> String {
    let text = finished.stderr.text();
    let text = text.trim();
    if text.is_empty() { format!("Docker ended with {:?}", finished.exit_code) } else { text.into() }
}
