//! The image on the host: there, copied there over SSH, or pulled by the host.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};

use super::docker::{docker, failure, must, said, says};
use crate::{
    operation::context::{StepContext, StepError},
    ssh::Command,
};

const PULLS_WITHIN: Duration = Duration::from_secs(600);
const TELL_EVERY: Duration = Duration::from_secs(1);

pub async fn bring(context: &mut StepContext) -> Result<(), StepError> {
    if is_there(context).await? {
        return Ok(());
    }
    // Thirty pods at once bring it once.
    let host = context.host()?;
    let turns = context.engine().images.of(host.host_id);
    let cancelled = context.cancelled().clone();
    context.note(&format!("waiting for the image on {}", host.name)).await?;
    let _turn = tokio::select! {
        // cancel-safe: a place in the queue is given up.
        turn = turns.acquire_owned() => turn.map_err(|_| StepError::Fenced)?,
        // cancel-safe: only observed.
        () = cancelled.cancelled() => return Err(StepError::Cancelled),
        // cancel-safe: a timer.
        () = tokio::time::sleep_until(context.deadline()) => {
            return Err(StepError::Failed(format!("bringing images to {} takes too long", host.name)));
        }
    };
    if is_there(context).await? {
        return Ok(());
    }
    let settings = context.engine().settings.clone();
    if context.record().spec.image == settings.base_image && !settings.base_image_archive.as_os_str().is_empty() {
        copy(context, &host.name).await
    } else {
        pull(context, &host.name).await
    }
}

async fn is_there(context: &mut StepContext) -> Result<bool, StepError> {
    let image = context.record().spec.image.clone();
    let look = docker("Look for the image", ["image", "inspect", "--format", "{{.Id}}", &image]);
    let finished = context.command(look).await?;
    if finished.is_success() {
        return Ok(true);
    }
    if says(&finished, &["no such image"]) {
        return Ok(false);
    }
    Err(failure(context, "look for the image", &finished))
}

/// Sends the base image's archive over SSH, and tells how far it is.
async fn copy(context: &mut StepContext, host: &str) -> Result<(), StepError> {
    let archive = context.engine().settings.base_image_archive.clone();
    let total = match tokio::fs::metadata(&archive).await {
        Ok(file) => file.len(),
        Err(error) => {
            return Err(StepError::Failed(format!(
                "the base image's archive {} (orchestrator.base_image_archive) cannot be read: {error}",
                archive.display()
            )));
        }
    };
    let (sent, progress) = watch::channel(0_u64);
    context.note(&format!("copying the image to {host}")).await?;
    let load = docker("Copy the image", ["load", "--quiet"]).stdin_file(&archive, sent).deadline(PULLS_WITHIN);
    let telling = tell_progress(context, host, total, progress);
    let finished = tokio::select! {
        // cancel-safe: dropped, the command is ended.
        finished = context.command(load) => finished?,
        // cancel-safe: nothing ends it.
        never = telling => match never {},
    };
    if finished.is_success() { Ok(()) } else { Err(failure(context, "copy the image", &finished)) }
}

/// Tells in the log how far the copy is; in the operation it stands as its command's progress.
fn tell_progress(
    context: &StepContext,
    host: &str,
    total: u64,
    progress: watch::Receiver<u64>,
) -> impl Future<Output = std::convert::Infallible> + use<> {
    let (pod, host) = (context.pod(), host.to_owned());
    async move {
        loop {
            sleep(TELL_EVERY).await;
            let percent = *progress.borrow() * 100 / total.max(1);
            tracing::info!(%pod, host, percent, "copying the image");
        }
    }
}

async fn pull(context: &mut StepContext, host: &str) -> Result<(), StepError> {
    let image = context.record().spec.image.clone();
    context.note(&format!("{host} pulls {image}")).await?;
    let command =
        Command::new("docker").args(["pull", "--quiet", &image]).label("Pull the image").deadline(PULLS_WITHIN);
    let finished = context.command(command).await?;
    if finished.is_success() {
        return must(
            context,
            "find the image",
            docker("Look for the image", ["image", "inspect", "--format", "{{.Id}}", &image]),
        )
        .await
        .map(drop);
    }
    match failure(context, "pull the image", &finished) {
        // A registry that refuses a connection is no Docker that does.
        StepError::Again(_) if !says(&finished, &["docker daemon", "docker.sock"]) => {}
        StepError::Failed(_) if !says(&finished, &["no space left on device"]) => {}
        other => return Err(other),
    }
    Err(StepError::Failed(format!("{host} has no image {image}, and could not pull it: {}", said(&finished))))
}
