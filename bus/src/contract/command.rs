//! What an agent can be asked. Every command gets a reply before its deadline: its result or a [`Fault`].

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    HostId, PodId, Timestamp,
    inventory::Inventory,
    message::{Invalid, Message, check},
    metrics::Metrics,
};

/// A command: its verb in the subject, its parameters as the message, its result in the reply.
pub trait Command: Message {
    /// The last token of the subject.
    const VERB: &'static str;
    /// What a successful reply holds.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// Every reply: what was asked for, or why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    /// The result.
    Ok(T),
    /// Why there is none.
    Fault(Fault),
}

/// Why a command has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct Fault {
    /// For programs.
    pub code: FaultCode,
    /// For people.
    pub message: String,
}

/// The kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// No such command.
    UnknownCommand,
    /// The parameters are not as they must be.
    BadRequest,
    /// What it names does not exist.
    NotFound,
    /// Too many commands at once; try again.
    Busy,
    /// It did not end before its deadline.
    Timeout,
    /// Docker, or something else that it needs, is away.
    Unavailable,
    /// A fault of the agent's own.
    Internal,
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident($verb:literal) -> $reply:ty { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* } check($self:ident) $check:block)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

            impl Message for $name {
                const NAME: &'static str = concat!("command_", $verb);
                const MAX_BYTES: usize = 4096;

                fn check(&$self) -> Result<(), Invalid> $check
            }

            impl Command for $name {
                const VERB: &'static str = $verb;
                type Reply = $reply;
            }
        )*

        /// Every verb that an agent knows.
        pub const VERBS: &[&str] = &[$($verb),*];
    };
}

commands! {
    /// Is the agent there?
    Ping("ping") -> Pong {} check(self) { Ok(()) }

    /// Which agent is it?
    Version("version") -> AgentVersion {} check(self) { Ok(()) }

    /// Take a sample now. It is published like any other, and returned.
    Sample("sample") -> Metrics {} check(self) { Ok(()) }

    /// Take an inventory now. It is published like any other, and returned.
    TakeInventory("inventory") -> Inventory {} check(self) { Ok(()) }

    /// Sample at another interval until the agent restarts.
    SetInterval("set-interval") -> IntervalSet {
        /// From 1,000 to 60,000.
        interval_ms: u64,
    } check(self) { check::within("interval_ms", self.interval_ms as f64, 1_000.0, 60_000.0) }

    /// Make another key. The reply names it; it takes the place of the one before right after.
    RotateKey("rotate-key") -> KeyRotated {} check(self) { Ok(()) }

    /// Read a pod's output. The reply says where more comes from, if it is followed.
    Logs("logs") -> LogChunk {
        /// The pod.
        pod_id: PodId,
        /// Lines from the end, 0 to 10,000.
        tail: u32,
        /// Only from this time on.
        since: Option<Timestamp>,
        /// Send what comes later, too, for so long: 0 (not at all) to 300. Ask again with `since` to go on.
        follow_seconds: u32,
    } check(self) {
        check::within("tail", f64::from(self.tail), 0.0, 10_000.0)?;
        check::within("follow_seconds", f64::from(self.follow_seconds), 0.0, 300.0)
    }
}

/// Reply to [`Ping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The host.
    pub host_id: HostId,
    /// By the host's own clock.
    pub at: Timestamp,
}

/// Reply to [`Version`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentVersion {
    /// The agent's release.
    pub agent_version: String,
    /// The newest schema that it reads.
    pub schema: u32,
    /// Every verb that it knows.
    pub verbs: Vec<String>,
}

/// Reply to [`RotateKey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotated {
    /// The public half of the fresh key.
    pub public_key: String,
}

/// Reply to [`SetInterval`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalSet {
    /// The interval from now on.
    pub interval_ms: u64,
}

/// Reply to [`Logs`]. A followed log comes as several replies to the same inbox, the last one with `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChunk {
    /// Counts up from 0.
    pub sequence: u64,
    /// In the order of the container's output, at most 256 KiB of text.
    pub lines: Vec<LogLine>,
    /// Whether lines were left out because there were too many.
    pub truncated: bool,
    /// Nothing follows.
    pub end: bool,
}

/// How far a reader of a log is. Whoever asks again from there gets some lines twice, since several may have the same
/// time: this tells them from new ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogPosition {
    at: Option<Timestamp>,
    /// Lines of that time that were taken.
    taken: usize,
    /// Lines of that time that come again.
    again: usize,
}

impl LogPosition {
    /// What to ask for next, as [`Logs::since`]; from now on lines that were taken count as repeated.
    pub fn resume(&mut self) -> Option<Timestamp> {
        self.again = self.taken;
        self.at
    }

    /// Whether a line is new; it counts as taken from now on.
    pub fn take(&mut self, line: &LogLine) -> bool {
        if line.at.is_none() {
            return true;
        }
        if line.at != self.at {
            *self = Self { at: line.at, taken: 1, again: 0 };
            return true;
        }
        if self.again > 0 {
            self.again -= 1;
            return false;
        }
        self.taken += 1;
        true
    }
}

/// A line of a pod's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, by the host's clock.
    pub at: Option<Timestamp>,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Without its line end; bytes that are no UTF-8 are replaced.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_asked_for_again_shows_each_line_once() {
        let line = |at: &str, text: &str| LogLine {
            at: Some(at.parse().unwrap()),
            stream: "stdout".into(),
            text: text.into(),
        };
        let (early, late) = ("2026-11-21T09:15:40.100Z", "2026-11-21T09:15:40.200Z");
        let mut position = LogPosition::default();
        assert_eq!(position.resume(), None);
        for text in ["a", "b"] {
            assert!(position.take(&line(early, text)));
        }
        assert_eq!(position.resume(), Some(early.parse().unwrap()));
        let told = [line(early, "a"), line(early, "b"), line(early, "c"), line(late, "d")];
        let new: Vec<&str> = told.iter().filter(|line| position.take(line)).map(|line| line.text.as_str()).collect();
        assert_eq!(new, ["c", "d"]);
        // Broken off in the middle of what came again: nothing was taken twice, nothing is left out.
        position.resume();
        assert!(!position.take(&line(late, "d")));
        assert!(position.take(&line(late, "e")));
    }
}
