#![doc = include_str!("../README.md")]

mod audit;
mod database;
mod entity;
mod error;
pub mod metrics;
mod page;
mod partition;
mod projection;
mod query;
mod retention;
mod rollup;
pub mod schema;
mod scope;

pub use audit::{Appended, AuditFilter, ChainCheck, ChainFault, ChainHead};
pub use database::{Database, Timeouts};
pub use entity::{
    account::Model as AccountRow, account_factor::Model as AccountFactorRow, account_token::Model as AccountTokenRow,
    api_token::Model as ApiTokenRow, audit_entry::Model as AuditRow, data_key::Model as DataKeyRow,
    dead_letter::Model as DeadLetterRow, exec_log::Model as ExecRow, host::Model as HostRow,
    host_enrolment::Model as HostEnrolmentRow, host_event::Model as HostEventRow, host_key::Model as HostKeyRow,
    host_metrics::Model as HostSampleRow, live_ticket::Model as LiveTicketRow, login::Model as LoginRow,
    operation::Model as OperationRow, operation_step::Model as OperationStepRow, pod::Model as PodRow,
    pod_claim::Model as PodClaimRow, pod_event::Model as PodEventRow, pod_metrics::Model as PodSampleRow,
    quota::Model as QuotaRow, request::Model as RequestRow, secret::Model as SecretRow,
    secret_version::Model as SecretVersionRow, team::Model as TeamRow, team_invitation::Model as TeamInvitationRow,
    team_member::Model as TeamMemberRow,
};
pub use error::{StoreError, StoreErrorKind};
pub use metrics::{
    HostMetricRow, HostPoint, MetricsBatch, MetricsWriter, PodMetricRow, PodPoint, Resolution, Series, SeriesQuery,
    Written,
};
pub use page::{Cursor, Direction, Page, PageRequest};
pub use partition::{Partition, Partitioned, PartitionsChanged};
pub use projection::{Applied, Mark, Replaced};
pub use query::{
    AccountTokenPurpose, Belongings, Claimed, EnrolmentClaim, EnrolmentRefused, EventFilter, EventRow, ExecFilter,
    FULL, ForeignIdentity, Holdings, HostFilter, LAST_ADMIN, LAST_OWNER, MemberRow, NewSecretVersion, OperationFilter,
    Person, PodFilter, Population, SecretFilter, UserChange, UserFilter,
};
pub use retention::Expiring;
pub use rollup::RollupDone;
pub use scope::Scope;
