//! Subjects: one enum, written by `Display` and read back by `FromStr`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{HostId, OperationId, PodId, RequestId, SessionId};

/// What stands before every subject.
pub const PREFIX: &str = "pinacle.v1";

/// Whether a text can stand between two dots of a subject: one to 64 of a-z, A-Z, 0-9, `_` and `-`.
pub fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The kinds of things that events happen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A host.
    Host,
    /// A pod.
    Pod,
    /// An operation.
    Op,
    /// A dead letter.
    Dead,
    /// What somebody did: the audit log.
    Audit,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Host, Self::Pod, Self::Op, Self::Dead, Self::Audit];

    /// As in the subject.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Pod => "pod",
            Self::Op => "op",
            Self::Dead => "dead",
            Self::Audit => "audit",
        }
    }
}

/// The direction of a terminal's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TtyChannel {
    /// From the person to the pod.
    In,
    /// From the pod to the person.
    Out,
    /// Size and end.
    Control,
}

impl TtyChannel {
    fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Control => "ctl",
        }
    }
}

/// A subject of Pinacle's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `host.<host>.heartbeat`
    Heartbeat(HostId),
    /// `host.<host>.metrics`
    Metrics(HostId),
    /// `host.<host>.inventory`
    Inventory(HostId),
    /// `cmd.<host>.<verb>`
    Command {
        /// Who is asked.
        host: HostId,
        /// What; see [`Command::VERB`](super::command::Command::VERB).
        verb: String,
    },
    /// `req.<kind>.<id>.<verb>`
    Request {
        /// Such as `pod`.
        kind: String,
        /// The thing's id.
        id: String,
        /// Such as `create`.
        verb: String,
    },
    /// `evt.<kind>.<id>.<what>`
    Event {
        /// What kind of thing.
        kind: EventKind,
        /// The thing's id.
        id: String,
        /// Such as `state_changed`.
        what: String,
    },
    /// `exec.<pod or host>.<op>`
    Exec {
        /// The pod, or the host for infrastructure.
        target: String,
        /// The operation.
        operation: OperationId,
    },
    /// `tty.<session>.<in/out/ctl>`
    Tty {
        /// The session.
        session: SessionId,
        /// Which way.
        channel: TtyChannel,
    },
    /// `dead.<stream>.<consumer>`
    Dead {
        /// The stream that the message came from.
        stream: String,
        /// The consumer that gave up.
        consumer: String,
    },
    /// `committed.<request>`
    Committed(RequestId),
}

/// Subjects with wildcards, for streams, consumers and subscriptions.
pub mod filter {
    use super::{EventKind, HostId, PREFIX, PodId};

    /// Every heartbeat.
    pub fn heartbeats() -> String {
        format!("{PREFIX}.host.*.heartbeat")
    }

    /// Every sample.
    pub fn metrics() -> String {
        format!("{PREFIX}.host.*.metrics")
    }

    /// Every inventory.
    pub fn inventories() -> String {
        format!("{PREFIX}.host.*.inventory")
    }

    /// Every command to one host.
    pub fn commands(host: HostId) -> String {
        format!("{PREFIX}.cmd.{host}.*")
    }

    /// Every command to any host.
    pub fn commands_to_all() -> String {
        format!("{PREFIX}.cmd.*.*")
    }

    /// A command to any host.
    pub fn command(verb: &str) -> String {
        format!("{PREFIX}.cmd.*.{verb}")
    }

    /// Every request.
    pub fn requests() -> String {
        format!("{PREFIX}.req.*.*.*")
    }

    /// Every event.
    pub fn events() -> String {
        format!("{PREFIX}.evt.*.*.*")
    }

    /// Every event of one kind of thing.
    pub fn events_of(kind: EventKind) -> String {
        format!("{PREFIX}.evt.{}.*.*", kind.as_str())
    }

    /// Every command's result.
    pub fn exec() -> String {
        format!("{PREFIX}.exec.*.*")
    }

    /// The results of all commands for one pod.
    pub fn exec_of(pod: PodId) -> String {
        format!("{PREFIX}.exec.{pod}.*")
    }

    /// Every dead letter.
    pub fn dead() -> String {
        format!("{PREFIX}.dead.*.*")
    }

    /// Every report that a request's row is committed.
    pub fn committed() -> String {
        format!("{PREFIX}.committed.*")
    }

