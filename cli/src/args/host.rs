//! `pinacle host …`.

use clap::{Args, Subcommand, ValueEnum};

use super::{ExecArgs, Yes};

/// `pinacle host …`.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Which hosts there are, and how they are
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  pinacle host ls
  pinacle host ls --state offline
  pinacle host ls --json | jq -r '.[].name'"
    )]
    Ls(HostList),
    /// One host: its state and why, its hardware, its newest figures
    #[command(after_help = "\
Examples:
  pinacle host show my-machine
  pinacle host show host_2hXz0vT0mZ5r9J7b1QqWcN8dKfE --json")]
    Show {
        /// Its name or id
        host: String,
    },
    /// One host, live: cores, memory, network, pods. q quits
    #[command(after_help = "\
Examples:
  pinacle host top                this machine, or the first host by name
  pinacle host top my-machine
  pinacle host top my-machine | cat     one picture, for a file")]
    Top {
        /// Its name or id [default: this machine, or the first by name]
        host: Option<String>,
    },
    /// Close a host for new pods; those on it stay
    #[command(after_help = "Examples:\n  pinacle host cordon my-machine")]
    Cordon {
        /// Its name or id
        host: String,
    },
    /// Open a host for new pods again
    #[command(after_help = "Examples:\n  pinacle host uncordon my-machine")]
    Uncordon {
        /// Its name or id
        host: String,
    },
    /// Set and take away labels, which pods may ask for
    #[command(after_help = "\
Examples:
  pinacle host label my-machine zone=north disk=fast
  pinacle host label my-machine zone-              take it away
  pinacle host show my-machine                     which it has")]
    Label {
        /// Its name or id
        host: String,
        /// KEY=VALUE sets a label, KEY- takes it away
        #[arg(required = true, value_name = "LABEL", value_parser = label_change)]
        labels: Vec<LabelChange>,
    },
    /// Trust the SSH keys that a host has now, after it was set up anew
    #[command(after_help = "\
Compare before: the host prints its own with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

Examples:
  pinacle events --host my-machine                 which key it offers
  pinacle host trust-keys my-machine --yes")]
    TrustKeys {
        /// Its name or id
        host: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// The commands that were run on a host, and what they printed
    #[command(after_help = "\
Examples:
  pinacle host exec-log my-machine
  pinacle host exec-log my-machine --op op_2hXz0vT0mZ5r9J7b1QqWcN8dKfE
  pinacle host exec-log my-machine --json | jq 'select(.exit_code != 0)'")]
    ExecLog {
        /// Its name or id
        host: String,
        #[command(flatten)]
        exec: ExecArgs,
    },
}

/// `pinacle host ls`.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostList {
    /// Only hosts in this state
    #[arg(long, value_enum)]
    pub state: Option<HostStateArg>,
    /// With ids
    #[arg(long)]
    pub ids: bool,
}

/// A host's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostStateArg {
    Online,
    Degraded,
    Offline,
    Unknown,
}

/// What becomes of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LabelChange {
    /// This label has this value.
    Set(String, String),
    /// It goes.
    Remove(String),
}

fn label_change(text: &str) -> Result<LabelChange, String> {
    if let Ok((key, value)) = super::pair(text) {
        return Ok(LabelChange::Set(key, value));
    }
    match text.strip_suffix('-').filter(|key| !key.is_empty()) {
        Some(key) => Ok(LabelChange::Remove(key.to_owned())),
        None => Err("give KEY=VALUE to set a label, KEY- to take it away".into()),
    }
}
