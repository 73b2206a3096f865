//! Finds pods that need work, takes their leases, and has them worked on.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    time::Duration,
};

use futures_util::FutureExt;
use metrics::gauge;
use pinacle_bus::contract::PodId;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, error};

use super::{context::Engine, drive::work_on};
use crate::lease::Claim;

/// How often somebody else's lease is looked at, as a part of how long it is good for.
const LOOKS: u32 = 4;
/// No answer of the bus about a lease takes longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What became of a pod.
struct Done {
    pod: PodId,
    claim: Claim,
    /// The record's revision after which nothing was left to do.
    at: Option<u64>,
    /// When to look again, if another copy has it.
    again_at: Option<Instant>,
}

/// Works on pods until shutdown; then gives the leases back, so that other copies go on at once.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(engine: Engine) -> anyhow::Result<()> {
    let valid = Duration::from_millis(engine.settings.lease_ms);
    let mut changes = engine.view.pod_changes();
    let mut under_way: HashSet<PodId> = HashSet::new();
    let mut elsewhere: HashMap<PodId, (Claim, Instant)> = HashMap::new();
    let mut finished: HashMap<PodId, u64> = HashMap::new();
    let mut tasks: JoinSet<Done> = JoinSet::new();
    let mut pods_of_tasks: HashMap<tokio::task::Id, PodId> = HashMap::new();
    loop {
        let busy = if engine.view.is_complete() { engine.view.busy() } else { Vec::new() };
        let wanted: HashSet<PodId> = busy.iter().copied().collect();
        elsewhere.retain(|pod, _| wanted.contains(pod));
        finished.retain(|pod, _| wanted.contains(pod));
        for pod in busy {
            if tasks.len() >= engine.settings.operations_at_once {
                break;
            }
            let revision = engine.view.pod(pod).map_or(0, |known| known.entry.revision);
            let is_old_news = finished.get(&pod).is_some_and(|at| revision <= *at);
            let is_elsewhere = elsewhere.get(&pod).is_some_and(|(_, again_at)| *again_at > Instant::now());
            if is_old_news || is_elsewhere || !under_way.insert(pod) {
                continue;
            }
            let claim = elsewhere.remove(&pod).map_or_else(
                || Claim::new(engine.leases.clone(), pod.to_string(), &engine.holder, valid),
                |(claim, _)| claim,
            );
            let task = tasks.spawn(take(engine.clone(), pod, claim, valid));
            pods_of_tasks.insert(task.id(), pod);
        }
        #[expect(clippy::cast_precision_loss, reason = "operations are few")]
        gauge!("pinacle_orchestrator_operations_under_way").set(tasks.len() as f64);
        let next_look = elsewhere.values().map(|(_, again_at)| *again_at).min();
        tokio::select! {
            // cancel-safe: a watch keeps its value.
            changed = changes.changed() => changed?,
            // cancel-safe: joining loses nothing.
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => match ended {
                Ok((id, done)) => {
                    pods_of_tasks.remove(&id);
                    under_way.remove(&done.pod);
                    if let Some(at) = done.at {
                        finished.insert(done.pod, at);
                    }
                    if let Some(again_at) = done.again_at {
                        elsewhere.insert(done.pod, (done.claim, again_at));
                    }
                }
                Err(error) => {
                    error!(%error, "work on a pod ended in a panic; its lease runs out, and it is taken up again");
                    if let Some(pod) = pods_of_tasks.remove(&error.id()) {
                        under_way.remove(&pod);
                        let claim = Claim::new(engine.leases.clone(), pod.to_string(), &engine.holder, valid);
                        elsewhere.insert(pod, (claim, Instant::now() + valid));
                    }
                }
            },
            // cancel-safe: a timer.
            () = sleep_until(next_look.unwrap_or_else(Instant::now)), if next_look.is_some() => {}
            // cancel-safe: only observed.
            () = engine.shutdown.cancelled() => break,
        }
    }
    // Each stops by itself and gives its lease back.
    while tasks.join_next().await.is_some() {}
    engine.connections.close_all().await;
    Ok(())
}

/// Takes a pod's lease and works on it; another copy may hold it.
async fn take(engine: Engine, pod: PodId, mut claim: Claim, valid: Duration) -> Done {
    let look_again = Some(Instant::now() + valid / LOOKS);
    match timeout(ANSWERS_WITHIN, claim.take()).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Done { pod, claim, at: None, again_at: look_again },
        Ok(Err(error)) => {
            debug!(%pod, %error, "cannot take a pod's lease; trying again");
            return Done { pod, claim, at: None, again_at: look_again };
        }
        Err(_) => return Done { pod, claim, at: None, again_at: look_again },
    }
    let worked = AssertUnwindSafe(work_on(&engine, pod, &mut claim)).catch_unwind().await;
    let at = match worked {
        Ok(at) => at,
        Err(_) => {
            error!(%pod, "work on a pod panicked; it is taken up again");
            return Done { pod, claim, at: None, again_at: Some(Instant::now() + valid) };
        }
    };
    let _ = timeout(ANSWERS_WITHIN, claim.give_back()).await;
    Done { pod, claim, at, again_at: None }
}
