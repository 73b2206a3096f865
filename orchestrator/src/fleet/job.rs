//! What is to be done about a host, and what came of it.

use pinacle_bus::{
    client::Entry,
    contract::{
        Timestamp,
        host::{Evidence, Heartbeat, HostRecord},
    },
};

use crate::liveness::{Mark, Verdict};

/// Something to do about a host.
pub struct Job {
    /// Its record as this copy knows it.
    pub entry: Entry<HostRecord>,
    /// Whether the event of its present state is known to be published.
    pub announced: bool,
    /// Where its newest heartbeat stands.
    pub newest: Option<Mark>,
    /// What.
    pub task: Task,
}

/// What is to be done.
pub enum Task {
    /// Its state changes.
    Change {
        /// To this.
        verdict: Verdict,
        /// Which rests on this.
        evidence: Box<Evidence>,
        /// And accounts for so many heartbeats.
        beats: u64,
    },
    /// The event of its present state is published, if nobody has done so.
    Announce,
    /// It gets another name.
    Rename {
        /// This.
        name: String,
    },
}

/// What came of a job.
pub enum Outcome {
    /// The record was written.
    Changed {
        /// As it is now.
        entry: Box<Entry<HostRecord>>,
        /// How many heartbeats its state accounts for.
        beats: u64,
        /// Whether its event is published, too.
        announced: bool,
    },
    /// The event of the state since then is published.
    Announced {
        /// Then.
        state_since: Timestamp,
    },
    /// It was not silent: the bus holds a heartbeat that this copy missed.
    Alive {
        /// That one.
        heartbeat: Box<Heartbeat>,
        /// When the bus took it in.
        at: Timestamp,
    },
    /// Its state was not changed: somebody else wrote the record first, or another part of it was written.
    Seen {
        /// As it is now; `None` = it is gone.
        entry: Option<Box<Entry<HostRecord>>>,
    },
    /// It could not be done now.
    Failed,
}
