//! What can be typed: every command, option and example. Nothing here does anything.

mod audit;
mod commands;
mod host;
mod login;
mod people;
mod pod;
mod secret;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub(crate) use audit::{AuditCommand, AuditFilter, AuditFormat, VerifyArgs};
pub(crate) use commands::{DeadCommand, EventsArgs, MigrateCommand, MigrateRun, ReplayArgs, UpArgs, WatchArgs};
pub(crate) use host::{HostCommand, HostList, HostStateArg, JoinTerms, LabelChange, MaintenanceWindow, Provision};
pub(crate) use login::{LoginArgs, SessionCommand};
pub(crate) use people::{QuotaArgs, Switch, TeamCommand, TokenArgs, TokenCommand, UserCommand};
pub(crate) use pod::{CreateArgs, ExecArgs, LogArgs, OpCommand, PodAction, PodCommand, PodList, Wait};
pub(crate) use secret::{SecretCommand, SecretPlace, SshKeyCommand};

use crate::failure::Failure;

const STYLES: clap::builder::Styles = clap::builder::Styles::plain();

/// Runs a fleet: watches every host, runs people's pods on them, remembers all that happened.
#[derive(Debug, Parser)]
#[command(
    name = "pinacle",
    version,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = false,
    after_help = "\
Examples:
  pinacle up                     start everything on this machine and stay in the foreground
  pinacle host ls                which hosts there are, and how they are
  pinacle pod create web         make a pod and watch it being made
  pinacle host top my-machine    one host, live
  pinacle watch                  everything, as it happens
  pinacle events --since 1h      what happened in the last hour"
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print JSON: one document, or one object a line where output has no end
    #[arg(long, global = true, help_heading = "Options for every command")]
    pub json: bool,
    /// When to use colour; NO_COLOR is respected
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN",
          help_heading = "Options for every command")]
    pub color: ColorChoice,
    /// The gateway's address [default: the one logged in to last, or that of the local `pinacle up`]
    #[arg(
        long,
        global = true,
        env = "PINACLE_GATEWAY",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Options for every command"
    )]
    pub gateway: Option<String>,
    /// A PEM file with the authority of the gateway's certificate, if not every system knows it
    #[arg(
        long,
        global = true,
        env = "PINACLE_GATEWAY_CA",
        value_name = "FILE",
        hide_env_values = true,
        help_heading = "Options for every command"
    )]
    pub gateway_ca: Option<PathBuf>,
    /// A file that holds the token for the gateway [default: PINACLE_TOKEN in the environment, that of
    /// `pinacle login`, or that of the local `pinacle up`]
    #[arg(
        long,
        global = true,
        env = "PINACLE_TOKEN_FILE",
        value_name = "FILE",
        hide_env_values = true,
        help_heading = "Options for every command"
    )]
    pub token_file: Option<PathBuf>,
    /// The folder of the local `pinacle up`, whose gateway is meant then [default: .pinacle here or in a folder above]
    #[arg(
        long,
        global = true,
        env = "PINACLE_DATA_DIR",
        value_name = "DIR",
        hide_env_values = true,
        help_heading = "Options for every command"
    )]
    pub data_dir: Option<PathBuf>,
    /// A settings file, as the services have it
    #[arg(
        long,
        global = true,
        env = "PINACLE_CONFIG",
        value_name = "FILE",
        hide_env_values = true,
        help_heading = "Options for every command"
    )]
    pub config: Option<PathBuf>,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    // Plain comments: clap would print a line for each with a doc comment.
    Auto,
    Always,
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything on this machine and stay in the foreground
    Up(UpArgs),
    /// Hosts: list, show, follow live, close for new pods, label; bring machines in and take them out
    #[command(subcommand)]
    Host(HostCommand),
    /// Pods: list, show, create, start, stop, remove; their output, and the commands run for them
    #[command(subcommand)]
    Pod(PodCommand),
    /// Operations: what is being done to pods, step by step; cancel
    #[command(subcommand)]
    Op(OpCommand),
    /// Log in to a gateway: make a token of this machine's own, and keep it
    Login(LoginArgs),
    /// Revoke the token of this machine, and forget it
    #[command(after_help = "\
Examples:
  pinacle logout
  pinacle logout --gateway https://pinacle.example.org")]
    Logout,
    /// Who you are, at which gateway, and by which token
    #[command(after_help = "Examples:\n  pinacle whoami\n  pinacle whoami --json | jq -r .account.email")]
    Whoami,
    /// Your sessions in browsers: list, end
    #[command(subcommand)]
    Session(SessionCommand),
    /// Your tokens for the API: list, make, revoke
    #[command(subcommand)]
    Token(TokenCommand),
    /// Teams: list, make, invite, roles
    #[command(subcommand)]
    Team(TeamCommand),
    /// People, for admins: list, invite, suspend, make admin, quotas
    #[command(subcommand)]
    User(UserCommand),
    /// What is not as it should be, and what is done about it
    #[command(after_help = "\
Examples:
  pinacle status
  pinacle status --json | jq '.[].findings[]'")]
    Status,
    /// Print changes of hosts and pods, samples and events as they happen
    Watch(WatchArgs),
    /// What happened
    Events(EventsArgs),
    /// The audit log: who did what, from where, and whether anybody tampered with that
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Messages that could not be handled: list, show, resend, drop
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Secrets: list, set, remove, exchange the master key
    #[command(subcommand)]
    Secrets(SecretCommand),
    /// The key by which the orchestrator logs in to hosts
    #[command(subcommand)]
    SshKey(SshKeyCommand),
    /// The database's schema
    Migrate(MigrateRun),
    /// Print what was on the bus, at its own pace or another
    Replay(ReplayArgs),
    /// Play a fleet of agents on the bus, for load and faults
    Sim(crate::sim::SimArgs),
    /// Print the subjects, streams, consumers and buckets of the bus
    #[command(after_help = "Examples:\n  pinacle subjects > docs/SUBJECTS.md")]
    Subjects,
    /// Print a script that completes commands in a shell
    #[command(after_help = "\
Examples:
  pinacle completions bash > /etc/bash_completion.d/pinacle
  pinacle completions zsh > ~/.zfunc/_pinacle
  pinacle completions fish > ~/.config/fish/completions/pinacle.fish")]
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').filter(|(key, _)| !key.is_empty()) {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("give NAME=VALUE".into()),
    }
}

/// `--yes`, where something is lost.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Yes {
    /// Do it without asking
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub yes: bool,
}

impl Yes {
    /// Says what would happen, unless it was said that it shall.
    pub fn or_refuse(self, what: &str) -> Result<(), Failure> {
        if self.yes { Ok(()) } else { Err(Failure::input(format!("{what}: say --yes if it is to be done"))) }
    }
}

#[cfg(test)]
mod tests;
