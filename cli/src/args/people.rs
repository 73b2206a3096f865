//! `pinacle token …`, `pinacle team …` and `pinacle user …`.

use clap::{Args, Subcommand, ValueEnum};

use super::Yes;

/// `pinacle token …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Which tokens you have, and when they were last used
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  pinacle token ls
  pinacle token ls --user ann@example.com          somebody else's, for admins
  pinacle token ls --json | jq -r '.[] | select(.used_at == null).token_id'"
    )]
    Ls {
        /// Whose, by e-mail address or id: for admins
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Make a token. Its text is printed this once
    #[command(after_help = "\
Examples:
  pinacle token create ci --grant pods --days 30
  pinacle token create dashboard --grant read --team platform
  pinacle token create first --grant admin --user ann@example.com    with the installation's own token
  PINACLE_TOKEN=$(pinacle token create now --grant read) pinacle pod ls")]
    Create(TokenArgs),
    /// End a token at once, with all that were made with it
    #[command(after_help = "Examples:\n  pinacle token revoke token_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    Revoke {
        /// Its id
        id: String,
        /// Whose, by e-mail address or id: for admins
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
}

/// `pinacle token create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenArgs {
    /// What to call it
    pub name: String,
    /// What it may be used for. May be given several times; read comes with each
    #[arg(long = "grant", value_enum, required = true, value_name = "GRANT")]
    pub grants: Vec<GrantArg>,
    /// The only team that it is for, by name or id
    #[arg(long)]
    pub team: Option<String>,
    /// Days until it ends
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
    /// Whose it is to be, by e-mail address or id: with the installation's own token
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
}

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GrantArg {
    Read,
    Pods,
    Hosts,
    Admin,
}

impl GrantArg {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Pods => "pods",
            Self::Hosts => "hosts",
            Self::Admin => "admin",
        }
    }
}

/// Somebody's place in a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    Member,
    Admin,
    Owner,
}

impl RoleArg {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

/// `pinacle team …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TeamCommand {
    /// Which teams you are in
    #[command(visible_alias = "list", after_help = "Examples:\n  pinacle team ls\n  pinacle team ls --json")]
    Ls,
    /// One team: who is in it
    #[command(after_help = "Examples:\n  pinacle team show platform")]
    Show {
        /// Its name or id
        team: String,
    },
    /// Make a team; you are its owner
    #[command(after_help = "Examples:\n  pinacle team create platform")]
    Create {
        /// What to call it: 2 to 63 of a-z, 0-9 and -
        name: String,
    },
    /// Give a team another name
    #[command(after_help = "Examples:\n  pinacle team rename platform core")]
    Rename {
        /// Its name or id
        team: String,
        /// The new name
        name: String,
    },
    /// End a team that has nothing any more
    #[command(visible_alias = "delete", after_help = "Examples:\n  pinacle team rm platform --yes")]
    Rm {
        /// Its name or id
        team: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// Invite somebody by e-mail address
    #[command(after_help = "\
Examples:
  pinacle team invite platform ann@example.com
  pinacle team invite platform ann@example.com --role admin")]
    Invite {
        /// The team's name or id
        team: String,
        /// Their e-mail address
        email: String,
        /// The role that they are to have
        #[arg(long, value_enum, default_value_t = RoleArg::Member)]
        role: RoleArg,
    },
    /// Invitations that nobody has answered yet
    #[command(after_help = "Examples:\n  pinacle team invitations platform")]
    Invitations {
        /// The team's name or id
        team: String,
    },
    /// Take an invitation back
    #[command(after_help = "Examples:\n  pinacle team uninvite platform invite_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    Uninvite {
        /// The team's name or id
        team: String,
        /// The invitation's id
        id: String,
    },
    /// Join a team that you are invited to; the invitation is read from standard input
    #[command(
        after_help = "Examples:\n  pinacle team join                                then paste the invitation\n  pinacle team join --decline"
    )]
    Join {
        /// Decline instead
        #[arg(long)]
        decline: bool,
    },
    /// Give a member another role
    #[command(after_help = "Examples:\n  pinacle team role platform ann@example.com admin")]
    Role {
        /// The team's name or id
        team: String,
        /// Their e-mail address or id
        user: String,
        /// The role
        #[arg(value_enum)]
        role: RoleArg,
    },
    /// Take somebody out of a team, or leave it
    #[command(after_help = "Examples:\n  pinacle team remove platform ann@example.com --yes")]
    Remove {
        /// The team's name or id
        team: String,
        /// Their e-mail address or id
        user: String,
        #[command(flatten)]
        yes: Yes,
    },
}

/// `pinacle user …`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Who has an account
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  pinacle user ls
  pinacle user ls --suspended
  pinacle user ls --json | jq -r '.[].email'"
    )]
    Ls {
        /// Only who is suspended
        #[arg(long)]
        suspended: bool,
        /// Only admins
        #[arg(long)]
        admins: bool,
    },
    /// Invite somebody: make an account that they come into by a link
    #[command(after_help = "\
The link goes to them by mail. Where no mail goes out, it is printed this once: hand it on.

Examples:
  pinacle user invite ann@example.com
  pinacle user invite bob@example.com --name Bob --admin")]
    Invite {
        /// Their e-mail address
        email: String,
        /// What they are called
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        /// Make them admin of the installation
        #[arg(long)]
        admin: bool,
    },
    /// Let somebody do nothing any more; their pods go on
    #[command(after_help = "Examples:\n  pinacle user suspend ann@example.com --yes")]
    Suspend {
        /// Their e-mail address or id
        user: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// Let a suspended person in again
    #[command(after_help = "Examples:\n  pinacle user unsuspend ann@example.com")]
    Unsuspend {
        /// Their e-mail address or id
        user: String,
    },
    /// Make somebody admin, or take it from them
    #[command(after_help = "\
Examples:
  pinacle user admin ann@example.com on
  pinacle user admin ann@example.com off")]
    Admin {
        /// Their e-mail address or id
        user: String,
        /// Whether they are to be admin
        #[arg(value_enum)]
        change: Switch,
    },
    /// What a person or a team may use, and uses; set it
    #[command(after_help = "\
Examples:
  pinacle user quota ann@example.com
  pinacle user quota platform --pods 50 --memory-gib 200      for a team; what is not named is as the settings say
  pinacle user quota platform --reset")]
    Quota(QuotaArgs),
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// `pinacle user quota`.
#[derive(Debug, Clone, Args)]
pub(crate) struct QuotaArgs {
    /// A person's e-mail address or id, or a team's name or id
    pub owner: String,
    /// Pods at once
    #[arg(long, value_name = "N")]
    pub pods: Option<u64>,
    /// Cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub cores: Option<u64>,
    /// Memory
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub memory_gib: Option<u64>,
    /// Disk
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub disk_gib: Option<u64>,
    /// As the installation's settings say
    #[arg(long, conflicts_with_all = ["pods", "cores", "memory_gib", "disk_gib"])]
    pub reset: bool,
}
