//! One pod's operations, one after the other, as long as this copy holds the pod's lease.

use std::{convert::Infallible, time::Duration};

use metrics::{counter, histogram};
use pinacle_bus::{
    client::{MessageContext, TraceParent, in_context},
    contract::{
        OperationId, PodId, Timestamp,
        pod::PodRecord,
        request::{Operation, Progress},
    },
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    context::{Engine, StepContext, StepError},
    crash::Moment,
    plan::{Step, Verb},
};
use crate::{
    lease::Claim,
    record::{Effect, begin_step, current_step, finish_step, give_up, is_idle, is_undoing, next},
    steps, tell,
};

/// What was done is undone within this, at the most; what is not then is left to a reconciler.
const UNDO_WITHIN: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(100);
/// How often a lease is renewed while it is good.
const RENEWALS: u32 = 3;

/// Works on a pod whose lease this copy holds, until nothing is left to do or the lease is lost. Returns the record's
/// revision at the end.
pub async fn work_on(engine: &Engine, pod: PodId, claim: &mut Claim) -> Option<u64> {
    let cancel = Cancel::default();
    let outcome = tokio::select! {
        // cancel-safe: whoever takes over does the step at hand again.
        outcome = drive(engine, pod, &cancel) => outcome,
        // cancel-safe: as above.
        () = keep(engine, claim) => Err(StepError::Fenced),
        // cancel-safe: nothing ends it.
        never = follow_cancel(engine, pod, &cancel) => match never {},
        // cancel-safe: as above; what is under way goes on in another copy.
        () = engine.shutdown.cancelled() => return None,
    };
    match outcome {
        Ok(revision) => Some(revision),
        Err(StepError::Fenced) => {
            counter!("pinacle_orchestrator_fenced_total").increment(1);
            warn!(%pod, "another copy has taken a pod over, or the lease on it was lost; leaving it alone");
            None
        }
        Err(error) => {
            warn!(%pod, ?error, "cannot work on a pod now; trying again");
            sleep(PAUSE).await;
            None
        }
    }
}

/// Renews the lease; returns once it is lost.
async fn keep(engine: &Engine, claim: &mut Claim) {
    let valid = Duration::from_millis(engine.settings.lease_ms);
    let mut renewed = Instant::now();
    loop {
        sleep(valid / RENEWALS).await;
        let began = Instant::now();
        let left = valid.saturating_sub(renewed.elapsed());
        match tokio::time::timeout(left, claim.take()).await {
            Ok(Ok(true)) => renewed = began,
            Ok(Ok(false)) => return,
            Ok(Err(error)) => warn!(%error, "a lease was not renewed; trying again"),
            Err(_) => {}
        }
        if renewed.elapsed() >= valid {
            return;
        }
    }
}

/// Told that the operation under way is to be cancelled; another token for each operation.
#[derive(Default)]
struct Cancel(parking_lot::Mutex<(Option<OperationId>, CancellationToken)>);

impl Cancel {
    fn begin(&self, operation: OperationId) -> CancellationToken {
        let token = CancellationToken::new();
        *self.0.lock() = (Some(operation), token.clone());
        token
    }

    /// Cancels the operation under way if this record, which may be an old one, says so of it.
    fn look_at(&self, record: &PodRecord) {
        let wanted = record.operation.as_ref().filter(|_| record.cancelled_by.is_some());
        let (under_way, token) = &*self.0.lock();
        if wanted.is_some() && wanted.map(|operation| operation.operation_id) == *under_way {
            token.cancel();
        }
    }
}

