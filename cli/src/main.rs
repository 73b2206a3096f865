//! The command `pinacle`: parses what was typed, runs it, decides the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinacle::main()
}
