//! What a step is given: the pod's record, and the ways to do something about it under the fence.

use std::{collections::HashMap, sync::Arc, time::Duration};

use metrics::counter;
use parking_lot::Mutex;
use pinacle_bus::{
    client::{Bucket, Bus, BusErrorKind, Entry},
    contract::{
        HostId, PodId, Timestamp,
        event::{Event, HOST_KEY_CHANGED, HostKeyChange},
        host::{HostRecord, HostState},
        ledger::Lease,
        pod::PodRecord,
        request::Operation,
        subject::EventKind,
    },
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    crash::{CrashPoint, Moment},
    plan::{Step, Verb},
};
use crate::{
    keys::Keys,
    ledger::Ledgers,
    record::current_step,
    settings::Orchestrator,
    ssh::{Command, ConnectError, Connections, Endpoint, ExecSink, Fence, Finished, SshError, fingerprint},
    tell,
    view::View,
};

/// Between tries to write a record while the bus is away.
const PAUSE: Duration = Duration::from_millis(200);
/// Between the first tries of a step; doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(300);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// How long a command runs before the process is killed inside it.
const INSIDE: Duration = Duration::from_millis(30);

/// What all operations of this process share. Cheap to clone.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is what its type says")]
pub struct Engine {
    pub bus: Bus,
    pub view: View,
    pub pods: Bucket<PodRecord>,
    pub leases: Bucket<Lease>,
    pub ledgers: Ledgers,
    pub keys: Keys,
    pub connections: Connections,
    pub settings: Arc<Orchestrator>,
    pub holder: Arc<str>,
    pub crash: CrashPoint,
    /// How many operations may be under way on each host.
    pub turns: PerHost,
    /// One image at a time is brought to a host.
    pub images: PerHost,
    pub shutdown: CancellationToken,
}

/// A bounded number of turns for each host. Cheap to clone.
#[derive(Clone)]
pub struct PerHost {
    most: usize,
    hosts: Arc<Mutex<HashMap<HostId, Arc<Semaphore>>>>,
}

impl PerHost {
    /// `most` turns at once on each host.
    pub fn new(most: usize) -> Self {
        Self { most, hosts: Arc::default() }
    }

    /// The turns of a host.
    pub fn of(&self, host: HostId) -> Arc<Semaphore> {
        self.hosts.lock().entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.most))).clone()
    }
}

/// Why a step did not reach its end.
#[derive(Debug)]
pub enum StepError {
    /// It may well succeed when it is tried again; this is what is in the way.
    Again(String),
    /// It cannot succeed; this is why.
    Failed(String),
    /// Somebody wants the operation cancelled.
    Cancelled,
    /// Another copy has the pod: nothing may be touched any more.
    Fenced,
}

/// A pod that this copy works on.
pub struct StepContext {
    engine: Engine,
    entry: Entry<PodRecord>,
    verb: Verb,
    step: Step,
    /// Which operation it counts the commands of, and where it tells them.
    sink: Option<(Operation, ExecSink)>,
    cancel: CancellationToken,
    /// When the step must have ended.
    deadline: Instant,
    was_inside: bool,
}

impl StepContext {
    /// For a pod whose record this copy has put its fence on.
    pub fn new(engine: Engine, entry: Entry<PodRecord>) -> Self {
        Self {
            engine,
            entry,
            verb: Verb::Clean,
            step: Step::Inspect,
            sink: None,
            cancel: CancellationToken::new(),
            deadline: Instant::now(),
            was_inside: false,
        }
    }

    /// Turns to a step of the operation under way.
    pub fn turn_to(&mut self, verb: Verb, step: Step, cancel: CancellationToken, deadline: Instant) {
        (self.verb, self.step, self.cancel, self.deadline, self.was_inside) = (verb, step, cancel, deadline, false);
    }

    /// Writes the record with a higher fence than any copy before, changed by `change`.
    ///
    /// # Errors
    /// [`StepError::Again`] when somebody else wrote it meanwhile, or the bus does not answer.
    pub async fn take_up(&mut self, fence: u64, change: impl FnOnce(&mut PodRecord)) -> Result<(), StepError> {
        let mut record = self.entry.record.clone();
        change(&mut record);
        record.fence = fence;
        let written = self.engine.pods.update(&record.pod_id.to_string(), &record, self.entry.revision).await;
        let revision = written.map_err(|error| StepError::Again(error.to_string()))?;
        self.entry = Entry { revision, written_at: Timestamp::now(), record };
        Ok(())
    }

