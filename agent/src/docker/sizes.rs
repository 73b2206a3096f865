//! The size of each pod's writable layer, on a slow clock: Docker walks through all its files for it.

use std::time::Duration;

use bollard::query_parameters::InspectContainerOptions;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Pod, View, within};

/// Millions of files take minutes.
const DEADLINE: Duration = Duration::from_secs(60);
/// A measurement that fails is tried again with the next round, but new pods not at every event.
const AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// Measures each pod each `interval`, and a new one soon, one at a time, until `shutdown`.
///
/// # Errors
/// None.
pub async fn measure_disks(
    interval: Duration,
    mut view: watch::Receiver<View>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut round = Instant::now() + interval;
    loop {
        let all = Instant::now() >= round;
        if all {
            round = Instant::now() + interval;
        }
        let pods = view.borrow_and_update().pods.clone();
        for pod in pods.iter().filter(|pod| all || pod.disk.get().is_none()) {
            tokio::select! {
                // cancel-safe: nothing is kept of a measurement that was cut off.
                () = measure(&view, pod) => {}
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
            }
        }
        let earliest = Instant::now() + AT_MOST_EVERY;
        tokio::select! {
            // cancel-safe: a watch keeps its value, and a timer.
            changed = async { sleep_until(earliest).await; view.changed().await } => if changed.is_err() { return Ok(()) },
            // cancel-safe: a timer.
            () = sleep_until(round) => {}
            // cancel-safe: only observed.
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

async fn measure(view: &watch::Receiver<View>, pod: &Pod) {
    let Ok(client) = view.borrow().client().cloned() else { return };
    let client = client.with_timeout(2 * DEADLINE);
    let options = InspectContainerOptions { size: true };
    match within(DEADLINE, client.inspect_container(&pod.container_id, Some(options))).await {
        Ok(inspected) => {
            if let Some(bytes) = inspected.size_rw.and_then(|bytes| u64::try_from(bytes).ok()) {
                pod.disk.set(bytes);
            }
        }
        Err(error) => debug!(pod_id = %pod.pod_id, error = error.chain(), "cannot measure a pod's disk"),
    }
}
