//! What follows from a pod's record and from what its host says of its container. Pure.

use std::time::Duration;

use pinacle_bus::contract::{
    Timestamp,
    inventory::ContainerEntry,
    pod::{Desired, PodPhase, PodRecord, RestartPolicy},
};

use crate::{operation::plan::Verb, settings::Orchestrator};

/// What its host says of a pod's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It ended, or never began.
    Ended {
        /// How; `None` when it never began.
        exit_code: Option<i64>,
        /// For want of memory.
        out_of_memory: bool,
    },
    /// There is none.
    Absent,
    /// Docker is about to do something with it.
    Unclear,
}

impl Found {
    /// From an inventory's entry.
    pub fn of(container: Option<&ContainerEntry>) -> Self {
        let Some(container) = container else { return Self::Absent };
        match container.state.as_str() {
            "running" => Self::Running,
            "paused" => Self::Paused,
            "created" => Self::Ended { exit_code: None, out_of_memory: false },
            "exited" | "dead" => Self::Ended { exit_code: container.exit_code, out_of_memory: container.oom_killed },
            _ => Self::Unclear,
        }
    }

    /// How it ended, in words that follow "it".
    fn end(self) -> String {
        match self {
            Self::Ended { out_of_memory: true, .. } => "ran out of memory and was killed (OOM)".into(),
            Self::Ended { exit_code: Some(code), .. } => format!("ended by itself with exit code {code}"),
            Self::Absent => "was removed from its host by hand".into(),
            _ => "did not start".into(),
        }
    }

    fn is_clean(self) -> bool {
        self == Self::Ended { exit_code: Some(0), out_of_memory: false }
    }
}

/// What is known of a pod besides its record.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its container.
    pub found: Found,
    /// Whether its network is missing.
    pub network_gone: bool,
    /// Whether its host was started anew, so that its end says nothing about the pod.
    pub rebooted: bool,
}

/// How pods that end are started again.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How often in a row.
    pub tries: u32,
    /// The first pause, doubled each time.
    pub backoff: Duration,
    /// The longest one.
    pub longest_backoff: Duration,
    /// A pod that has run for so long counts anew.
    pub settled: Duration,
}

impl From<&Orchestrator> for Rules {
    fn from(settings: &Orchestrator) -> Self {
        Self {
            tries: settings.restart_tries,
            backoff: Duration::from_millis(settings.restart_backoff_ms),
            longest_backoff: Duration::from_millis(settings.restart_backoff_max_ms),
            settled: Duration::from_millis(settings.restart_settled_ms),
        }
    }
}

impl Rules {
    fn pause(self, restarts: u32) -> Duration {
        self.backoff.saturating_mul(2_u32.saturating_pow(restarts)).min(self.longest_backoff)
    }
}

/// What is to be done about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Nothing,
    /// Nothing before this.
    Wait(Duration),
    /// The record is to say what is.
    Record(PodPhase, Option<String>),
    /// It is to be started again then, and this is why.
    Schedule(Timestamp, String),
    /// It is to be started again now, as one more time in a row or without being counted.
    StartAgain {
        /// Whether it counts.
        counted: bool,
    },
    /// Something is to be done, and this is why.
    Ask(Verb, &'static str),
    /// It ended too often: it has failed, and its last output belongs into the cause.
    GiveUp(String),
    /// It has run long enough to count anew.
    CountAnew,
}

/// Judges a pod that is placed, whose host answers, and that nobody works on.
pub fn judge(record: &PodRecord, facts: Facts, rules: Rules, now: Timestamp) -> Verdict {
    if facts.found == Found::Unclear {
        return Verdict::Nothing;
    }
    if record.desired == Desired::Deleted {
        return Verdict::Ask(Verb::Delete, "it is to be deleted");
    }
    if record.residue {
        return Verdict::Ask(Verb::Clean, "something of it remains");
    }
    match (record.desired, facts.found) {
        (Desired::Running, Found::Running) => running(record, facts, rules, now),
        (Desired::Running, Found::Ended { .. } | Found::Absent) => ended(record, facts, rules, now),
        (Desired::Stopped, Found::Running | Found::Paused) => Verdict::Ask(Verb::Stop, "it is to be stopped"),
        (Desired::Stopped, _) => becomes(record, PodPhase::Stopped, None),
        (Desired::Running, Found::Paused) => {
            becomes(record, PodPhase::Paused, Some("it was frozen on its host by hand".into()))
        }
        (Desired::Paused, Found::Paused) => becomes(record, PodPhase::Paused, None),
        (Desired::Paused, Found::Running) => becomes(record, PodPhase::Running, None),
        (Desired::Paused, found) => {
            let cause = format!("it {} while it was frozen", found.end());
            becomes(record, PodPhase::Stopped, Some(cause))
        }
        (Desired::Deleted, _) | (_, Found::Unclear) => Verdict::Nothing,
    }
}

fn becomes(record: &PodRecord, phase: PodPhase, cause: Option<String>) -> Verdict {
    // Why it failed is worth more than that it is stopped now.
    let keeps = record.phase == phase || record.phase == PodPhase::Failed && phase == PodPhase::Stopped;
    if keeps { Verdict::Nothing } else { Verdict::Record(phase, cause) }
}

fn running(record: &PodRecord, facts: Facts, rules: Rules, now: Timestamp) -> Verdict {
    if record.phase != PodPhase::Running {
        return Verdict::Record(PodPhase::Running, None);
    }
    if facts.network_gone {
        return Verdict::Ask(Verb::Restart, "its network was removed from its host by hand");
    }
    let Some(restarted_at) = record.restarted_at.filter(|_| record.restarts > 0) else { return Verdict::Nothing };
    if restarted_at.plus(rules.settled) <= now { Verdict::CountAnew } else { Verdict::Nothing }
}

/// A pod that should run and does not.
fn ended(record: &PodRecord, facts: Facts, rules: Rules, now: Timestamp) -> Verdict {
    if let Some(at) = record.restart_at {
        let wait = at.as_millis().saturating_sub(now.as_millis());
        return match u64::try_from(wait) {
            Ok(wait @ 1..) => Verdict::Wait(Duration::from_millis(wait)),
            _ => Verdict::StartAgain { counted: true },
        };
    }
    match record.phase {
        // It ended because its host did, which is not its fault.
        PodPhase::Running | PodPhase::Paused | PodPhase::Lost if facts.rebooted => {
            return Verdict::StartAgain { counted: false };
        }
        PodPhase::Running | PodPhase::Paused | PodPhase::Lost => {}
        // It was started again, and failed at once.
        PodPhase::Failed if (1..rules.tries).contains(&record.restarts) => {}
        // Its owner knows.
        _ => return Verdict::Nothing,
    }
    let end = facts.found.end();
    match record.spec.restart {
        RestartPolicy::Never | RestartPolicy::OnFailure if facts.found.is_clean() => {
            Verdict::Record(PodPhase::Stopped, Some(format!("it {end}")))
        }
        RestartPolicy::Never => Verdict::GiveUp(format!("it {end}")),
        _ if record.restarts >= rules.tries => {
            Verdict::GiveUp(format!("it {end}, after it had been started again {} times in a row", record.restarts))
        }
        _ => {
            let at = now.plus(rules.pause(record.restarts));
            Verdict::Schedule(at, format!("it {end}, and is started again"))
        }
    }
}

#[cfg(test)]
mod tests;
