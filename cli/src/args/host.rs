//! `pinacle host …`.

use std::{path::PathBuf, time::Duration};

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
    /// Make a token by which a machine joins, and print the line to run there
    #[command(after_help = "\
Examples:
  pinacle host enrol --name north --label zone=a
  pinacle host enrol --uses 20 --expires 2d            for a rack
  pinacle host enrol --host north                      north was set up anew, or another machine takes its place
  pinacle host enrol --json | jq -r .token")]
    Enrol(JoinTerms),
    /// The tokens by which machines may join; take one back
    #[command(after_help = "\
Examples:
  pinacle host tokens
  pinacle host tokens --revoke enrol_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    Tokens {
        /// Take this one back, by its id
        #[arg(long, value_name = "ID")]
        revoke: Option<String>,
    },
    /// Make a machine a host over SSH, from here
    #[command(after_help = "\
The machine's SSH host key is shown, and is to be confirmed, or named with --host-key. A user who is not root needs sudo
without a password.

Examples:
  pinacle host provision root@192.0.2.7 --name north --with-docker
  pinacle host provision admin@192.0.2.7 -i ~/.ssh/id_ed25519 --host-key SHA256:…")]
    Provision(Provision),
    /// Cut a host's agent off at once; pods on the host go on, unwatched
    #[command(after_help = "Examples:\n  pinacle host disable my-machine")]
    Disable {
        /// Its name or id
        host: String,
    },
    /// Let a disabled host's agent connect again
    #[command(after_help = "Examples:\n  pinacle host enable my-machine")]
    Enable {
        /// Its name or id
        host: String,
    },
    /// Have a host's agent make another key
    #[command(after_help = "\
A key that somebody else may have is not got rid of so: disable the host, or let the machine join again by a token that
names it.

Examples:
  pinacle host rotate-key my-machine")]
    RotateKey {
        /// Its name or id
        host: String,
    },
    /// Remove a host; what is on the machine stays there
    #[command(after_help = "\
Examples:
  pinacle host rm my-machine --yes
  pinacle host rm my-machine --delete-data --yes       its history and its pods' records, too")]
    Rm {
        /// Its name or id
        host: String,
        /// Delete its history and the records of its pods
        #[arg(long)]
        delete_data: bool,
        #[command(flatten)]
        yes: Yes,
    },
    /// Write down what is to be remembered about a host
    #[command(after_help = "\
Examples:
  pinacle host note my-machine in the rack by the window
  pinacle host note my-machine                         nothing any more")]
    Note {
        /// Its name or id
        host: String,
        /// What; nothing = forget what there is
        text: Vec<String>,
    },
    /// Keep new pods off a host for a while
    #[command(after_help = "\
Examples:
  pinacle host maintenance my-machine --for 2h --reason disks
  pinacle host maintenance my-machine --after 1d --for 2h
  pinacle host maintenance my-machine --clear")]
    Maintenance {
        /// Its name or id
        host: String,
        #[command(flatten)]
        window: MaintenanceWindow,
    },
    /// Say whose pods a host takes
    #[command(after_help = "\
Examples:
  pinacle host owners my-machine user_2hXz0vT0mZ5r9J7b1QqWcN8dKfE team_2hXz0vT0mZ5r9J7b1QqWcN8dKfE
  pinacle host owners my-machine --everybody")]
    Owners {
        /// Its name or id
        host: String,
        /// Users and teams, by id
        #[arg(conflicts_with = "everybody")]
        owners: Vec<String>,
        /// It takes everybody's pods
        #[arg(long)]
        everybody: bool,
    },
    /// Give a host to another owner: yourself, or a team; it takes their pods alone from then on
    #[command(after_help = "\
Pods that are on it stay. Tokens that name the host are good no more; for a machine that is set up anew its new owner makes
one.

Examples:
  pinacle host transfer my-machine platform
  pinacle host transfer my-machine ann@example.com         for admins: to anybody")]
    Transfer {
        /// Its name or id
        host: String,
        /// A team's name or id, a person's id or e-mail address
        owner: String,
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

/// On which terms machines join.
#[derive(Debug, Clone, Args)]
pub(crate) struct JoinTerms {
    /// What the host is to be called [default: as the machine calls itself]
    #[arg(long)]
    pub name: Option<String>,
    /// A label that it begins with, as KEY=VALUE; may be given several times
    #[arg(long = "label", value_name = "LABEL", value_parser = super::pair)]
    pub labels: Vec<(String, String)>,
    /// Whose it is, by id: you, or a team that you are in [default: you]
    #[arg(long)]
    pub owner: Option<String>,
    /// It takes everybody's pods; only admins may say so
    #[arg(long)]
    pub shared: bool,
    /// The host that joins again, by name or id
    #[arg(long, value_name = "HOST", conflicts_with_all = ["owner", "shared", "uses"])]
    pub host: Option<String>,
    /// How long the token is good [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub expires: Option<Duration>,
    /// How many machines may join by it [default: 1]
    #[arg(long)]
    pub uses: Option<u32>,
}

/// `pinacle host provision`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Provision {
    /// The machine, as USER@HOST
    pub target: String,
    /// The port of its SSH server
    #[arg(long, default_value_t = 22)]
    pub port: u16,
    /// The private key to log in with [default: as your SSH client does]
    #[arg(long, short, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Its SSH host key's fingerprint, instead of being asked
    #[arg(long, value_name = "SHA256:…")]
    pub host_key: Option<String>,
    /// Install Docker and gVisor there, which pods need
    #[arg(long)]
    pub with_docker: bool,
    #[command(flatten)]
    pub terms: JoinTerms,
}

/// A window of maintenance.
#[derive(Debug, Clone, Args)]
pub(crate) struct MaintenanceWindow {
    /// How long it lasts, such as 2h
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// How long until it begins [default: now]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub after: Option<Duration>,
    /// What for
    #[arg(long)]
    pub reason: Option<String>,
    /// End all of it
    #[arg(long, conflicts_with_all = ["duration", "after", "reason"])]
    pub clear: bool,
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
