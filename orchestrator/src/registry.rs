//! The live records of hosts, in the bucket `hosts`, and the events of their changes.
//!
//! **Each change is published exactly once, and in order,** whatever crashes between the two writes:
//! - the event is derived from the record alone, [`announcement`], and so is its id;
//! - nobody changes a state whose event is not published: who does not know looks it up on the bus, and publishes it
//!   if it is missing;
//! - who made a change publishes its event at once; every other copy looks after it 5 s later;
//! - two copies that publish it in the same moment are told apart by the stream, which drops the second one.

use std::time::Duration;

use metrics::counter;
use pinacle_bus::{
    client::{Bucket, Bus, BusError, BusErrorKind, Entry, Published, Stored},
    contract::{
        HostId, Subject, Timestamp,
        event::{Event, HostStateChange},
        host::{Heartbeat, HostRecord, HostState},
        topology::{HOSTS, Keep, StreamName},
    },
};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::{
    announcement,
    fleet::{Job, Outcome, Task},
    liveness::Mark,
};

/// No job takes longer; what is not done then is tried anew.
const JOB_DEADLINE: Duration = Duration::from_secs(10);
/// The stream remembers ids for two minutes. A copy that slept longer than this between the two writes looks first.
const SURELY_REMEMBERED: Duration = Duration::from_secs(60);

/// Why something about a record could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The bus.
    #[error("the bus did not do it")]
    Bus(#[source] BusError),
    /// Others keep writing the record.
    #[error("the record of {0} is written by others all the time")]
    Contended(HostId),
    /// The event cannot be written.
    #[error("the event has no JSON form")]
    Event(#[source] serde_json::Error),
}

impl From<BusError> for RegistryError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

/// The records of hosts and their events. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    bus: Bus,
    records: Bucket<HostRecord>,
}

impl Registry {
    /// Opens the bucket.
    ///
    /// # Errors
    /// When it does not exist or the server does not answer.
    pub async fn open(bus: &Bus) -> Result<Self, BusError> {
        Ok(Self { bus: bus.clone(), records: bus.bucket(&HOSTS).await? })
    }

    /// The bucket.
    pub fn records(&self) -> &Bucket<HostRecord> {
        &self.records
    }

