//! How a command fails: one line for a person, one exit code for a program.

use std::process::ExitCode;

use clap::{CommandFactory, error::ErrorKind};

use crate::{args::Cli, terminal::say};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was typed makes no sense: exit code 2.
    Input(String),
    /// It could not be done: exit code 1.
    Failed(String),
    /// A person pressed Ctrl-C while a command followed something: exit code 130, as shells have it.
    Interrupted(String),
    /// Whoever reads the output has gone: nothing to say, as with other programs.
    ReaderGone,
}

impl Failure {
    /// It could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// What was typed makes no sense.
    pub fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    /// The one line.
    pub fn line(&self) -> String {
        match self {
            Self::Input(message) | Self::Failed(message) | Self::Interrupted(message) => one_line(message),
            Self::ReaderGone => String::new(),
        }
    }

    /// Says the one line on standard error and returns the exit code.
    pub fn report(self) -> ExitCode {
        let code = match &self {
            Self::Input(_) => 2,
            Self::Failed(_) => 1,
            Self::Interrupted(_) => 130,
            Self::ReaderGone => return ExitCode::SUCCESS,
        };
        say(&format!("pinacle: {}", self.line()));
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // The whole chain, each cause once: libraries like to repeat their source in their own text.
        let mut line = String::new();
        for cause in error.chain() {
            let text = cause.to_string();
            if line.is_empty() {
                line = text;
            } else if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
        }
        Self::Failed(line)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::ReaderGone } else { anyhow::Error::new(error).into() }
    }
}

/// A text of several lines as one.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// What clap has to say about `typed`: help and the version as they are, a fault as one line.
pub(crate) fn refuse(error: &clap::Error, typed: impl IntoIterator<Item = String>) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away is no fault.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    Failure::Input(clap_line(error, typed)).report()
}

fn clap_line(error: &clap::Error, typed: impl IntoIterator<Item = String>) -> String {
    let command = command_of(typed);
    if matches!(error.kind(), ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        return format!("a command is missing: see {command} --help");
    }
    let text = error.render().to_string();
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .map(|line| line.strip_prefix("error: ").unwrap_or(line))
        .collect();
    // Tips are sentences of their own.
    let said = said.join(" ").replace(" tip: ", "; ");
    format!("{said} (see {command} --help)")
}

/// The command that was meant, as far as it can be told, such as `pinacle host show`.
fn command_of(typed: impl IntoIterator<Item = String>) -> String {
    let mut command = Cli::command();
    let mut path = command.get_name().to_owned();
    for word in typed.into_iter().skip(1) {
        if let Some(inner) = command.find_subcommand(&word).cloned() {
            path = format!("{path} {}", inner.get_name());
            command = inner;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn line(arguments: &[&str]) -> String {
        let error = Cli::try_parse_from(arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        clap_line(&error, arguments.iter().map(ToString::to_string))
    }

    #[test]
    fn what_clap_refuses_is_one_line_that_says_what_and_where_to_look() {
        insta::assert_snapshot!(
            [
                line(&["pinacle"]),
                line(&["pinacle", "hots"]),
                line(&["pinacle", "host"]),
                line(&["pinacle", "host", "show"]),
                line(&["pinacle", "host", "ls", "--state", "dead"]),
                line(&["pinacle", "events", "--since", "soon"]),
                line(&["pinacle", "replay", "metrics", "--speed=-1"]),
                line(&["pinacle", "up", "--nats-port", "70000"]),
                line(&["pinacle", "watch", "--host", "a", "--pod", "b"]),
            ]
            .join("\n")
        );
    }

    #[test]
    fn a_chain_of_errors_says_each_cause_once() {
        let error = anyhow::anyhow!("connection refused").context("connect to NATS: connection refused").context("up");
        assert_eq!(Failure::from(error).line(), "up: connect to NATS: connection refused");
    }
}
