//! How a pod's record changes: pure functions, applied by compare-and-set. Each may be applied once more to a record that
//! somebody else has changed meanwhile in its queue.

use std::time::Duration;

use pinacle_bus::contract::{
    HostId, OperationId, RequestId, Timestamp,
    pod::{Desired, LONGEST_QUEUE, PodPhase, PodRecord, REMEMBERED_OPERATIONS},
    request::{Operation, OperationStep, Progress, Request},
};

use crate::{
    announcement::following,
    operation::plan::{Step, Verb},
    settings::Orchestrator,
};

/// Who asks when the installation does something by itself.
pub const PINACLE: &str = "pinacle";

/// What a step came to, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that the record holds.
    None,
    /// Room was reserved.
    Placed {
        /// Where.
        host: HostId,
        /// The host's port that leads to the pod.
        port: u16,
        /// The `n` of its network.
        subnet: u8,
    },
    /// What was reserved is given back.
    Released,
    /// How the pod is, by what its host says.
    Found(PodPhase),
}

/// Whether nothing is under way or waits, so that a reconciler may act.
pub fn is_idle(record: &PodRecord) -> bool {
    record.operation.is_none() && record.queue.is_empty()
}

/// Whether a record has had to do with an operation.
pub fn knows(record: &PodRecord, operation: OperationId) -> bool {
    record.operation.as_ref().is_some_and(|under_way| under_way.operation_id == operation)
        || record.queue.iter().any(|request| request.operation_id == operation)
        || record.ended_operations.contains(&operation)
}

/// Puts a request of the installation's own into a record's queue. Says whether there was room.
pub fn enqueue(record: &mut PodRecord, verb: Verb) -> bool {
    if record.queue.len() >= LONGEST_QUEUE {
        return false;
    }
    record.queue.push(Request {
        request_id: RequestId::new(),
        operation_id: OperationId::new(),
        kind: "pod".into(),
        target_id: record.pod_id.to_string(),
        verb: verb.as_str().into(),
        requested_by: PINACLE.into(),
        requested_at: Timestamp::now(),
        deadline_at: None,
        parameters: serde_json::json!({}),
    });
    true
}

/// Puts a record into a phase.
pub fn settle(record: &mut PodRecord, phase: PodPhase, cause: Option<String>) {
    if phase == PodPhase::Deleted {
        record.secrets = None;
    }
    if record.phase != phase {
        record.phase_since = following(record.phase_since, Timestamp::now());
    }
    record.phase = phase;
    record.cause = cause;
}

/// The operation that a request becomes, before its first step.
pub fn operation_of(request: &Request, steps: &[Step], now: Timestamp, deadline_at: Timestamp) -> Operation {
    Operation {
        operation_id: request.operation_id,
        request_id: request.request_id,
        kind: request.kind.clone(),
        target_id: request.target_id.clone(),
        verb: request.verb.clone(),
        requested_by: request.requested_by.clone(),
        host_id: None,
        takeovers: 0,
        progress: Progress::Running,
        cause: None,
        started_at: now,
        deadline_at,
        ended_at: None,
        steps: steps.iter().copied().map(planned).collect(),
    }
}

fn planned(step: Step) -> OperationStep {
    OperationStep {
        label: step.label().into(),
        progress: Progress::Waiting,
        cause: None,
        note: None,
        started_at: None,
        ended_at: None,
    }
}

