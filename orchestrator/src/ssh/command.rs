//! What is to be run on a host.

use std::{fmt, path::PathBuf, time::Duration};

use pinacle_bus::{contract::PodId, settings::Secret};
use tokio::sync::watch;

use super::{SshError, capture::masked, quote};

/// Linux takes no longer single argument than 128 KiB, and a login shell gets the whole line as one; the rest is for
/// what [`super::wrapper`] puts around it.
const LONGEST_LINE: usize = 120 * 1024;

const DEADLINE: Duration = Duration::from_secs(60);

/// Who a command that changes something for a pod comes from: the host refuses it once it has seen a higher number for
/// that pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The pod.
    pub pod_id: PodId,
    /// [`PodRecord::fence`](pinacle_bus::contract::pod::PodRecord::fence) of the copy that sends it.
    pub number: u64,
}

/// What a command reads.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Nothing,
    Secret(Secret),
    File { path: PathBuf, sent: watch::Sender<u64> },
}

/// A command for a host: a program and its arguments, what it reads, how long it may take, and what people are told
/// about it.
#[derive(Clone)]
pub struct Command {
    arguments: Vec<String>,
    pub(super) input: Input,
    pub(super) masks: Vec<Secret>,
    pub(super) label: String,
    pub(super) container_command: Option<String>,
    pub(super) deadline: Duration,
    pub(super) fence: Option<Fence>,
}

impl Command {
    /// A program, looked for on the host's path.
    pub fn new(program: impl Into<String>) -> Self {
        let program = program.into();
        Self {
            label: program.clone(),
            arguments: vec![program],
            input: Input::Nothing,
            masks: Vec::new(),
            container_command: None,
            deadline: DEADLINE,
            fence: None,
        }
    }

    /// A script for the host's `sh`; further arguments are its `$1` and on.
    pub fn shell(script: impl Into<String>) -> Self {
        Self::new("sh").arg("-c").arg(script).arg("sh")
    }

    /// An argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Several arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// What it reads from standard input; otherwise nothing. It is on record nowhere, but what the command prints of it
    /// is, unless [`Self::mask`] is told.
    #[must_use]
    pub fn secret_stdin(mut self, secret: Secret) -> Self {
        self.input = Input::Secret(secret);
        self
    }

    /// A file on this machine that it reads from standard input, such as an image's archive. `sent` is told how many
    /// bytes are on their way.
    #[must_use]
    pub fn stdin_file(mut self, path: impl Into<PathBuf>, sent: watch::Sender<u64>) -> Self {
        self.input = Input::File { path: path.into(), sent };
        self
    }

    /// A value that is replaced by `***` in everything that is kept or told: command, standard output and error.
    #[must_use]
    pub fn mask(mut self, secret: Secret) -> Self {
        self.masks.push(secret);
        self
    }

    /// What it is, for people; otherwise the program's name.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What runs inside the pod by it, if anything does.
    #[must_use]
    pub fn container_command(mut self, command: Option<impl Into<String>>) -> Self {
        self.container_command = command.map(Into::into);
        self
    }

    /// How long it may take from being asked for to its end, waiting included; otherwise a minute.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long it may take.
    pub fn time_limit(&self) -> Duration {
        self.deadline
    }

    /// From whom it comes. For every command that changes something for a pod.
    #[must_use]
    pub fn fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// As a shell reads it.
    ///
    /// # Errors
    /// [`SshError::InvalidCommand`] when an argument holds NUL, or all are too long together.
    pub fn line(&self) -> Result<String, SshError> {
        if self.arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(SshError::InvalidCommand("an argument holds a NUL character"));
        }
        let line = self.joined(quote);
        if line.len() > LONGEST_LINE {
            return Err(SshError::InvalidCommand("it is longer than 120 KiB"));
        }
        Ok(line)
    }

    /// As people are shown it, secrets masked.
    pub fn shown(&self) -> String {
        // Before quoting, which could split a secret at its quotes.
        self.joined(|argument| quote(&masked(argument, &self.masks)))
    }

    fn joined(&self, quoted: impl Fn(&str) -> String) -> String {
        let quoted: Vec<String> = self.arguments.iter().map(|argument| quoted(argument)).collect();
        quoted.join(" ")
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_its_arguments_quoted() {
        let command = Command::new("docker").arg("run").args(["--label", "it's"]).arg("");
        assert_eq!(command.line().unwrap(), r"docker run --label 'it'\''s' ''");
    }

    #[test]
    fn what_no_shell_can_be_told_is_refused() {
        for command in [Command::new("echo").arg("a\0b"), Command::new("echo").arg("a".repeat(130_000))] {
            assert!(matches!(command.line(), Err(SshError::InvalidCommand(_))));
        }
    }

    #[test]
    fn a_secret_is_shown_nowhere_even_when_it_needs_quoting() {
        let command =
            Command::new("login").arg("--password=it's").mask(Secret::new("it's")).secret_stdin(Secret::new("x9"));
        assert_eq!(command.shown(), "login '--password=***'");
        assert_eq!(format!("{command:?}"), command.shown());
    }
}
