//! The pod `sample`: made by the first start alone, found again by later ones.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::home::{Home, write_private};
use crate::{
    api::{Accepted, Api, Pod, Whole},
    failure::Failure,
    op::until_ended,
    pod::{new_key, whereabouts},
    progress::Console,
};

/// What it is called.
pub(super) const NAME: &str = "sample";
/// Longer nobody waits in front of a start; it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is remembered of it, so that it is made once even if a start is cut off, and never again once it is deleted.
#[derive(Serialize, Deserialize)]
struct Memory {
    key: String,
    pod_id: Option<String>,
}

/// Where it answers; nothing when there is none, or none yet.
pub(super) async fn ensure(home: &Home, api: &Api, console: &Console) -> Result<Option<String>, Failure> {
    let path = path(home);
    let known = recall(&path);
    if let Some(id) = known.as_ref().and_then(|known| known.pod_id.as_ref()) {
        return Ok(find_again(api, console, id).await);
    }
    let mut memory = known.unwrap_or_else(|| Memory { key: new_key(), pod_id: None });
    remember(&path, &memory)?;
    console.say("the first pod:");
    let answer = api.post_once("/pods", &json!({ "name": NAME, "tier": "dev.small" }), &memory.key).await?;
    let accepted = Whole::<Accepted>::read(answer)?;
    let Ok(operation) = timeout(PATIENCE, until_ended(api, console, &accepted.operation_id)).await else {
        console.warn(&format!("{NAME} is not made yet: pinacle pod show {NAME} tells what it waits for"));
        return Ok(None);
    };
    let operation = operation?;
    memory.pod_id = Some(operation.target_id.clone());
    remember(&path, &memory)?;
    if operation.progress != "succeeded" {
        let cause = operation.cause.as_deref().unwrap_or("no cause is known");
        console.warn(&format!("{NAME} could not be made: {cause}; pinacle pod exec-log {NAME} shows what was run"));
        return Ok(None);
    }
    let pod = api.pod(&operation.target_id).await?;
    Ok(Some(whereabouts(api, &pod).await.1))
}

/// Whether it has been asked for.
pub(super) fn is_known(home: &Home) -> bool {
    recall(&path(home)).is_some()
}

fn path(home: &Home) -> PathBuf {
    home.folder.path("sample.json")
}

fn recall(path: &Path) -> Option<Memory> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn remember(path: &Path, memory: &Memory) -> Result<(), Failure> {
    write_private(path, &serde_json::to_string(memory).map_err(anyhow::Error::new)?)
}

/// Waits until it answers again: its container ended with the Docker of the last start, and is started by the
/// orchestrator once that has noticed.
async fn find_again(api: &Api, console: &Console, id: &str) -> Option<String> {
    // It may have been deleted long ago.
    let mut pod = api.pod(id).await.ok().filter(is_wanted)?;
    let step = console.step(NAME);
    let began = Instant::now();
    loop {
        let address = whereabouts(api, &pod).await.1;
        if answers(&address).await {
            step.done(&format!("answers at {address}"));
            return Some(address);
        }
        let phase = pod.phase.as_deref().unwrap_or_default();
        step.note(pod.cause.as_deref().unwrap_or(phase));
        if began.elapsed() > PATIENCE {
            step.done(&format!("does not answer yet: see pinacle pod show {NAME}"));
            return None;
        }
        sleep(LOOK_EVERY).await;
        pod = api.pod(id).await.ok().filter(is_wanted)?;
    }
}

/// Whether it is meant to run.
fn is_wanted(pod: &Whole<Pod>) -> bool {
    let phase = pod.phase.as_deref().unwrap_or_default();
    !["stopped", "stopping", "paused", "deleting", "deleted"].contains(&phase)
}

async fn answers(address: &str) -> bool {
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build() else {
        return false;
    };
    client.get(address).send().await.is_ok()
}
