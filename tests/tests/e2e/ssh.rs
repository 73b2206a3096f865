//! The orchestrator's commands on hosts, against OpenSSH's own server.

mod connection;
mod deadline;
mod fence;
mod fixture;
mod output;
mod record;
