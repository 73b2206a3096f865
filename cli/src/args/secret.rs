//! `pinacle secrets …` and `pinacle ssh-key …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Yes;

/// `pinacle secrets …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Which secrets there are: names and versions, never values
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  pinacle secrets ls
  pinacle secrets ls --project https://github.com/acme/shop
  pinacle secrets ls --json | jq -r '.[].name'"
    )]
    Ls(SecretPlace),
    /// Give a secret a value, from standard input or asked for; it makes it, or gives it another version
    #[command(after_help = "\
The value is never an argument, which others on this machine could see. One line end behind it is left out.

Examples:
  pinacle secrets set DATABASE_URL                         asks for it
  cat key.pem | pinacle secrets set TLS_KEY
  pass show api | pinacle secrets set API_TOKEN --owner team_2hXz0vT0mZ5r9J7b1QqWcN8dKfE
  pinacle pod create web --secret DATABASE_URL             a pod that has it in /run/secrets/DATABASE_URL")]
    Set {
        /// Its name: A-Z, 0-9 and _
        name: String,
        #[command(flatten)]
        place: SecretPlace,
    },
    /// A secret's versions: when it got which value, and from whom
    #[command(after_help = "Examples:\n  pinacle secrets versions DATABASE_URL")]
    Versions {
        /// Its name
        name: String,
        #[command(flatten)]
        place: SecretPlace,
    },
    /// Give a secret to another owner with all of its values: yourself, or a team; pods that have it keep it
    #[command(after_help = "\
Examples:
  pinacle secrets transfer DATABASE_URL platform
  pinacle secrets transfer DATABASE_URL ann@example.com --owner team_2hXz0vT0mZ5r9J7b1QqWcN8dKfE")]
    Transfer {
        /// Its name
        name: String,
        /// A team's name or id, a person's id or e-mail address
        #[arg(value_name = "OWNER")]
        to: String,
        #[command(flatten)]
        place: SecretPlace,
    },
    /// Remove a secret with all of its values; pods that have it keep it
    #[command(visible_alias = "delete", after_help = "Examples:\n  pinacle secrets rm DATABASE_URL --yes")]
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        place: SecretPlace,
        #[command(flatten)]
        yes: Yes,
    },
    /// Exchange the master key while everything goes on
    #[command(after_help = "\
The gateway reads gateway.master_key again and puts every data key under its first key. With --key-file a new key is put
in front of that file first; the former ones stay in it, for backups of before. Cut off, it is run again.

Examples:
  pinacle secrets rotate --key-file .pinacle/secrets/master_key
  pinacle secrets rotate                                   once the key is in the file of every gateway")]
    Rotate {
        /// The file of gateway.master_key, where a new key is put in front
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
}

/// Whose secret, and for which project.
#[derive(Debug, Clone, Args)]
pub(crate) struct SecretPlace {
    /// Whose: the id of a person or a team [default: your own]
    #[arg(long, value_name = "ID")]
    pub owner: Option<String>,
    /// The project that it is for, such as a repository's address [default: all projects]
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
}

/// `pinacle ssh-key …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SshKeyCommand {
    /// The public half, as hosts have it in authorized_keys, and which hosts do not know it yet
    #[command(after_help = "\
Examples:
  pinacle ssh-key show
  pinacle ssh-key show --json | jq -r .public_key | ssh root@my-machine 'cat >> .ssh/authorized_keys'")]
    Show,
    /// Exchange it: hosts that can be reached get the new one, and the others when they are back
    #[command(
        after_help = "Examples:\n  pinacle ssh-key rotate\n  pinacle ssh-key show                which hosts are behind"
    )]
    Rotate,
}
