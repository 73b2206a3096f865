//! The agent's program: one thread, since its footprint is paid for on every host.

use std::process::ExitCode;

use pinacle_agent::{AgentProgram, start};
use pinacle_bus::service::{Threads, main as run};

fn main() -> ExitCode {
    run::<AgentProgram, _, _>("pinacle-agent", Threads::One, start)
}
