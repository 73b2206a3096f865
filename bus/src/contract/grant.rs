//! Who may say and hear what on the bus. The server enforces it; see `nats/README.md`.

use std::time::Duration;

use super::subject::PREFIX;

/// What stands for the user's own name in the grant of a role that many have; the server puts the name in.
pub const OWN_NAME: &str = "{{name()}}";

/// What a user may do. Everything else is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Subjects and filters that it may publish to.
    pub publish: Vec<String>,
    /// Subjects and filters that it may subscribe to.
    pub subscribe: Vec<String>,
    /// How long it may answer whoever sent it a message, and nobody else; `None` = not at all.
    pub answer_for: Option<Duration>,
}

/// The inbox of a user: where what it asked for is answered. Nobody else may listen there.
pub fn inbox(name: &str) -> String {
    format!("_INBOX.{name}")
}

/// What a host may do: its own facts, its own commands, its own inbox; nothing of another's, no stream, no bucket.
pub fn host() -> Grant {
    Grant {
        publish: ["heartbeat", "metrics", "inventory"].map(|what| format!("{PREFIX}.host.{OWN_NAME}.{what}")).into(),
        subscribe: vec![format!("{PREFIX}.cmd.{OWN_NAME}.*"), format!("{}.>", inbox(OWN_NAME))],
        // A followed log is many replies.
        answer_for: Some(Duration::from_secs(60 * 60)),
    }
}

/// What somebody with no limit may do within the application's account.
pub fn everything() -> Grant {
    Grant { publish: vec![">".into()], subscribe: vec![">".into()], answer_for: None }
}

/// What may push an account's claims to the servers, by which hosts are revoked. A user of the system account.
pub fn claims(name: &str) -> Grant {
    Grant {
        publish: vec!["$SYS.REQ.CLAIMS.UPDATE".into()],
        subscribe: vec![format!("{}.>", inbox(name))],
        answer_for: None,
    }
}

/// The users of the application's account that are no hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Follows hosts and carries out requests.
    Orchestrator,
    /// Writes the database.
    Ingest,
    /// The door for people.
    Gateway,
    /// Whoever looks at the bus itself with `pinacle replay`.
    Operator,
    /// `pinacle sim`: plays a fleet.
    Simulator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Orchestrator, Self::Ingest, Self::Gateway, Self::Operator, Self::Simulator];

    /// The user's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Ingest => "ingest",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Simulator => "simulator",
        }
    }

    /// What it may do.
    pub fn grant(self) -> Grant {
        everything()
    }
}