/// Forgets the operation that has ended, and takes up the next request, if there is one.
pub fn next(record: &mut PodRecord, settings: &Orchestrator, now: Timestamp) {
    if let Some(ended) = record.operation.take_if(|operation| operation.ended_at.is_some()) {
        record.ended_operations.push(ended.operation_id);
        let surplus = record.ended_operations.len().saturating_sub(REMEMBERED_OPERATIONS);
        record.ended_operations.drain(..surplus);
        record.cancelled_by = None;
    }
    if record.operation.is_some() || record.queue.is_empty() {
        return;
    }
    let request = record.queue.remove(0);
    let allowed = if request.verb == Verb::Create.as_str() {
        settings.create_deadline_ms
    } else {
        settings.operation_deadline_ms
    };
    let latest = now.plus(Duration::from_millis(allowed));
    let deadline_at = request.deadline_at.map_or(latest, |wanted| wanted.min(latest));
    let verb = Verb::find(&request.verb);
    let mut operation = operation_of(&request, &verb.map(Verb::steps).unwrap_or_default(), now, deadline_at);
    operation.host_id = record.host_id;
    match verb {
        // Nothing of ours takes in others.
        None => end(&mut operation, Progress::Failed, Some(format!("a pod knows no {}", request.verb)), now),
        Some(_) if request.deadline_at.is_some_and(|wanted| wanted <= now) => {
            let cause = "nobody wanted it any more when its turn came".to_owned();
            end(&mut operation, Progress::Failed, Some(cause), now);
        }
        Some(verb) => {
            if let Some(desired) = desired(verb) {
                record.desired = desired;
            }
            if !matches!(verb, Verb::Clean) && request.requested_by != PINACLE {
                // A person has a hand in it: what happened before counts no more.
                (record.restarts, record.restarted_at, record.restart_at) = (0, None, None);
            }
        }
    }
    record.operation = Some(operation);
}

fn desired(verb: Verb) -> Option<Desired> {
    match verb {
        Verb::Create | Verb::Start | Verb::Restart | Verb::Resume => Some(Desired::Running),
        Verb::Stop => Some(Desired::Stopped),
        Verb::Pause => Some(Desired::Paused),
        Verb::Delete => Some(Desired::Deleted),
        Verb::Clean => None,
    }
}

fn end(operation: &mut Operation, progress: Progress, cause: Option<String>, now: Timestamp) {
    operation.progress = progress;
    operation.cause = cause.map(|cause| cause.chars().take(1000).collect());
    operation.ended_at = Some(now);
}

/// Whether an operation undoes what it did, because it failed or was cancelled.
pub fn is_undoing(operation: &Operation) -> bool {
    operation.steps.iter().any(|step| matches!(step.progress, Progress::Failed | Progress::Cancelled))
}

/// The step that an operation is at.
pub fn current_step(operation: &Operation) -> Option<(usize, &OperationStep)> {
    operation.steps.iter().enumerate().find(|(_, step)| matches!(step.progress, Progress::Waiting | Progress::Running))
}

/// The step that the operation is at begins.
pub fn begin_step(record: &mut PodRecord, now: Timestamp) {
    let is_placed = record.host_id.is_some();
    let Some(operation) = record.operation.as_mut().filter(|operation| operation.ended_at.is_none()) else { return };
    let (verb, undoing) = (Verb::find(&operation.verb), is_undoing(operation));
    let Some(index) = current_step(operation).map(|(index, _)| index) else { return };
    let Some(step) = operation.steps.get_mut(index) else { return };
    step.progress = Progress::Running;
    step.started_at = step.started_at.or(Some(now));
    let phase = match (verb, Step::find(&step.label)) {
        (Some(verb), Some(step)) if !undoing => phase_during(verb, step, is_placed),
        _ => None,
    };
    if let Some(phase) = phase {
        settle(record, phase, None);
    }
}

fn phase_during(verb: Verb, step: Step, is_placed: bool) -> Option<PodPhase> {
    match (verb, step) {
        (Verb::Create | Verb::Start | Verb::Restart, Step::Place) if !is_placed => Some(PodPhase::Placing),
        (Verb::Create, Step::Image | Step::Network | Step::Volume | Step::Container) => Some(PodPhase::Provisioning),
        (Verb::Start | Verb::Restart, Step::Place | Step::Image | Step::Network | Step::Volume | Step::Container)
        | (Verb::Create | Verb::Start | Verb::Restart, Step::Start | Step::Answer) => Some(PodPhase::Starting),
        (Verb::Stop | Verb::Restart, Step::Stop) => Some(PodPhase::Stopping),
        (Verb::Delete, _) => Some(PodPhase::Deleting),
        _ => None,
    }
}

/// The step at hand is done; after the last one the operation ends, otherwise the next one begins.
pub fn finish_step(record: &mut PodRecord, effect: &Effect, now: Timestamp) {
    apply(record, effect);
    let Some(operation) = record.operation.as_mut() else { return };
    if let Some(index) = current_step(operation).map(|(index, _)| index)
        && let Some(step) = operation.steps.get_mut(index)
    {
        (step.progress, step.note, step.ended_at) = (Progress::Succeeded, None, Some(now));
    }
    if current_step(operation).is_some() {
        begin_step(record, now);
    } else {
        end_operation(record, effect, now);
    }
}

