//! Which host a pod is on: room is reserved there, and given back.

use std::time::Duration;

use pinacle_bus::contract::pod::Tier;
use tokio::time::{Instant, sleep_until};

use crate::{
    ledger::PlaceError,
    operation::context::{StepContext, StepError},
    placement::{Demand, Rules, explain},
    record::Effect,
};

/// Room is looked for again after so long even when nothing is told: a sample that is old news, say.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Changes come in bursts.
const GATHER: Duration = Duration::from_millis(100);

pub async fn place(context: &mut StepContext) -> Result<Effect, StepError> {
    if context.record().host_id.is_some() {
        return Ok(Effect::None);
    }
    let Some(tier) = Tier::find(&context.record().spec.tier) else {
        return Err(StepError::Failed(format!("there is no tier {}", context.record().spec.tier)));
    };
    let rules = Rules::from(&*context.engine().settings);
    let ledgers = context.engine().ledgers.clone();
    let mut changes = context.engine().view.room_changes();
    loop {
        changes.mark_unchanged();
        let record = context.record().clone();
        let refusals = match ledgers.place(&Demand { pod: &record, tier }, &rules).await {
            Ok((host, reservation)) => {
                context.inside();
                return Ok(Effect::Placed { host, port: reservation.external_port, subnet: reservation.subnet });
            }
            Err(PlaceError::NoRoom(refusals)) => refusals,
            Err(error) => return Err(StepError::Again(error.to_string())),
        };
        let why = explain(&refusals);
        if Instant::now() >= context.deadline() {
            return Err(StepError::Failed(format!("no host has room: {why}")));
        }
        context.note(&format!("no host has room yet: {why}")).await?;
        let until = (Instant::now() + LOOK_AGAIN).min(context.deadline());
        tokio::select! {
            // cancel-safe: a watch keeps its value.
            changed = changes.changed() => {
                if changed.is_err() {
                    return Err(StepError::Fenced);
                }
                sleep_until((Instant::now() + GATHER).min(until)).await;
            }
            // cancel-safe: a timer.
            () = sleep_until(until) => {}
            // cancel-safe: only observed.
            () = context.cancelled().cancelled() => return Err(StepError::Cancelled),
        }
    }
}

pub async fn release(context: &mut StepContext) -> Result<Effect, StepError> {
    let (pod, ledgers) = (context.pod(), context.engine().ledgers.clone());
    // Also where a copy that died had reserved something and not yet said so in the record.
    let hosts = [context.record().host_id, context.engine().view.reserved_on(pod)];
    for host in hosts.into_iter().flatten() {
        ledgers.release(host, pod).await.map_err(|error| StepError::Again(error.to_string()))?;
        context.inside();
    }
    Ok(Effect::Released)
}
