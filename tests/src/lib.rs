#![doc = include_str!("../README.md")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a harness fails the test that uses it, loudly and at once; clippy's exemption for tests does not reach it"
)]

pub mod docker;
pub mod eventually;
pub mod lab;
pub mod leftovers;
pub mod machine;
pub mod nats;
pub mod peers;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod sandbox;
pub mod stack;

pub use docker::{Docker, Runtime};
pub use eventually::{consistently, eventually};
pub use nats::{Nats, User};
pub use postgres::Postgres;
pub use process::{Launch, Process};
pub use proxy::Proxy;
pub use sandbox::Sandbox;
pub use stack::Stack;
