//! Starting, stopping and freezing a pod's container, and asking how it is.

use std::time::Duration;

use pinacle_bus::contract::pod::PodPhase;
use tokio::time::{Instant, sleep_until};

use super::{
    container,
    docker::{container_name, docker, failure, is_absent, must, says},
    secrets,
};
use crate::{
    operation::context::{StepContext, StepError},
    record::Effect,
    ssh::{Command, Finished},
};

/// What a pod is asked: whether a shell runs in it, and, in one with Pinacle's base image, whether its web server answers.
/// It waits for that in the pod, where another try costs least; not by asking over and over, which takes what the pod may
/// use of a core from its start. Whoever serves port 80 by other means than nginx is asked after a while.
const PROBE: &str = "test -x /sbin/pinacle-init || exit 0; n=0; \
    until { [ -s /run/nginx.pid ] || [ $n -ge 20 ]; } && \
    curl --silent --fail --max-time 2 --output /dev/null http://127.0.0.1/; \
    do n=$((n + 1)); [ $n -lt 40 ] || exit 1; sleep 0.1; done";
/// Asks it, and whether it still runs then.
const ASK: &str =
    r#"docker exec "$1" sh -c "$2" && test "$(docker inspect --format '{{.State.Running}}' "$1")" = true"#;
/// An image without a shell answers by running.
const NO_SHELL: [i32; 2] = [126, 127];
const ASK_WITHIN: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long a pod may take to stop by itself.
const STOPS_WITHIN: &str = "10";
const LAST_LINES: &str = "20";
const LONGEST_OUTPUT: usize = 600;

pub async fn start(context: &mut StepContext) -> Result<(), StepError> {
    let name = container_name(context.pod());
    let command = docker("Start the container", ["start", &name]);
    let finished = context.command(command.clone()).await?;
    if finished.is_success() {
        return secrets::deliver(context).await;
    }
    if says(&finished, &["cannot start a paused container"]) {
        return thaw(context, &name).await;
    }
    // Its network was removed and made anew, or it was removed itself.
    if says(&finished, &["network"]) && is_absent(&finished) || says(&finished, &["no such container"]) {
        container::remake(context).await?;
        must(context, "start the container", command).await?;
        return secrets::deliver(context).await;
    }
    Err(failure(context, "start the container", &finished))
}

pub async fn answer(context: &mut StepContext) -> Result<(), StepError> {
    let name = container_name(context.pod());
    loop {
        let ask = Command::shell(ASK)
            .args([name.as_str(), PROBE])
            .label("Ask the pod")
            .container_command(Some(PROBE))
            .deadline(ASK_WITHIN);
        let finished = context.command(ask).await?;
        if finished.is_success() {
            return Ok(());
        }
        let state = look(context, &name).await?;
        match state.split(' ').next() {
            Some("running") if finished.exit_code.is_some_and(|code| NO_SHELL.contains(&code)) => return Ok(()),
            Some("running" | "restarting" | "created") => {}
            _ => return Err(StepError::Failed(ended(context, &name, &state).await?)),
        }
        if Instant::now() >= context.deadline() {
            return Err(StepError::Failed("it was started, but does not answer".into()));
        }
        let until = (Instant::now() + ASK_AGAIN).min(context.deadline());
        tokio::select! {
            // cancel-safe: a timer.
            () = sleep_until(until) => {}
            // cancel-safe: only observed.
            () = context.cancelled().cancelled() => return Err(StepError::Cancelled),
        }
    }
}

/// Docker's words for a container's state, exit code and whether it ran out of memory; empty = there is none.
async fn look(context: &mut StepContext, name: &str) -> Result<String, StepError> {
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}";
    let command = docker("Look at the container", ["container", "inspect", "--format", format, name]);
    let finished = context.command(command).await?;
    match finished.is_success() {
        true => Ok(finished.stdout.text().trim().to_owned()),
        false if is_absent(&finished) => Ok(String::new()),
        false => Err(failure(context, "look at the container", &finished)),
    }
}

/// How a container ended, with its last output.
async fn ended(context: &mut StepContext, name: &str, state: &str) -> Result<String, StepError> {
    let mut words = state.split(' ').skip(1);
    let how = match (words.next(), words.next()) {
        (_, Some("true")) => "it ran out of memory and was killed (OOM)".to_owned(),
        (Some(code), _) => format!("it ended by itself with exit code {code}"),
        _ => return Ok("its container is gone".into()),
    };
    let logs = docker("Read its last output", ["logs", "--tail", LAST_LINES, name]);
    let finished = context.command(logs).await?;
    let text = format!("{}{}", finished.stdout.text(), finished.stderr.text());
    let text = text.trim();
    if text.is_empty() {
        return Ok(format!("{how}; it printed nothing"));
    }
    let skipped = text.chars().count().saturating_sub(LONGEST_OUTPUT);
    Ok(format!("{how}; its last output: {}", text.chars().skip(skipped).collect::<String>()))
}

pub async fn stop(context: &mut StepContext) -> Result<(), StepError> {
    let name = container_name(context.pod());
    let command = docker("Stop the container", ["stop", "--time", STOPS_WITHIN, &name]);
    let mut finished = context.command(command.clone()).await?;
    if says(&finished, &["is paused"]) {
        thaw(context, &name).await?;
        finished = context.command(command).await?;
    }
    if finished.is_success() || is_absent(&finished) {
        return Ok(());
    }
    Err(failure(context, "stop the container", &finished))
}

pub async fn pause(context: &mut StepContext) -> Result<(), StepError> {
    let name = container_name(context.pod());
    let finished = context.command(docker("Freeze the container", ["pause", &name])).await?;
    already(context, "freeze the container", &finished, &["already paused"])
}

pub async fn resume(context: &mut StepContext) -> Result<(), StepError> {
    let name = container_name(context.pod());
    thaw(context, &name).await
}

async fn thaw(context: &mut StepContext, name: &str) -> Result<(), StepError> {
    let finished = context.command(docker("Thaw the container", ["unpause", name])).await?;
    already(context, "thaw the container", &finished, &["is not paused"])
}

/// That it is as it is to be is as good as success.
fn already(context: &StepContext, what: &str, finished: &Finished, texts: &[&str]) -> Result<(), StepError> {
    if finished.is_success() || says(finished, texts) { Ok(()) } else { Err(failure(context, what, finished)) }
}

pub async fn inspect(context: &mut StepContext) -> Result<Effect, StepError> {
    if context.record().host_id.is_none() {
        return Ok(Effect::Found(PodPhase::Stopped));
    }
    let name = container_name(context.pod());
    let state = look(context, &name).await?;
    Ok(Effect::Found(match state.split(' ').next() {
        Some("running" | "restarting") => PodPhase::Running,
        Some("paused") => PodPhase::Paused,
        _ => PodPhase::Stopped,
    }))
}
