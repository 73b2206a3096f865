//! What is printed from the code itself: shell completions, and the bus's subjects.

use clap::CommandFactory;

use crate::{args::Cli, failure::Failure, terminal::Terminal};

/// `pinacle completions`.
pub(crate) fn print(terminal: &Terminal, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pinacle", &mut script);
    terminal.text(&String::from_utf8_lossy(&script))
}

/// `pinacle subjects`.
pub(crate) fn subjects(terminal: &Terminal) -> Result<(), Failure> {
    terminal.text(&pinacle_bus::contract::document::subjects())
}