/// Cancels the operation under way once its record says so.
async fn follow_cancel(engine: &Engine, pod: PodId, cancel: &Cancel) -> Infallible {
    let mut changes = engine.view.pod_changes();
    loop {
        if let Some(known) = engine.view.pod(pod) {
            cancel.look_at(&known.entry.record);
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn drive(engine: &Engine, pod: PodId, cancel: &Cancel) -> Result<u64, StepError> {
    let Some(mut context) = take_up(engine, pod).await? else { return Ok(0) };
    let mut told = None;
    loop {
        let Some(operation) = context.record().operation.clone() else {
            if context.record().queue.is_empty() {
                return Ok(context.revision());
            }
            advance(&mut context).await?;
            continue;
        };
        let trace = MessageContext { trace: TraceParent::root(), cause: Some(operation.request_id) };
        if operation.ended_at.is_some() {
            in_context(trace, tell_until_told(engine, None, context.record())).await;
            count(&operation);
            told = Some(context.record().clone());
            advance(&mut context).await?;
            continue;
        }
        let token = cancel.begin(operation.operation_id);
        cancel.look_at(context.record());
        in_context(trace, carry_out(&mut context, &mut told, &token)).await?;
    }
}

/// Forgets the operation that has ended, and begins the next one.
async fn advance(context: &mut StepContext) -> Result<(), StepError> {
    let settings = context.engine().settings.clone();
    context
        .change(|record| {
            next(record, &settings, Timestamp::now());
            begin_step(record, Timestamp::now());
        })
        .await
}

/// Puts this copy's fence on the record, and begins what waits; `None` when there is nothing to do.
async fn take_up(engine: &Engine, pod: PodId) -> Result<Option<StepContext>, StepError> {
    let read = engine.pods.get(&pod.to_string()).await;
    let entry = match read {
        Ok(Some(entry)) if !is_idle(&entry.record) => entry,
        Ok(_) => return Ok(None),
        Err(error) => return Err(StepError::Again(error.to_string())),
    };
    let fence = entry.record.fence + 1;
    let is_taken_over = entry.record.operation.as_ref().is_some_and(|operation| operation.ended_at.is_none());
    if is_taken_over {
        counter!("pinacle_orchestrator_takeovers_total").increment(1);
        info!(%pod, "taking over an operation that another copy, or this one before, has left");
        engine.ledgers.catch_up().await.map_err(|error| StepError::Again(error.to_string()))?;
    }
    let mut context = StepContext::new(engine.clone(), entry);
    let settings = engine.settings.clone();
    context
        .take_up(fence, |record| {
            if is_taken_over && let Some(operation) = &mut record.operation {
                operation.takeovers += 1;
            }
            next(record, &settings, Timestamp::now());
            begin_step(record, Timestamp::now());
        })
        .await?;
    Ok(Some(context))
}

/// The operation under way, until it has ended.
async fn carry_out(
    context: &mut StepContext,
    told: &mut Option<PodRecord>,
    token: &CancellationToken,
) -> Result<(), StepError> {
    let Some(operation) = context.record().operation.clone() else { return Ok(()) };
    let left = operation.deadline_at.as_millis().saturating_sub(Timestamp::now().as_millis());
    let ends_at = Instant::now() + Duration::from_millis(u64::try_from(left).unwrap_or(0));
    let mut undo_ends_at = None;
    let mut turn: Option<OwnedSemaphorePermit> = None;
    while let Some(operation) = context.record().operation.clone().filter(|operation| operation.ended_at.is_none()) {
        let verb = Verb::find(&operation.verb);
        let step = current_step(&operation).and_then(|(_, step)| Step::find(&step.label));
        let (Some(verb), Some(step)) = (verb, step) else {
            // Written by a release that knows more.
            let cause = "this release does not know how to go on with it";
            context.change(|record| give_up(record, Progress::Failed, cause, Timestamp::now())).await?;
            continue;
        };
        let undoing = is_undoing(&operation);
        let (token, ends_at) = if undoing {
            let until = *undo_ends_at.get_or_insert_with(|| Instant::now() + undo_within(context.engine()));
            // Undoing is not cancelled.
            (CancellationToken::new(), until)
        } else {
            (token.clone(), ends_at)
        };
        let deadline = Instant::now().checked_add(step.deadline()).map_or(ends_at, |step_ends| step_ends.min(ends_at));
        context.turn_to(verb, step, token, deadline);
        let engine = context.engine().clone();
        let now = context.record().clone();
        let before = told.replace(now.clone());
        // What became of the last step is told while the next one runs.
        let (outcome, ()) =
            tokio::join!(run_step(context, &mut turn, verb, step), tell_until_told(&engine, before.as_ref(), &now));
        match outcome {
            Ok(effect) => {
                engine.crash.pass(verb, step, Moment::After);
                context.change(|record| finish_step(record, &effect, Timestamp::now())).await?;
            }
            Err(StepError::Cancelled) => {
                let who = context.record().cancelled_by.clone().unwrap_or_else(|| "somebody".into());
                let cause = format!("cancelled by {who}");
                context.change(|record| give_up(record, Progress::Cancelled, &cause, Timestamp::now())).await?;
            }
            Err(StepError::Failed(cause) | StepError::Again(cause)) => {
                context.change(|record| give_up(record, Progress::Failed, &cause, Timestamp::now())).await?;
            }
            Err(StepError::Fenced) => return Err(StepError::Fenced),
        }
    }
    Ok(())
}

/// Undoing takes no longer than doing might have.
fn undo_within(engine: &Engine) -> Duration {
    UNDO_WITHIN.min(Duration::from_millis(engine.settings.create_deadline_ms))
}

/// A step, tried until it succeeds, cannot succeed any more, or may take no longer.
async fn run_step(
    context: &mut StepContext,
    turn: &mut Option<OwnedSemaphorePermit>,
    verb: Verb,
    step: Step,
) -> Result<Effect, StepError> {
    context.engine().crash.pass(verb, step, Moment::Before);
    let mut tries = 0;
    loop {
        if context.cancelled().is_cancelled() {
            return Err(StepError::Cancelled);
        }
        if turn.is_none() && step != Step::Place {
            *turn = wait_for_turn(context).await?;
        }
        let cause = match steps::run(step, context).await {
            Ok(effect) => {
                context.inside();
                return Ok(effect);
            }
            Err(StepError::Again(cause)) => cause,
            Err(error) => return Err(error),
        };
        if Instant::now() >= context.deadline() {
            let what = format!("{} took too long, at {}", verb.as_str(), step.label().replace('_', " "));
            return Err(StepError::Failed(format!("{what}: {cause}")));
        }
        context.note(&cause).await?;
        context.pause(tries).await?;
        tries += 1;
    }
}

/// Waits until fewer operations are under way on the host; `None` when the pod is on none.
async fn wait_for_turn(context: &mut StepContext) -> Result<Option<OwnedSemaphorePermit>, StepError> {
    let Some(host) = context.record().host_id else { return Ok(None) };
    let turns = context.engine().turns.of(host);
    if let Ok(turn) = turns.clone().try_acquire_owned() {
        return Ok(Some(turn));
    }
    let (cancelled, deadline) = (context.cancelled().clone(), context.deadline());
    tokio::select! {
        // cancel-safe: a place in the queue is given up.
        turn = turns.acquire_owned() => Ok(turn.ok()),
        // cancel-safe: only observed.
        () = cancelled.cancelled() => Err(StepError::Cancelled),
        // cancel-safe: a timer.
        () = tokio::time::sleep_until(deadline) => Err(StepError::Failed("its host had no time for it".into())),
    }
}

/// Tells what differs between two states of a record, until the bus has taken it in. `None` before = all of it.
async fn tell_until_told(engine: &Engine, before: Option<&PodRecord>, now: &PodRecord) {
    loop {
        match tell::changes(&engine.bus, before, now).await {
            Ok(()) => return,
            Err(error) => warn!(pod = %now.pod_id, %error, "a change of a pod was not told; trying again"),
        }
        sleep(PAUSE).await;
    }
}

fn count(operation: &Operation) {
    let outcome = operation.progress.as_str();
    let verb = Verb::find(&operation.verb).map_or("unknown", Verb::as_str);
    counter!("pinacle_orchestrator_operations_total", "verb" => verb, "outcome" => outcome).increment(1);
    if let Some(ended_at) = operation.ended_at {
        let took = ended_at.as_millis().saturating_sub(operation.started_at.as_millis());
        let took = Duration::from_millis(u64::try_from(took).unwrap_or(0));
        histogram!("pinacle_orchestrator_operation_seconds", "verb" => verb).record(took);
    }
    info!(
        operation = %operation.operation_id, verb, outcome, cause = operation.cause.as_deref().unwrap_or_default(),
        "an operation has ended"
    );
}
