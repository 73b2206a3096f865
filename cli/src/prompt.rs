//! Asking a person for a line, on standard error; what was typed comes back without its end.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::Context as _;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// No line that is asked for is longer.
const LONGEST: u64 = 64 * 1024;

/// Whether somebody can be asked.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a line.
pub(crate) fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    write!(io::stderr(), "{question}: ")?;
    line()
}

/// Asks for a line that is not shown while it is typed.
pub(crate) fn ask_hidden(question: &str) -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin).context("cannot read the terminal's settings")?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    // Before it is asked for: what is typed from then on is hidden.
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden).context("cannot hide what is typed")?;
    let read = ask(question);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown).context("cannot show again what is typed")?;
    writeln!(io::stderr())?;
    read
}

/// The next line of standard input.
pub(crate) fn line() -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    let read = io::stdin().lock().take(LONGEST).read_line(&mut line);
    read.map_err(|error| Failure::input(format!("standard input is no text: {error}")))?;
    let length = without_end(&line).len();
    line.truncate(length);
    Ok(line)
}

/// A text without the end of its last line.
pub(crate) fn without_end(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |rest| rest.strip_suffix('\r').unwrap_or(rest))
}