    /// The record's revision, as this copy last wrote or read it.
    pub fn revision(&self) -> u64 {
        self.entry.revision
    }

    /// What all operations share.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The record, as this copy last wrote or read it.
    pub fn record(&self) -> &PodRecord {
        &self.entry.record
    }

    /// The pod.
    pub fn pod(&self) -> PodId {
        self.entry.record.pod_id
    }

    /// What is being done.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// Until when the step may take.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Cancelled when the operation is to be.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The host that the pod is placed on.
    ///
    /// # Errors
    /// When it is on none.
    pub fn host(&self) -> Result<Arc<HostRecord>, StepError> {
        let host = self.record().host_id.ok_or_else(|| StepError::Failed("the pod is on no host".into()))?;
        self.engine.view.host(host).ok_or_else(|| StepError::Again(format!("nothing is known of the host {host}")))
    }

    /// Changes the record, and reads it again when somebody else put something into its queue meanwhile: `change` may be
    /// applied more than once.
    ///
    /// # Errors
    /// [`StepError::Fenced`] when another copy has the pod. While the bus is away this waits; the lease ends that.
    pub async fn change(&mut self, mut change: impl FnMut(&mut PodRecord)) -> Result<(), StepError> {
        loop {
            let mut record = self.entry.record.clone();
            change(&mut record);
            let key = record.pod_id.to_string();
            let failure = match self.engine.pods.update(&key, &record, self.entry.revision).await {
                Ok(revision) => {
                    self.entry = Entry { revision, written_at: Timestamp::now(), record };
                    return Ok(());
                }
                Err(error) => error,
            };
            match failure.kind() {
                BusErrorKind::Conflict => {}
                BusErrorKind::Malformed | BusErrorKind::TooLarge => {
                    return Err(StepError::Failed(format!("its record cannot be written: {failure}")));
                }
                _ => sleep(PAUSE).await,
            }
            // Also what timed out may have been written.
            match self.engine.pods.get(&key).await {
                Ok(Some(fresh)) if fresh.record.fence == self.entry.record.fence => self.entry = fresh,
                Ok(_) => return Err(StepError::Fenced),
                Err(error) => {
                    warn!(pod = key, %error, "cannot read a pod's record; trying again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Says what the step is at, or what it waits for, to whoever watches the operation.
    ///
    /// # Errors
    /// As for [`Self::change`].
    pub async fn note(&mut self, note: &str) -> Result<(), StepError> {
        let note: String = note.chars().take(2000).collect();
        let current = self.record().operation.as_ref().and_then(current_step).map(|(_, step)| step.note.clone());
        if current.is_none_or(|known| known.as_deref() == Some(note.as_str())) {
            return Ok(());
        }
        self.change(|record| {
            let Some(operation) = &mut record.operation else { return };
            let Some(index) = current_step(operation).map(|(index, _)| index) else { return };
            if let Some(step) = operation.steps.get_mut(index) {
                step.note = Some(note.clone());
            }
        })
        .await?;
        if let Some(operation) = &self.record().operation
            && let Err(error) = tell::operation_changed(&self.engine.bus, self.record(), operation).await
        {
            // The next change tells all of it again.
            warn!(%error, "what a step waits for was not told");
        }
        Ok(())
    }

    /// Runs a command on the pod's host: fenced, on record, at most until the step's deadline.
    ///
    /// # Errors
    /// See [`StepError`]; an exit code other than 0 is none.
    pub async fn command(&mut self, command: Command) -> Result<Finished, StepError> {
        let host = self.host()?;
        if host.state == HostState::Offline {
            return Err(StepError::Again(format!("{} is away since {}", host.name, host.state_since)));
        }
        let Some(endpoint) = Endpoint::of(&host, &self.engine.settings.ssh_user) else {
            return Err(StepError::Again(format!("{} does not say where it takes SSH", host.name)));
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let allowed = command.time_limit().min(left);
        let fence = Fence { pod_id: self.pod(), number: self.record().fence };
        let command = command.fence(fence).deadline(allowed);
        let sink = self.sink(host.host_id)?.at(self.step.label(), host.host_id);
        let connection = self.engine.connections.host(host.host_id, &endpoint);
        let running = connection.run(&command, &sink, &self.cancel);
        let outcome = if self.engine.crash.is_at(self.verb, self.step, Moment::Inside) {
            tokio::select! {
                // cancel-safe: the process ends.
                () = sleep(INSIDE) => {
                    self.engine.crash.pass(self.verb, self.step, Moment::Inside);
                    return Err(StepError::Fenced);
                }
                // cancel-safe: as above.
                outcome = running => outcome,
            }
        } else {
            running.await
        };
        self.inside();
        match outcome {
            Ok(finished) => Ok(finished),
            Err(error) => Err(self.explained(&host, error).await),
        }
    }

    /// Marks that the step has had an effect which is not on record yet.
    pub fn inside(&mut self) {
        if !self.was_inside {
            self.was_inside = true;
            self.engine.crash.pass(self.verb, self.step, Moment::Inside);
        }
    }

    /// Where the operation's commands are told. A copy that took it over counts on from the next thousand.
    fn sink(&mut self, host: HostId) -> Result<ExecSink, StepError> {
        let operation = self.record().operation.clone().ok_or(StepError::Fenced)?;
        if let Some((known, sink)) = &self.sink
            && known.operation_id == operation.operation_id
        {
            return Ok(sink.clone());
        }
        let first = operation.takeovers.saturating_mul(1000).saturating_add(1);
        let sink = ExecSink::new(&self.engine.bus, operation.operation_id, host, Some(self.pod()), first);
        self.sink = Some((operation, sink.clone()));
        Ok(sink)
    }

    async fn explained(&self, host: &HostRecord, error: SshError) -> StepError {
        let name = &host.name;
        match error {
            SshError::Fenced(_) => StepError::Fenced,
            SshError::Cancelled { .. } if self.cancel.is_cancelled() => StepError::Cancelled,
            // The connection was closed by us: this process stops.
            SshError::Cancelled { .. } => StepError::Fenced,
            SshError::Connect(ConnectError::HostKeyChanged { offered, fingerprint: found }) => {
                self.tell_key_change(host, &offered, &found).await;
                StepError::Failed(format!(
                    "{name} offers another SSH host key than the one it was admitted with: {found}. If it was reinstalled, an admin can trust the new key"
                ))
            }
            SshError::Connect(why) if why.is_transient() => {
                StepError::Again(format!("{name} cannot be reached: {why}"))
            }
            SshError::Connect(why) => StepError::Failed(format!("{name}: {why}")),
            SshError::Unrecorded(why) => StepError::Again(format!("a command's record could not be kept: {why}")),
            other if other.is_transient() => StepError::Again(format!("{name}: {other}")),
            other => StepError::Failed(format!("{name}: {other}")),
        }
    }

    async fn tell_key_change(&self, host: &HostRecord, offered: &str, found: &str) {
        counter!("pinacle_orchestrator_host_key_changes_total").increment(1);
        let change = HostKeyChange {
            host_id: host.host_id,
            offered: offered.into(),
            offered_fingerprint: found.into(),
            pinned_fingerprints: host.pinned_host_keys.iter().filter_map(|key| fingerprint(key)).collect(),
        };
        let Ok(detail) = serde_json::to_value(&change) else { return };
        let event = Event {
            event_id: tell::event_id(host.admitted_at, &format!("{} {HOST_KEY_CHANGED} {offered}", host.host_id)),
            at: Timestamp::now(),
            kind: EventKind::Host,
            target_id: host.host_id.to_string(),
            what: HOST_KEY_CHANGED.into(),
            message: tell::line(&format!("{} offered the unknown SSH host key {found} and was refused", host.name)),
            detail,
        };
        if let Err(error) = tell::publish(&self.engine.bus, &event).await {
            warn!(host = %host.host_id, %error, "a changed host key was not told");
        }
    }

    /// Waits before another try, or until the step may take no longer.
    ///
    /// # Errors
    /// [`StepError::Cancelled`].
    pub async fn pause(&self, tries: u32) -> Result<(), StepError> {
        let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(tries)).min(LONGEST_RETRY);
        let until = (Instant::now() + pause).min(self.deadline);
        tokio::select! {
            // cancel-safe: a timer.
            () = sleep_until(until) => Ok(()),
            // cancel-safe: only observed.
            () = self.cancel.cancelled() => Err(StepError::Cancelled),
        }
    }
}
