//! The commands' own options and examples.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use pinacle_bus::contract::{Timestamp, topology::StreamName};

use super::Yes;

/// `pinacle up`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Settings come from, later ones winning: the defaults, the file of --config, PINACLE__UP__… in the
environment, these options. The file and the environment reach the services, too.

Examples:
  pinacle up                                     everything, with its data in .pinacle
  pinacle up --listen 0.0.0.0:8080               let others reach the gateway
  pinacle up --nats-port 14222 --data-dir /srv/pinacle
  pinacle up --no-pods                           only watch this machine
  pinacle up --nats nats://10.0.0.5:4222 --database postgres://pinacle@10.0.0.6/pinacle
                                                 on servers that run already")]
pub(crate) struct UpArgs {
    /// Use this NATS server instead of starting one
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// Use this Postgres database instead of starting a server
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Where the gateway listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The port of the NATS server that is started [default: 4222]
    #[arg(long, value_name = "PORT")]
    pub nats_port: Option<u16>,
    /// The port of the Postgres server that is started; 0 = that of last time, or any free one [default: 0]
    #[arg(long, value_name = "PORT")]
    pub postgres_port: Option<u16>,
    /// Start no agent: this machine is not a host of the fleet
    #[arg(long)]
    pub no_agent: bool,
    /// Run no pods on this machine: start neither Docker nor an SSH server
    #[arg(long)]
    pub no_pods: bool,
}

/// `pinacle watch`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pinacle watch                          changes of state, samples and events
  pinacle watch --host my-machine        one host only
  pinacle watch --events                 events only
  pinacle watch --json | jq .            for programs
  pinacle watch --for 10s                stop after ten seconds")]
pub(crate) struct WatchArgs {
    /// Only this host and its pods, by its name or id
    #[arg(long)]
    pub host: Option<String>,
    /// Only this pod, by its name or id
    #[arg(long, conflicts_with = "host")]
    pub pod: Option<String>,
    /// Only events
    #[arg(long, conflicts_with_all = ["host", "pod"])]
    pub events: bool,
    /// Stop after so long, such as 30s [default: never]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
}

/// `pinacle events`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pinacle events                         the newest 50
  pinacle events --since 1h              all of the last hour
  pinacle events --since 2026-11-21T09:00:00Z --limit 10
  pinacle events --host my-machine
  pinacle events --json | jq 'select(.what == \"state_changed\")'")]
pub(crate) struct EventsArgs {
    /// From then on: how long ago, such as 90s or 2h, or a time in RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<Timestamp>,
    /// Only of this host, by its name or id
    #[arg(long, conflicts_with = "pod")]
    pub host: Option<String>,
    /// Only of this pod, by its name or id
    #[arg(long)]
    pub pod: Option<String>,
    /// At most so many [default: 50, or all with --since]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub limit: Option<u64>,
}

/// `pinacle dead …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Messages that could not be handled, and why
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  pinacle dead ls
  pinacle dead ls --all
  pinacle dead ls --json | jq -r '.[].reason' | sort | uniq -c"
    )]
    Ls {
        /// Those that were sent again or dropped, too
        #[arg(long)]
        all: bool,
    },
    /// One of them, with the message itself
    #[command(after_help = "Examples:\n  pinacle dead show dead_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    Show {
        /// Its id
        id: String,
    },
    /// Put the message back onto its subject, once its cause is mended
    #[command(after_help = "Examples:\n  pinacle dead resend dead_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    Resend {
        /// Its id
        id: String,
    },
    /// Give the message up
    #[command(after_help = "\
Examples:
  pinacle dead drop dead_2hXz0vT0mZ5r9J7b1QqWcN8dKfE
  pinacle dead drop dead_2hXz0vT0mZ5r9J7b1QqWcN8dKfE --yes")]
    Drop {
        /// Its id
        id: String,
        #[command(flatten)]
        yes: Yes,
    },
}

/// `pinacle migrate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pinacle migrate status
  pinacle migrate up --database postgres://pinacle@10.0.0.6/pinacle
  pinacle migrate down --steps 1 --yes")]
pub(crate) struct MigrateRun {
    /// The database [default: that of the settings, or of the local `pinacle up`]
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<String>,
    #[command(subcommand)]
    pub command: Option<MigrateCommand>,
}

/// `pinacle migrate …`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Bring the schema up to this release (also without a word)
    #[command(after_help = "Examples:\n  pinacle migrate up")]
    Up,
    /// Take changes back, the newest first. Data in what they made is lost
    #[command(after_help = "Examples:\n  pinacle migrate down --steps 1 --yes")]
    Down {
        /// How many changes
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        steps: u32,
        #[command(flatten)]
        yes: Yes,
    },
    /// Which changes are in, and which are not
    #[command(after_help = "Examples:\n  pinacle migrate status --json")]
    Status,
}

/// `pinacle replay`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pinacle replay events                            all that happened, at its own pace
  pinacle replay metrics --since 5m --speed 10     the last five minutes in half a minute
  pinacle replay dead --speed 0 --json             everything at once, one object a line
  pinacle replay metrics --subject 'pinacle.v1.host.*.metrics' --since 1m
  pinacle replay requests --until 2026-11-21T09:00:00Z --speed 0
  pinacle replay host-records --follow --speed 0   and go on with what comes")]
pub(crate) struct ReplayArgs {
    /// Which stream
    #[arg(value_enum, ignore_case = true)]
    pub stream: Stream,
    /// From then on: how long ago, such as 90s or 2h, or a time in RFC 3339 [default: the oldest message]
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<Timestamp>,
    /// Up to then [default: what the stream holds now]
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub until: Option<Timestamp>,
    /// Only these subjects; * stands for one word, > for the rest
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// How many times faster than it was; 0 = as fast as possible
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = speed)]
    pub speed: f64,
    /// Go on with what comes
    #[arg(long, conflicts_with = "until")]
    pub follow: bool,
    /// The NATS server [default: that of the settings, or of the local `pinacle up`]
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// A NATS .creds file [default: as for --nats]
    #[arg(long, value_name = "FILE")]
    pub nats_credentials_file: Option<PathBuf>,
}

/// The streams by the names that people type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stream {
    Heartbeats,
    Metrics,
    Inventory,
    Requests,
    Events,
    Exec,
    Dead,
    HostRecords,
    PodRecords,
}

impl Stream {
    /// The stream on the bus.
    pub fn name(self) -> StreamName {
        match self {
            Self::Heartbeats => StreamName::Heartbeats,
            Self::Metrics => StreamName::Metrics,
            Self::Inventory => StreamName::Inventory,
            Self::Requests => StreamName::Requests,
            Self::Events => StreamName::Events,
            Self::Exec => StreamName::Exec,
            Self::Dead => StreamName::Dead,
            Self::HostRecords => StreamName::HostRecords,
            Self::PodRecords => StreamName::PodRecords,
        }
    }
}

/// A point in time: so long ago, or a time.
pub(super) fn when(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Timestamp::now().minus(ago));
    }
    text.parse().map_err(|_| "give how long ago, such as 90s or 2h, or a time such as 2026-11-21T09:15:40Z".into())
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && (0.0..=1_000_000.0).contains(&speed) => Ok(speed),
        _ => Err("give a factor from 0 (as fast as possible) to 1000000".into()),
    }
}
