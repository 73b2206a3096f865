//! The gateway as a real process, on a real bus and a real Postgres: what people get over HTTP and WebSocket.

mod asking;
mod audit_log;
pub mod browser;
pub mod factor;
mod flows;
mod foreign;
mod history;
mod hostile;
mod http;
mod limits;
mod live;
mod mail;
mod owners;
mod people;
mod quotas;
pub mod resume;
mod schema;
mod secrets;
mod socket;
pub mod stage;
mod strangers;
mod teams;
pub mod tenants;
mod tokens;
mod vault;
