//! `pinacle login …` and `pinacle session …`.

use clap::{Args, Subcommand};

/// `pinacle login`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
It asks for the password, and for a code where the account has a second factor, and makes a token of this machine's own,
which lies in $XDG_CONFIG_HOME/pinacle or ~/.config/pinacle for you alone. Later commands use the gateway logged in to last,
or that of --gateway. Who signs in elsewhere, such as with GitHub, makes a token on the account's page instead.

Examples:
  pinacle login --gateway https://pinacle.example.org
  pass show pinacle | pinacle login --email ann@example.org --password-stdin
  pinacle login --gateway https://pinacle.example.org --token-file -        then paste the token
  pinacle login --gateway https://10.0.0.5:8080 --gateway-ca ca.pem         its authority is kept, too")]
pub(crate) struct LoginArgs {
    /// Your e-mail address [default: asked for]
    #[arg(long, conflicts_with = "token_file")]
    pub email: Option<String>,
    /// Read the password from standard input; a second line is the code, where one is needed
    #[arg(long, conflicts_with = "token_file")]
    pub password_stdin: bool,
    /// Days until the token ends
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
}

/// `pinacle session …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Where you are signed in with a browser
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  pinacle session ls\n  pinacle session ls --json | jq -r '.[].remote_address'"
    )]
    Ls,
    /// End a session at once, or all of them
    #[command(after_help = "\
Examples:
  pinacle session revoke login_2hXz0vT0mZ5r9J7b1QqWcN8dKfE
  pinacle session revoke --all")]
    Revoke {
        /// Its id
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}