fn apply(record: &mut PodRecord, effect: &Effect) {
    match effect {
        Effect::None | Effect::Found(_) => {}
        Effect::Placed { host, port, subnet } => {
            (record.host_id, record.external_port, record.subnet) = (Some(*host), Some(*port), Some(*subnet));
            if let Some(operation) = &mut record.operation {
                operation.host_id = Some(*host);
            }
        }
        Effect::Released => {
            (record.host_id, record.external_port, record.subnet) = (None, None, None);
            record.residue = false;
        }
    }
}

/// The step at hand failed or was cancelled, and with it the operation: what it did is undone, if there is anything to
/// undo.
pub fn give_up(record: &mut PodRecord, progress: Progress, cause: &str, now: Timestamp) {
    let Some(operation) = record.operation.as_mut() else { return };
    let undoing = is_undoing(operation);
    let undo = Verb::find(&operation.verb).filter(|_| !undoing).map(Verb::undo).unwrap_or_default();
    if let Some(index) = current_step(operation).map(|(index, _)| index) {
        if let Some(step) = operation.steps.get_mut(index) {
            (step.progress, step.note, step.ended_at) = (progress, None, Some(now));
            step.cause = Some(cause.chars().take(1000).collect());
        }
        operation.steps.truncate(index + 1);
    }
    if !undoing {
        operation.cause = Some(cause.chars().take(1000).collect());
    }
    operation.steps.extend(undo.into_iter().map(planned));
    if current_step(operation).is_some() {
        begin_step(record, now);
    } else {
        end_operation(record, &Effect::None, now);
    }
}

/// All steps have ended: so has the operation, and the pod is in the phase that follows.
fn end_operation(record: &mut PodRecord, last: &Effect, now: Timestamp) {
    let Some(operation) = record.operation.as_mut() else { return };
    let verb = Verb::find(&operation.verb);
    let failures: Vec<&OperationStep> =
        operation.steps.iter().filter(|step| matches!(step.progress, Progress::Failed | Progress::Cancelled)).collect();
    // The first that failed says how it went; a second one, that it could not be undone.
    let (progress, remains) = match failures.as_slice() {
        [] => (Progress::Succeeded, None),
        [first] => (first.progress, None),
        [first, .., last] => (first.progress, last.cause.clone()),
    };
    let mut cause = operation.cause.clone();
    if let (Some(cause), Some(remains)) = (&mut cause, &remains) {
        cause.push_str("; it could not be undone: ");
        cause.push_str(remains);
    }
    end(operation, progress, cause.clone(), now);
    let Some(verb) = verb else { return };
    if progress == Progress::Succeeded {
        let phase = match verb {
            Verb::Create | Verb::Start | Verb::Restart | Verb::Resume => Some(PodPhase::Running),
            Verb::Stop => Some(PodPhase::Stopped),
            Verb::Pause => Some(PodPhase::Paused),
            Verb::Delete => Some(PodPhase::Deleted),
            Verb::Clean => None,
        };
        if let Some(phase) = phase {
            settle(record, phase, None);
        }
        return;
    }
    match (verb, last) {
        (Verb::Create, _) => {
            record.residue = record.host_id.is_some();
            settle(record, PodPhase::Failed, cause);
        }
        // Taken up again by a reconciler, until it is done.
        (Verb::Delete, _) => settle(record, PodPhase::Deleting, cause),
        (Verb::Clean, _) => {}
        (_, Effect::Found(phase)) if progress == Progress::Cancelled || *phase == PodPhase::Running => {
            settle(record, *phase, cause);
            record.desired = match phase {
                PodPhase::Running => Desired::Running,
                PodPhase::Paused => Desired::Paused,
                _ => Desired::Stopped,
            };
        }
        // It was to be stopped or frozen, and is neither.
        (Verb::Stop | Verb::Pause, Effect::Found(phase)) => settle(record, *phase, cause),
        _ => settle(record, PodPhase::Failed, cause),
    }
}

#[cfg(test)]
mod tests;
