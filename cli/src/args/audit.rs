//! `pinacle audit …`: options and examples.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pinacle_bus::contract::Timestamp;

use super::commands::when;

/// `pinacle audit …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Who did what
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  pinacle audit ls                             the newest 50
  pinacle audit ls --since 1h                  all of the last hour
  pinacle audit ls --actor installation --action pod_delete
  pinacle audit ls --target pod_2hXz0vT0mZ5r9J7b1QqWcN8dKfE
  pinacle audit ls --outcome refused --json | jq -r '.address' | sort | uniq -c"
    )]
    Ls {
        #[command(flatten)]
        filter: AuditFilter,
        /// At most so many [default: 50, or all with --since]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        limit: Option<u64>,
    },
    /// Print the log for other programs, oldest first
    #[command(after_help = "\
Examples:
  pinacle audit export > audit.ndjson
  pinacle audit export --format csv --since 720h > audit.csv")]
    Export {
        /// In which form
        #[arg(long, value_enum, default_value_t = AuditFormat::Ndjson)]
        format: AuditFormat,
        #[command(flatten)]
        filter: AuditFilter,
    },
    /// Check that nothing in the log was altered, taken out, moved or cut off
    #[command(after_help = "\
Reads the database itself, and on the bus where the log must have come to.

Examples:
  pinacle audit verify
  pinacle audit verify --database postgres://pinacle@10.0.0.6/pinacle --nats nats://10.0.0.5:4222")]
    Verify(VerifyArgs),
    /// Print the way from a click to the commands that it led to, from anything on it
    #[command(after_help = "\
Examples:
  pinacle audit trace op_2hXz0vT0mZ5r9J7b1QqWcN8dKfE        an operation
  pinacle audit trace req_2hXz0vT0mZ5r9J7b1QqWcN8dKfE       a request: its x-request-id, or that on the bus
  pinacle audit trace audit_2hXz0vT0mZ5r9J7b1QqWcN8dKfE     an entry of the log")]
    Trace {
        /// The operation's, the request's or the entry's id
        id: String,
    },
}

/// Which entries.
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditFilter {
    /// Only what this one did: a person's id, installation, or nobody
    #[arg(long, value_name = "WHO")]
    pub actor: Option<String>,
    /// Only this, such as pod_create
    #[arg(long, value_name = "WHAT")]
    pub action: Option<String>,
    /// Only on the thing with this id
    #[arg(long, value_name = "ID")]
    pub target: Option<String>,
    /// Only what ended so
    #[arg(long, value_enum)]
    pub outcome: Option<AuditOutcomeArg>,
    /// From then on: how long ago, such as 90s or 2h, or a time in RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<Timestamp>,
}

impl AuditFilter {
    /// As the gateway takes it.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let outcome = self.outcome.map(|outcome| outcome.as_str().to_owned());
        let since = self.since.map(|since| since.to_string());
        let given = [
            ("actor", self.actor.clone()),
            ("action", self.action.clone()),
            ("target", self.target.clone()),
            ("outcome", outcome),
            ("since", since),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditOutcomeArg {
    Accepted,
    Succeeded,
    Refused,
    Failed,
}

impl AuditOutcomeArg {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormat {
    Ndjson,
    Csv,
}

impl AuditFormat {
    /// As the gateway takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }
}

/// `pinacle audit verify`.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    /// The database [default: that of the settings, or of the local `pinacle up`]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// The NATS server [default: that of the settings, or of the local `pinacle up`]
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// A NATS .creds file [default: as for --nats]
    #[arg(long, value_name = "FILE")]
    pub nats_credentials_file: Option<PathBuf>,
}