    /// Does a job.
    pub async fn run(&self, job: Job) -> (HostId, Outcome) {
        let host = job.entry.record.host_id;
        let outcome = match timeout(JOB_DEADLINE, self.attempt(job)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                warn!(%host, "cannot write what became of a host; trying again: {error}: {cause}");
                Outcome::Failed
            }
            Err(_) => {
                warn!(%host, "writing what became of a host took too long; trying again");
                Outcome::Failed
            }
        };
        (host, outcome)
    }

    async fn attempt(&self, job: Job) -> Result<Outcome, RegistryError> {
        let Job { entry, announced, newest, task } = job;
        match task {
            Task::Announce => {
                self.ensure_announced(&entry.record).await?;
                Ok(Outcome::Announced { state_since: entry.record.state_since })
            }
            Task::Rename { name } => {
                info!(host = %entry.record.host_id, from = entry.record.name, to = name, "two hosts had one name");
                let record = HostRecord { name, ..entry.record };
                match self.records.update(&record.host_id.to_string(), &record, entry.revision).await {
                    Ok(revision) => {
                        let entry = Entry { revision, written_at: Timestamp::now(), record };
                        Ok(Outcome::Seen { entry: Some(Box::new(entry)) })
                    }
                    Err(error) => self.seen(record.host_id, error).await,
                }
            }
            Task::Change { verdict, evidence, beats } => {
                let id = entry.record.host_id;
                if verdict.from_silence()
                    && let Some((heartbeat, at)) = self.missed(id, newest.as_ref()).await?
                {
                    counter!("pinacle_orchestrator_overheard_total").increment(1);
                    return Ok(Outcome::Alive { heartbeat: Box::new(heartbeat), at });
                }
                if !announced {
                    self.ensure_announced(&entry.record).await?;
                }
                let from = entry.record.state;
                let began = Instant::now();
                let record = HostRecord {
                    state: verdict.state,
                    cause: verdict.cause,
                    state_since: announcement::following(entry.record.state_since, Timestamp::now()),
                    evidence: *evidence,
                    ..entry.record
                };
                match self.records.update(&id.to_string(), &record, entry.revision).await {
                    Ok(revision) => {
                        let announced = self.tell(&record, from, began).await;
                        let entry = Entry { revision, written_at: Timestamp::now(), record };
                        Ok(Outcome::Changed { entry: Box::new(entry), beats, announced })
                    }
                    Err(error) => self.seen(id, error).await,
                }
            }
        }
    }

    /// After the write of a change: its event. Returns whether it is published.
    async fn tell(&self, record: &HostRecord, from: HostState, began: Instant) -> bool {
        let (to, cause) = (record.state.as_str(), record.cause.as_str());
        info!(host = %record.host_id, name = record.name, from = from.as_str(), to, cause, "a host changed its state");
        counter!("pinacle_orchestrator_transitions_total", "to" => to, "cause" => cause).increment(1);
        let told = if began.elapsed() > SURELY_REMEMBERED {
            self.ensure_announced(record).await
        } else {
            self.announce(record, from).await.map(drop)
        };
        if let Err(error) = &told {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            warn!(host = %record.host_id, "cannot publish a host's change; trying again: {error}: {cause}");
        }
        told.is_ok()
    }

    /// After a write that failed: what is there now.
    async fn seen(&self, host: HostId, error: BusError) -> Result<Outcome, RegistryError> {
        if error.kind() != BusErrorKind::Conflict {
            return Err(error.into());
        }
        counter!("pinacle_orchestrator_conflicts_total").increment(1);
        Ok(Outcome::Seen { entry: self.records.get(&host.to_string()).await?.map(Box::new) })
    }

    /// The heartbeat that the bus holds of a host, if it is newer than the newest that this copy knows.
    async fn missed(
        &self,
        host: HostId,
        newest: Option<&Mark>,
    ) -> Result<Option<(Heartbeat, Timestamp)>, RegistryError> {
        let Some(stored) = self.bus.last(StreamName::Heartbeats, &Subject::Heartbeat(host)).await? else {
            return Ok(None);
        };
        Ok(read_heartbeat(&stored)
            .filter(|heartbeat| newest.is_none_or(|newest| Mark::of(heartbeat).is_after(newest)))
            .map(|heartbeat| (heartbeat, stored.published_at)))
    }

    /// Publishes the event of a host's state.
    ///
    /// # Errors
    /// When the stream did not take it in.
    pub async fn announce(&self, record: &HostRecord, from: HostState) -> Result<Published, RegistryError> {
        let event = announcement::event(record, from).map_err(RegistryError::Event)?;
        Ok(self.bus.publish(&announcement::subject(record), &event.event_id.to_string(), &event).await?)
    }

    /// Publishes the event of a host's state, unless it is published.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn ensure_announced(&self, record: &HostRecord) -> Result<(), RegistryError> {
        // What is older than the stream's memory was published: a copy looks after it within seconds of its start.
        if let Some(Keep::For(kept)) = StreamName::Events.spec().map(|spec| spec.keep)
            && record.state_since < Timestamp::now().minus(kept.saturating_sub(Duration::from_secs(3600)))
        {
            return Ok(());
        }
        let began = Instant::now();
        let last = self.bus.last(StreamName::Events, &announcement::subject(record)).await?;
        let last: Option<Event> = last.and_then(|stored| stored.decode().ok());
        if last.as_ref().is_some_and(|event| event.event_id == announcement::event_id(record)) {
            return Ok(());
        }
        if began.elapsed() > SURELY_REMEMBERED {
            return Box::pin(self.ensure_announced(record)).await;
        }
        // Events are published in order, so the last one before this tells what the state was.
        let from = last
            .and_then(|event| serde_json::from_value::<HostStateChange>(event.detail).ok())
            .map_or(HostState::Unknown, |change| change.to);
        if !self.announce(record, from).await?.duplicate {
            counter!("pinacle_orchestrator_events_taken_over_total").increment(1);
        }
        Ok(())
    }
}

/// The heartbeat in a stored message, if it is the one that its subject promises.
pub fn read_heartbeat(stored: &Stored) -> Option<Heartbeat> {
    let heartbeat: Heartbeat = stored.decode().ok()?;
    (stored.subject.parse() == Ok(Subject::Heartbeat(heartbeat.host_id))).then_some(heartbeat)
}
