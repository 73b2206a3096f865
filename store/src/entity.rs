//! The tables as SeaORM knows them. Private: whoever reads for a person comes through a finder with a scope.

pub mod account;
pub mod api_token;
pub mod data_key;
pub mod dead_letter;
pub mod exec_log;
pub mod host;
pub mod host_enrolment;
pub mod host_event;
pub mod host_key;
pub mod host_metrics;
pub mod host_metrics_1h;
pub mod host_metrics_1m;
pub mod login;
pub mod operation;
pub mod operation_step;
pub mod pod;
pub mod pod_event;
pub mod pod_metrics;
pub mod pod_metrics_1h;
pub mod pod_metrics_1m;
pub mod request;
pub mod rollup_pending;
pub mod rollup_pending_hour;
pub mod team;
pub mod team_member;
