//! Events that reconcilers and terms publish. Their ids are derived from what they tell, so that one told twice is kept once.

use pinacle_bus::{
    client::Bus,
    contract::{
        EventId, Subject, Timestamp,
        event::{Event, HOST_ORPHAN, OPERATION_CHANGED, Orphan, POD_PHASE_CHANGED, PodPhaseChange},
        pod::PodRecord,
        request::Operation,
        subject::EventKind,
    },
};
use sha2::{Digest, Sha256};

use crate::{reconcile::ReconcileError, record::current_step};

/// The id of the event of `at` that `key` tells from all others.
pub fn event_id(at: Timestamp, key: &str) -> EventId {
    let mut digest = [0; 15];
    for (to, from) in digest.iter_mut().zip(Sha256::digest(key)) {
        *to = from;
    }
    EventId::derived(at, digest)
}

/// Publishes an event.
///
/// # Errors
/// When the stream did not take it in.
pub async fn publish(bus: &Bus, event: &Event) -> Result<(), ReconcileError> {
    let subject = Subject::Event { kind: event.kind, id: event.target_id.clone(), what: event.what.clone() };
    bus.publish(&subject, &event.event_id.to_string(), event).await?;
    Ok(())
}

/// A pod is in another phase.
///
/// # Errors
/// When the stream did not take it in.
pub async fn phase_changed(bus: &Bus, record: &PodRecord) -> Result<(), ReconcileError> {
    let (at, phase) = (record.phase_since, record.phase.as_str());
    let change = PodPhaseChange {
        pod_id: record.pod_id,
        phase: record.phase,
        cause: record.cause.clone(),
        host_id: record.host_id,
        operation_id: record.operation.as_ref().map(|operation| operation.operation_id),
    };
    let cause = record.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
    let event = Event {
        event_id: event_id(at, &format!("{} {phase} {}", record.pod_id, at.as_millis())),
        at,
        kind: EventKind::Pod,
        target_id: record.pod_id.to_string(),
        what: POD_PHASE_CHANGED.into(),
        message: line(&format!("pod {} is {phase}{cause}", record.name)),
        detail: serde_json::to_value(change)?,
    };
    publish(bus, &event).await
}

/// Something that belongs to nobody was found, or removed.
///
/// # Errors
/// When the stream did not take it in.
pub async fn orphan(bus: &Bus, orphan: &Orphan, host_name: &str) -> Result<(), ReconcileError> {
    let at = orphan.removed_at.unwrap_or(orphan.found_at);
    let what = if orphan.removed_at.is_some() { "was removed from" } else { "was found on" };
    let Orphan { host_id, kind, name, found_at, .. } = orphan;
    let event = Event {
        event_id: event_id(at, &format!("{host_id} {kind} {name} {what} {}", found_at.as_millis())),
        at,
        kind: EventKind::Host,
        target_id: host_id.to_string(),
        what: HOST_ORPHAN.into(),
        message: line(&format!("the {kind} {name}, which belongs to no pod, {what} {host_name}")),
        detail: serde_json::to_value(orphan)?,
    };
    publish(bus, &event).await
}

/// What differs between two states of a pod's record: its operation, and its phase. `None` before = all of it.
///
/// # Errors
/// When the stream did not take it in.
pub async fn changes(bus: &Bus, before: Option<&PodRecord>, now: &PodRecord) -> Result<(), ReconcileError> {
    if let Some(operation) = &now.operation
        && before.is_none_or(|before| before.operation.as_ref() != Some(operation))
    {
        operation_changed(bus, now, operation).await?;
    }
    if before.is_none_or(|before| (before.phase, before.phase_since) != (now.phase, now.phase_since)) {
        phase_changed(bus, now).await?;
    }
    Ok(())
}

/// How far an operation on a pod is. Each state of it has an id of its own.
///
/// # Errors
/// When the stream did not take it in.
pub async fn operation_changed(bus: &Bus, record: &PodRecord, operation: &Operation) -> Result<(), ReconcileError> {
    let detail = serde_json::to_value(operation)?;
    let (verb, progress) = (&operation.verb, operation.progress.as_str());
    let cause = operation.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
    let at = match current_step(operation) {
        Some((_, step)) if operation.ended_at.is_none() => format!(", at {}", step.label.replace('_', " ")),
        _ => String::new(),
    };
    let event = Event {
        event_id: event_id(operation.started_at, &detail.to_string()),
        at: Timestamp::now(),
        kind: EventKind::Op,
        target_id: operation.operation_id.to_string(),
        what: OPERATION_CHANGED.into(),
        message: line(&format!("{verb} of the pod {}: {progress}{at}{cause}", record.name)),
        detail,
    };
    publish(bus, &event).await
}

/// An operation that is told once, as it ended.
///
/// # Errors
/// When the stream did not take it in.
pub async fn operation(bus: &Bus, operation: &Operation, message: &str) -> Result<(), ReconcileError> {
    let (id, progress) = (operation.operation_id, operation.progress.as_str());
    let event = Event {
        event_id: event_id(operation.started_at, &format!("{id} {progress}")),
        at: operation.ended_at.unwrap_or(operation.started_at),
        kind: EventKind::Op,
        target_id: id.to_string(),
        what: OPERATION_CHANGED.into(),
        message: line(message),
        detail: serde_json::to_value(operation)?,
    };
    publish(bus, &event).await
}

/// One line, short enough for an event.
pub fn line(text: &str) -> String {
    text.replace(['\n', '\r', '\0'], " ").chars().take(250).collect()
}
