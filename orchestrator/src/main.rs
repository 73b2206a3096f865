//! The orchestrator as a process.

use std::process::ExitCode;

use pinacle_bus::service::{self, Threads};

fn main() -> ExitCode {
    service::main("pinacle-orchestrator", Threads::Many, pinacle_orchestrator::start)
}
