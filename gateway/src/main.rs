//! The gateway's process.

use std::process::ExitCode;

use pinacle_bus::service::{self, Threads};

fn main() -> ExitCode {
    service::main("pinacle-gateway", Threads::Many, pinacle_gateway::start)
}
