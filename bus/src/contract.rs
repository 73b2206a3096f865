//! What travels on the bus, and nothing else: ids, subjects, messages, streams, buckets and headers.
//!
//! This is the only place that spells any of them. It does no I/O, so that whoever wants to know what Pinacle says
//! can read it in one sitting, and so that every byte it accepts can be fuzzed.
//!
//! Rules that hold for every message: JSON, snake case, units in the field's name, `percent` = 100 for one core,
//! times in RFC 3339 UTC with milliseconds. Unknown fields are ignored and missing ones are an error; a field added
//! later has a default, so that an older sender is still understood.

pub mod audit;
pub mod command;
pub mod dead;
pub mod document;
pub mod enrolment;
pub mod event;
pub mod exec;
pub mod grant;
pub mod host;
pub mod id;
pub mod inventory;
pub mod key;
pub mod ledger;
pub mod message;
pub mod metrics;
pub mod pod;
pub mod reconciler;
pub mod request;
pub mod subject;
pub mod time;
pub mod topology;

pub use id::{
    AuditId, DeadLetterId, EnrolmentId, EventId, HostId, InvalidId, InvitationId, LoginId, OperationId, PodId,
    RequestId, SecretId, SessionId, TeamId, TokenId, UserId,
};
pub use message::{DecodeError, Invalid, Message, decode, encode};
pub use subject::Subject;
pub use time::Timestamp;

/// The version that this code writes into [`header::SCHEMA`]. Every version up to it is read.
pub const SCHEMA_VERSION: u32 = 1;

/// Header names.
pub mod header {
    /// JetStream's own deduplication header.
    pub const MESSAGE_ID: &str = "Nats-Msg-Id";
    /// The [`SCHEMA_VERSION`](super::SCHEMA_VERSION) of the sender; absent means 1.
    pub const SCHEMA: &str = "Pinacle-Schema";
    /// The id of the request that led to this message.
    pub const CAUSE: &str = "Pinacle-Cause";
    /// W3C trace context.
    pub const TRACE_PARENT: &str = "traceparent";
}
