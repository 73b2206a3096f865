//! Docker's command line on a host: names, labels, and what its errors mean.

use pinacle_bus::contract::PodId;

use crate::{
    operation::context::{StepContext, StepError},
    ssh::{Command, Finished},
};

/// The label of the pod that something belongs to.
const POD_LABEL: &str = "pinacle.pod";
const OWNER_LABEL: &str = "pinacle.owner";
const OPERATION_LABEL: &str = "pinacle.op";
const LONGEST_SAID: usize = 400;

/// The name of a pod's container on its host.
pub fn container_name(pod: PodId) -> String {
    format!("pinacle-pod-{pod}")
}

/// The name of a pod's network on its host.
pub fn network_name(pod: PodId) -> String {
    format!("pinacle-net-{pod}")
}

/// The name of the volume that a pod has its work in.
pub fn volume_name(pod: PodId) -> String {
    format!("pinacle-vol-{pod}-workspace")
}

/// A command of Docker's.
pub fn docker<const N: usize>(label: &str, arguments: [&str; N]) -> Command {
    Command::new("docker").args(arguments).label(label)
}

/// `--label` for everything that is made for a pod.
pub fn labels(context: &StepContext) -> Vec<String> {
    let record = context.record();
    let operation = record.operation.as_ref().map(|operation| operation.operation_id.to_string()).unwrap_or_default();
    [(POD_LABEL, record.pod_id.to_string()), (OWNER_LABEL, record.owner.clone()), (OPERATION_LABEL, operation)]
        .into_iter()
        .flat_map(|(key, value)| ["--label".to_owned(), format!("{key}={value}")])
        .collect()
}

/// What a command wrote to standard error, on one line, for people.
pub fn said(finished: &Finished) -> String {
    let text = finished.stderr.text();
    let text = text.trim().trim_start_matches("Error response from daemon: ");
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_SAID).collect();
    match (text.is_empty(), finished.exit_code) {
        (false, _) => text,
        (true, Some(code)) => format!("it ended with exit code {code}"),
        (true, None) => "it was killed".into(),
    }
}

/// Whether a command says one of these, in whatever case.
pub fn says(finished: &Finished, texts: &[&str]) -> bool {
    let said = finished.stderr.text().to_lowercase();
    texts.iter().any(|text| said.contains(text))
}

/// Whether a command failed because what it is about is not there.
pub fn is_absent(finished: &Finished) -> bool {
    says(finished, &["no such container", "no such network", "no such volume", "no such object", "not found"])
}

/// Docker is starting, stopping, or not running at all; or something it talks to is.
const AWAY: [&str; 8] = [
    "cannot connect to the docker daemon",
    "error during connect",
    "is the docker daemon running",
    "connection refused",
    "ttrpc: closed",
    "transport is closing",
    "error while dialing",
    "daemon is shutting down",
];

/// What the failure of a command means. `what` is what could not be done, in words that follow "could not".
pub fn failure(context: &StepContext, what: &str, finished: &Finished) -> StepError {
    let host = context.host().map(|host| host.name.clone()).unwrap_or_else(|_| "the host".into());
    if says(finished, &AWAY) {
        return StepError::Again(format!("Docker on {host} does not answer"));
    }
    if says(finished, &["no space left on device"]) {
        return StepError::Failed(format!("could not {what}: the disk of {host} is full"));
    }
    if finished.exit_code.is_none() {
        return StepError::Again(format!("on {host}, the command to {what} was killed"));
    }
    if finished.exit_code == Some(127) && says(finished, &["docker: not found", "docker: command not found"]) {
        return StepError::Failed(format!("{host} has no Docker"));
    }
    StepError::Failed(format!("could not {what} on {host}: {}", said(finished)))
}

/// Runs a command that must succeed.
pub async fn must(context: &mut StepContext, what: &str, command: Command) -> Result<Finished, StepError> {
    let finished = context.command(command).await?;
    if finished.is_success() { Ok(finished) } else { Err(failure(context, what, &finished)) }
}

/// Runs a command that removes something; that it is not there is as good.
pub async fn must_be_gone(context: &mut StepContext, what: &str, command: Command) -> Result<(), StepError> {
    let finished = context.command(command).await?;
    if finished.is_success() || is_absent(&finished) {
        return Ok(());
    }
    // A paused sandbox may take longer to die than Docker waits: it is then called a zombie, and gone a moment later.
    if says(&finished, &["already in progress", "in use", "active endpoints", "is zombie"]) {
        return Err(StepError::Again(format!("could not {what} yet: {}", said(&finished))));
    }
    Err(failure(context, what, &finished))
}
