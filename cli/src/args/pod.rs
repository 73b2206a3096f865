//! `pinacle pod …` and `pinacle op …`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueEnum};

use super::Yes;

/// `pinacle pod …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PodCommand {
    /// Which pods there are, and how they are
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  pinacle pod ls
  pinacle pod ls --host my-machine
  pinacle pod ls --json | jq length"
    )]
    Ls(PodList),
    /// One pod: where it is in its life and why, what is done to it now, its newest figures
    #[command(after_help = "\
Examples:
  pinacle pod show web
  pinacle pod show pod_2hXz0vT0mZ5r9J7b1QqWcN8dKfE --json")]
    Show {
        /// Its name or id
        pod: String,
    },
    /// Make a pod and start it
    #[command(after_help = "\
Examples:
  pinacle pod create web
  pinacle pod create web --tier dev.large --label zone=north
  pinacle pod create web --owner platform                    for a team
  pinacle pod create worker --image registry.example.com/worker:3 --env-file worker.env --restart on-failure
  pinacle pod create web --idempotency-key ci-build-1347     the same pod however often it is said
  pinacle pod create web --json | jq -r .pod.external_port")]
    Create(Box<CreateArgs>),
    /// Start a pod that is stopped or failed; what is missing of it is made anew
    #[command(after_help = "Examples:\n  pinacle pod start web")]
    Start(PodAction),
    /// Stop a pod; its volumes stay
    #[command(after_help = "Examples:\n  pinacle pod stop web\n  pinacle pod stop web --no-wait")]
    Stop(PodAction),
    /// Stop a pod and start it
    #[command(after_help = "Examples:\n  pinacle pod restart web")]
    Restart(PodAction),
    /// Freeze a pod in memory
    #[command(after_help = "Examples:\n  pinacle pod pause web")]
    Pause(PodAction),
    /// Let a frozen pod go on
    #[command(after_help = "Examples:\n  pinacle pod resume web")]
    Resume(PodAction),
    /// Give a pod to another owner: yourself, or a team
    #[command(after_help = "\
Examples:
  pinacle pod transfer web platform
  pinacle pod transfer web ann@example.com         for admins: to anybody")]
    Transfer {
        #[command(flatten)]
        action: PodAction,
        /// A team's name or id, a person's id or e-mail address
        owner: String,
    },
    /// Remove a pod with all that it has, for good
    #[command(visible_alias = "delete", after_help = "Examples:\n  pinacle pod rm web --yes")]
    Rm {
        #[command(flatten)]
        action: PodAction,
        #[command(flatten)]
        yes: Yes,
    },
    /// What a pod prints
    #[command(after_help = "\
Examples:
  pinacle pod logs web
  pinacle pod logs web --tail 1000
  pinacle pod logs web -f")]
    Logs(LogArgs),
    /// The commands that were run for a pod, and what they printed
    #[command(after_help = "\
Examples:
  pinacle pod exec-log web
  pinacle pod exec-log web --container-only
  pinacle pod exec-log web -f                       as they run
  pinacle pod exec-log web --op op_2hXz0vT0mZ5r9J7b1QqWcN8dKfE --json")]
    ExecLog {
        /// Its name or id
        pod: String,
        #[command(flatten)]
        exec: ExecArgs,
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
        /// Only what ran inside the pod
        #[arg(long)]
        container_only: bool,
    },
    /// What happened to a pod
    #[command(after_help = "\
Examples:
  pinacle pod events web
  pinacle pod events web --limit 10 --json")]
    Events {
        /// Its name or id
        pod: String,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        limit: u64,
    },
}

/// `pinacle pod ls`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PodList {
    /// Only pods on this host, by its name or id
    #[arg(long)]
    pub host: Option<String>,
    /// With ids
    #[arg(long)]
    pub ids: bool,
}

/// `pinacle pod create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArgs {
    /// What to call it: 2 to 63 of a-z, 0-9 and -
    pub name: String,
    /// How much it may use: dev.small, dev.medium, dev.large or dev.xlarge
    #[arg(long, default_value = "dev.small")]
    pub tier: String,
    /// The image [default: the installation's base image]
    #[arg(long)]
    pub image: Option<String>,
    /// Docker's runtime: runsc (gVisor), or runc where the installation allows it [default: runsc]
    #[arg(long)]
    pub runtime: Option<String>,
    /// An environment variable; no place for secrets. May be given several times
    #[arg(long = "env", short, value_name = "NAME=VALUE", value_parser = super::pair)]
    pub environment: Vec<(String, String)>,
    /// A file of them, one a line; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// A secret of yours that it has in /run/secrets; see pinacle secrets. May be given several times
    #[arg(long = "secret", value_name = "NAME")]
    pub secrets: Vec<String>,
    /// The project that it is for: its secrets go before those for all projects
    #[arg(long)]
    pub project: Option<String>,
    /// Whose it is to be: a team's name or id [default: yourself]
    #[arg(long, value_name = "TEAM")]
    pub owner: Option<String>,
    /// The only host that it may be on, by its name or id
    #[arg(long)]
    pub host: Option<String>,
    /// A label that its host must have. May be given several times
    #[arg(long = "label", short, value_name = "KEY=VALUE", value_parser = super::pair)]
    pub labels: Vec<(String, String)>,
    /// What happens when it ends by itself
    #[arg(long, value_enum, default_value_t = RestartArg::Always)]
    pub restart: RestartArg,
    /// Makes the request the same one however often it is sent [default: a new one each time]
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    #[command(flatten)]
    pub wait: Wait,
}

/// What happens when a pod ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestartArg {
    Always,
    OnFailure,
    Never,
}

impl RestartArg {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on_failure",
            Self::Never => "never",
        }
    }
}

/// Something done to a pod.
#[derive(Debug, Clone, Args)]
pub(crate) struct PodAction {
    /// Its name or id
    pub pod: String,
    #[command(flatten)]
    pub wait: Wait,
}

/// Whether to stay until it is done.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Wait {
    /// Only ask for it; pinacle op show tells how it goes
    #[arg(long, action = ArgAction::SetTrue)]
    pub no_wait: bool,
}

/// `pinacle pod logs`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// Its name or id
    pub pod: String,
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
    /// So many lines from the end
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub tail: u32,
}

/// Which commands that were run.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExecArgs {
    /// Only those of this operation
    #[arg(long, value_name = "ID")]
    pub op: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub limit: u64,
}

/// `pinacle op …`.
#[derive(Debug, Subcommand)]
pub(crate) enum OpCommand {
    /// What is being done, and what was, the newest last
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  pinacle op ls
  pinacle op ls --pod web
  pinacle op ls --progress failed --limit 5 --json"
    )]
    Ls {
        /// Only those on this pod, by its name or id
        #[arg(long)]
        pod: Option<String>,
        /// Only those that are so far
        #[arg(long, value_enum)]
        progress: Option<ProgressArg>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        limit: u64,
    },
    /// One operation with its steps
    #[command(after_help = "\
Examples:
  pinacle op show op_2hXz0vT0mZ5r9J7b1QqWcN8dKfE
  pinacle op show op_2hXz0vT0mZ5r9J7b1QqWcN8dKfE --follow")]
    Show {
        /// Its id
        id: String,
        /// Stay until it has ended
        #[arg(long, short)]
        follow: bool,
    },
    /// Cancel an operation; what it has made so far is cleared away
    #[command(after_help = "Examples:\n  pinacle op cancel op_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    Cancel {
        /// Its id
        id: String,
        #[command(flatten)]
        wait: Wait,
    },
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    Waiting,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl ProgressArg {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
