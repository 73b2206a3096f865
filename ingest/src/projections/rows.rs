//! Messages as rows. Pure, and the same for the same message at the same place in its stream.

use base64::{Engine, prelude::BASE64_STANDARD};
use pinacle_bus::contract::{
    dead::DeadLetter, event::Event, exec::ExecRecord, host::HostRecord, pod::PodRecord, request::Operation,
    request::Request,
};
use pinacle_store::{
    DeadLetterRow, ExecRow, HostEventRow, HostRow, OperationRow, OperationStepRow, PodEventRow, PodRow, RequestRow,
};
use serde::Serialize;
use serde_json::Value;

/// The contract's checks hold every count below 2^60.
fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What was read as JSON can be written as JSON.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

pub fn host(record: &HostRecord, sequence: u64) -> HostRow {
    HostRow {
        host_id: record.host_id.to_string(),
        name: record.name.clone(),
        state: record.state.as_str().into(),
        cause: record.cause.as_str().into(),
        state_since: record.state_since.as_utc(),
        evidence: json(&record.evidence),
        admitted_at: record.admitted_at.as_utc(),
        cordoned: record.cordoned,
        labels: json(&record.labels),
        facts: json(&record.facts),
        owner: record.owner.clone(),
        notes: record.notes.clone(),
        maintenance: json(&record.maintenance),
        disabled: record.disabled,
        deleted_at: None,
        stream_sequence: count(sequence),
    }
}

pub fn pod(record: &PodRecord, sequence: u64) -> PodRow {
    PodRow {
        pod_id: record.pod_id.to_string(),
        name: record.name.clone(),
        owner: record.owner.clone(),
        host_id: record.host_id.map(|host| host.to_string()),
        phase: record.phase.as_str().into(),
        cause: record.cause.clone(),
        phase_since: record.phase_since.as_utc(),
        created_at: record.created_at.as_utc(),
        operation_id: record.operation.as_ref().map(|operation| operation.operation_id.to_string()),
        tier: record.spec.tier.clone(),
        image: record.spec.image.clone(),
        external_port: record.external_port.map(i32::from),
        fence: count(record.fence),
        deleted_at: None,
        stream_sequence: count(sequence),
    }
}

pub fn request(request: &Request, sequence: u64) -> RequestRow {
    RequestRow {
        request_id: request.request_id.to_string(),
        operation_id: request.operation_id.to_string(),
        kind: request.kind.clone(),
        target_id: request.target_id.clone(),
        verb: request.verb.clone(),
        requested_by: request.requested_by.clone(),
        requested_at: request.requested_at.as_utc(),
        deadline_at: request.deadline_at.map(|at| at.as_utc()),
        parameters: request.parameters.clone(),
        stream_sequence: count(sequence),
    }
}

pub fn host_event(event: &Event, sequence: u64) -> HostEventRow {
    HostEventRow {
        event_id: event.event_id.to_string(),
        host_id: event.target_id.clone(),
        at: event.at.as_utc(),
        what: event.what.clone(),
        message: event.message.clone(),
        detail: event.detail.clone(),
        stream_sequence: count(sequence),
    }
}

pub fn pod_event(event: &Event, sequence: u64) -> PodEventRow {
    PodEventRow {
        event_id: event.event_id.to_string(),
        pod_id: event.target_id.clone(),
        at: event.at.as_utc(),
        what: event.what.clone(),
        message: event.message.clone(),
        detail: event.detail.clone(),
        stream_sequence: count(sequence),
    }
}

pub fn operation(operation: &Operation, sequence: u64) -> (OperationRow, Vec<OperationStepRow>) {
    let operation_id = operation.operation_id.to_string();
    let steps = (0_i32..)
        .zip(&operation.steps)
        .map(|(position, step)| OperationStepRow {
            operation_id: operation_id.clone(),
            position,
            label: step.label.clone(),
            progress: step.progress.as_str().into(),
            cause: step.cause.clone(),
            started_at: step.started_at.map(|at| at.as_utc()),
            ended_at: step.ended_at.map(|at| at.as_utc()),
            stream_sequence: count(sequence),
            note: step.note.clone(),
        })
        .collect();
    let row = OperationRow {
        operation_id,
        request_id: operation.request_id.to_string(),
        kind: operation.kind.clone(),
        target_id: operation.target_id.clone(),
        verb: operation.verb.clone(),
        progress: operation.progress.as_str().into(),
        cause: operation.cause.clone(),
        started_at: operation.started_at.as_utc(),
        deadline_at: operation.deadline_at.as_utc(),
        ended_at: operation.ended_at.map(|at| at.as_utc()),
        stream_sequence: count(sequence),
        requested_by: operation.requested_by.clone(),
        host_id: operation.host_id.map(|host| host.to_string()),
        takeovers: i32::try_from(operation.takeovers).unwrap_or(i32::MAX),
    };
    (row, steps)
}

pub fn exec(record: &ExecRecord, sequence: u64) -> ExecRow {
    ExecRow {
        operation_id: record.operation_id.to_string(),
        sequence: record.sequence.into(),
        host_id: record.host_id.to_string(),
        pod_id: record.pod_id.map(|pod| pod.to_string()),
        step: record.step.clone(),
        label: record.label.clone(),
        command: record.command.clone(),
        container_command: record.container_command.clone(),
        stdout: record.stdout.clone(),
        stderr: record.stderr.clone(),
        exit_code: record.exit_code,
        started_at: record.started_at.as_utc(),
        duration_ms: record.duration_ms.map(count),
        stream_sequence: count(sequence),
    }
}

/// `Err` when the payload is not base64.
pub fn dead_letter(letter: &DeadLetter, sequence: u64) -> Result<DeadLetterRow, base64::DecodeError> {
    Ok(DeadLetterRow {
        dead_letter_id: letter.dead_letter_id.to_string(),
        at: letter.at.as_utc(),
        stream: letter.stream.clone(),
        consumer: letter.consumer.clone(),
        stream_sequence: count(letter.stream_sequence),
        subject: letter.subject.clone(),
        schema: letter.schema.into(),
        reason: letter.reason.clone(),
        tries: count(letter.tries),
        payload: BASE64_STANDARD.decode(&letter.payload_base64)?,
        payload_bytes: count(letter.payload_bytes),
        resent_at: None,
        dropped_at: None,
        dead_sequence: count(sequence),
    })
}
