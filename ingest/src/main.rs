//! The ingest service's program.

use std::process::ExitCode;

use pinacle_bus::service::{Threads, main as run};
use pinacle_ingest::{IngestProgram, start};

fn main() -> ExitCode {
    run::<IngestProgram, _, _>("pinacle-ingest", Threads::Many, start)
}
