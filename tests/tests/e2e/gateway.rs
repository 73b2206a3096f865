//! The gateway as a real process, on a real bus and a real Postgres: what people get over HTTP and WebSocket.

mod asking;
mod browser;
mod flows;
mod history;
mod http;
mod live;
mod people;
pub mod resume;
mod secrets;
mod socket;
pub mod stage;
mod vault;
