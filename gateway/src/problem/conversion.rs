//! Errors of the store, the bus, the agents and axum's extractors as problems: the one place that knows both sides.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use pinacle_bus::{
    client::{AskError, BusError, BusErrorKind},
    contract::command::{Fault, FaultCode},
};
use pinacle_store::{StoreError, StoreErrorKind};

use super::{Code, Problem};

impl From<StoreError> for Problem {
    /// What does not exist is told by the handler, which knows what was asked for; here it is a fault.
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::BadCursor => Self::field(Code::InvalidCursor, "cursor", "is not a cursor of this list"),
            StoreErrorKind::Unavailable => Self::internal(Code::DatabaseUnavailable, "read the history", &error),
            StoreErrorKind::Data => {
                Self::new(Code::InvalidParameter, "a parameter has a value that the history cannot have")
            }
            StoreErrorKind::NotFound
            | StoreErrorKind::Conflict { .. }
            | StoreErrorKind::NoPartition
            | StoreErrorKind::Schema
            | StoreErrorKind::Other => Self::internal(Code::Internal, "read the history", &error),
        }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        match error.kind() {
            BusErrorKind::NotConnected | BusErrorKind::Timeout | BusErrorKind::Refused => {
                Self::internal(Code::BusUnavailable, "use the bus", &error)
            }
            BusErrorKind::Conflict | BusErrorKind::TooLarge | BusErrorKind::Malformed => {
                Self::internal(Code::Internal, "use the bus", &error)
            }
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoAgent => Self::new(Code::AgentUnreachable, Code::AgentUnreachable.explanation()),
            AskError::Timeout => Self::new(Code::AgentTimeout, Code::AgentTimeout.explanation()),
            AskError::Fault(fault) => from_fault(fault),
            AskError::Malformed(source) => Self::internal(Code::AgentFault, "read an agent's answer", &source),
            AskError::Bus(source) => source.into(),
        }
    }
}

/// An agent's words are for people, but come from a host: bounded, and only where they help whoever asked.
fn from_fault(fault: Fault) -> Problem {
    const LONGEST: usize = 500;
    let code = match fault.code {
        FaultCode::UnknownCommand | FaultCode::BadRequest => Code::AgentRefused,
        FaultCode::NotFound => Code::NotFoundOnHost,
        FaultCode::Busy => Code::AgentBusy,
        FaultCode::Timeout => Code::AgentTimeout,
        FaultCode::Unavailable => Code::AgentUnavailable,
        FaultCode::Internal => Code::AgentFault,
    };
    if code.status().is_server_error() {
        return Problem::internal(code, "have an agent do a command", &fault);
    }
    let said: String = fault.message.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect();
    Problem::new(code, format!("the agent says: {said}"))
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        // It names the parameter and what it should be; both come from the request and our own types.
        told(Code::InvalidParameter, &rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        told(Code::InvalidParameter, &rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::JsonDataError(_) | JsonRejection::JsonSyntaxError(_) => {
                told(Code::InvalidBody, &rejection.body_text())
            }
            JsonRejection::MissingJsonContentType(_) => {
                Self::new(Code::UnsupportedMediaType, Code::UnsupportedMediaType.explanation())
            }
            other => Self::for_status(other.status()),
        }
    }
}

/// A serde text without the preamble that axum puts before it; where it begins with a field, with that field's name.
fn told(code: Code, text: &str) -> Problem {
    let text = text.split_once(": ").map_or(text, |(_, rest)| rest);
    let text: String = text.chars().take(500).collect();
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match text.split_once(": ") {
        Some((field, message)) if is_name(field) => Problem::field(code, field, message),
        _ => Problem::new(code, text),
    }
}