    /// The server's notices that a client connected. Needs the import that `nats/` configures.
    pub const CONNECTED: &str = "$SYS.ACCOUNT.*.CONNECT";
    /// The server's notices that a client's connection closed.
    pub const DISCONNECTED: &str = "$SYS.ACCOUNT.*.DISCONNECT";
}

/// Why a text is no subject of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a subject of Pinacle's")]
pub struct InvalidSubject(String);

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.")?;
        match self {
            Self::Heartbeat(host) => write!(f, "host.{host}.heartbeat"),
            Self::Metrics(host) => write!(f, "host.{host}.metrics"),
            Self::Inventory(host) => write!(f, "host.{host}.inventory"),
            Self::Command { host, verb } => write!(f, "cmd.{host}.{verb}"),
            Self::Request { kind, id, verb } => write!(f, "req.{kind}.{id}.{verb}"),
            Self::Event { kind, id, what } => write!(f, "evt.{}.{id}.{what}", kind.as_str()),
            Self::Exec { target, operation } => write!(f, "exec.{target}.{operation}"),
            Self::Tty { session, channel } => write!(f, "tty.{session}.{}", channel.as_str()),
            Self::Dead { stream, consumer } => write!(f, "dead.{stream}.{consumer}"),
            Self::Committed(request) => write!(f, "committed.{request}"),
        }
    }
}

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        parse(text).ok_or_else(|| InvalidSubject(text.chars().take(200).collect()))
    }
}

fn parse(text: &str) -> Option<Subject> {
    let mut tokens = text.strip_prefix(PREFIX)?.strip_prefix('.')?.split('.');
    let mut next = || tokens.next().filter(|token| is_token(token));
    let subject = match next()? {
        "host" => {
            let host = next()?.parse().ok()?;
            match next()? {
                "heartbeat" => Subject::Heartbeat(host),
                "metrics" => Subject::Metrics(host),
                "inventory" => Subject::Inventory(host),
                _ => return None,
            }
        }
        "cmd" => Subject::Command { host: next()?.parse().ok()?, verb: next()?.into() },
        "req" => Subject::Request { kind: next()?.into(), id: next()?.into(), verb: next()?.into() },
        "evt" => {
            let kind = next()?;
            let kind = EventKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
            Subject::Event { kind, id: next()?.into(), what: next()?.into() }
        }
        "exec" => Subject::Exec { target: next()?.into(), operation: next()?.parse().ok()? },
        "tty" => {
            let session = next()?.parse().ok()?;
            let channel = next()?;
            let channel = [TtyChannel::In, TtyChannel::Out, TtyChannel::Control]
                .into_iter()
                .find(|known| known.as_str() == channel)?;
            Subject::Tty { session, channel }
        }
        "dead" => Subject::Dead { stream: next()?.into(), consumer: next()?.into() },
        "committed" => Subject::Committed(next()?.parse().ok()?),
        _ => return None,
    };
    tokens.next().is_none().then_some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Subject> {
        let host = HostId::new();
        vec![
            Subject::Heartbeat(host),
            Subject::Metrics(host),
            Subject::Inventory(host),
            Subject::Command { host, verb: "set-interval".into() },
            Subject::Request { kind: "pod".into(), id: "pod_1".into(), verb: "create".into() },
            Subject::Event { kind: EventKind::Host, id: host.to_string(), what: "state_changed".into() },
            Subject::Exec { target: "pod_1".into(), operation: OperationId::new() },
            Subject::Tty { session: SessionId::new(), channel: TtyChannel::Control },
            Subject::Dead { stream: "METRICS".into(), consumer: "ingest-metrics".into() },
            Subject::Committed(RequestId::new()),
        ]
    }

    #[test]
    fn every_subject_is_read_back_as_written() {
        for subject in one_of_each() {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let host = HostId::new();
        for text in [
            String::new(),
            "pinacle.v1".into(),
            "pinacle.v2.host.x.metrics".into(),
            "pinacle.v1.host.host_1.metrics".into(),
            format!("pinacle.v1.host.{host}.metrics.more"),
            format!("pinacle.v1.host.{host}."),
            format!("pinacle.v1.cmd.{host}.*"),
            "pinacle.v1.evt.moon.x.y".into(),
            "pinacle.v1.req.pod.a b.create".into(),
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }
}
