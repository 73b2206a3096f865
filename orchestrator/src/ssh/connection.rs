//! One connection to a host, shared by all commands there: made when it is needed, made again after a break, closed when
//! nobody has used it for long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use pinacle_bus::contract::Timestamp;
use russh::{Channel, client::Msg};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{
    Command, ConnectError, Endpoint, ExecSink, Finished, SshError, SshSettings,
    dial::{Live, dial},
    execute::{Execution, Job, Limit, Session},
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Between tries to open a channel that the host refuses.
const CHANNEL_PAUSE: Duration = Duration::from_millis(200);
/// How long it goes on refusing before that is told.
const CHANNEL_PATIENCE: Duration = Duration::from_secs(10);
const OPENING: &str = "opening a channel to the host";
/// How long commands may take to end when the connection is closed by us.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

/// The one connection to a host. Cheap to clone; all clones share it.
#[derive(Clone)]
pub struct HostConnection(Arc<Shared>);

pub(super) struct Shared {
    endpoint: Endpoint,
    settings: Arc<SshSettings>,
    /// One for each channel that may be open.
    slots: Arc<Semaphore>,
    /// Held while connecting, so that there is one attempt at a time and one connection.
    link: tokio::sync::Mutex<Option<Arc<Live>>>,
    failure: Mutex<Option<Failure>>,
    /// How many attempts have ended: who waited for one takes its outcome.
    attempts: AtomicU64,
    last_used: Mutex<Instant>,
    tasks: TaskTracker,
    closed: CancellationToken,
}

/// The last attempt to connect, when it failed.
#[derive(Clone)]
struct Failure {
    error: ConnectError,
    pause: Duration,
    retry_at: Instant,
}

impl HostConnection {
    /// Connects when the first command needs it.
    pub fn new(endpoint: Endpoint, settings: Arc<SshSettings>) -> Self {
        Self(Arc::new(Shared {
            endpoint,
            slots: Arc::new(Semaphore::new(settings.channels)),
            settings,
            link: tokio::sync::Mutex::default(),
            failure: Mutex::default(),
            attempts: AtomicU64::new(0),
            last_used: Mutex::new(Instant::now()),
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
        }))
    }

    /// Where it leads.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Runs a command and puts it on record. Dropped, it ends the command as [`cancel`](CancellationToken) does, but
    /// nobody waits for that, and the record stays without an end.
    ///
    /// # Errors
    /// See [`SshError`]. An exit code other than 0 is none.
    pub async fn run(
        &self,
        command: &Command,
        sink: &ExecSink,
        cancel: &CancellationToken,
    ) -> Result<Finished, SshError> {
        let (began, begun) = oneshot::channel();
        let execution = self.start(command, cancel, began)?;
        sink.record(command, execution, begun).await
    }

    /// Runs a command that is on no record: for tests and measurements.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub async fn run_unrecorded(&self, command: &Command, cancel: &CancellationToken) -> Result<Finished, SshError> {
        let (began, _) = oneshot::channel();
        self.start(command, cancel, began)?.outcome().await
    }

    /// Ends all commands, waits for that a little, and closes the connection for good.
    pub async fn close(&self) {
        self.0.closed.cancel();
        self.0.tasks.close();
        if timeout(CLOSES_WITHIN, self.0.tasks.wait()).await.is_err() {
            warn!(host = %self.0.endpoint.address, "commands did not end in time; closing their connection");
        }
        *self.0.link.lock().await = None;
    }

    fn start(
        &self,
        command: &Command,
        cancel: &CancellationToken,
        began: oneshot::Sender<Timestamp>,
    ) -> Result<Execution, SshError> {
        let cancel = cancel.child_token();
        let job = Job::new(command, cancel.clone(), began)?;
        let output = job.output.clone();
        let shared = self.0.clone();
        let task = self.0.tasks.spawn(async move { shared.perform(job).await });
        Ok(Execution::new(task, output, cancel))
    }
}

impl Shared {
    async fn perform(self: Arc<Self>, job: Job) -> Result<Finished, SshError> {
        let limit = Limit {
            deadline: job.deadline,
            after: job.allowed,
            cancel: job.cancel.clone(),
            closed: self.closed.clone(),
        };
        let outcome = async { job.run(self.session(&limit).await?, &limit).await }.await;
        *self.last_used.lock() = Instant::now();
        let label = outcome.as_ref().err().map_or("ended", SshError::kind);
        metrics::counter!("pinacle_orchestrator_ssh_commands_total", "outcome" => label).increment(1);
        outcome
    }

    /// A channel of its own on the connection.
    async fn session(self: &Arc<Self>, limit: &Limit) -> Result<Session, SshError> {
        let mut slot = limit
            .hold("waiting for a free channel to the host", self.slots.clone().acquire_owned())
            .await?
            .map_err(|_| SshError::Cancelled { ended: true })?;
        *self.last_used.lock() = Instant::now();
        let patience = Instant::now() + CHANNEL_PATIENCE;
        let mut was_dead = false;
        loop {
            let live = match limit.hold("connecting to the host", self.live(limit.deadline)).await {
                Ok(connected) => connected.map_err(SshError::Connect)?,
                Err(late) => return Err(self.explained(late)),
            };
            let (returned, opened) = limit.hold(OPENING, self.open(&live, slot)).await??;
            slot = returned;
            let detail = match opened {
                Ok(channel) => return Ok(Session { channel, live, slot, tasks: self.tasks.clone() }),
                Err(error) => error.to_string(),
            };
            // A connection that turns out to be dead is made anew, once; one that is alive may have a channel soon.
            let is_dead = live.handle.is_closed();
            if is_dead && was_dead || !is_dead && Instant::now() > patience {
                return Err(SshError::Refused(detail));
            }
            was_dead |= is_dead;
            debug!(host = %self.endpoint.address, detail, "the host opened no channel; trying again");
            limit.hold(OPENING, sleep(CHANNEL_PAUSE)).await?;
        }
    }

    /// Why there was no connection in time is worth more than that there was none.
    fn explained(&self, late: SshError) -> SshError {
        let failure = self.failure.lock().clone();
        match (late, failure) {
            (SshError::TimedOut { .. }, Some(failure)) => SshError::Connect(failure.error),
            (late, _) => late,
        }
    }

    /// Opens a channel in a task of its own: when nobody waits any more, it is closed again rather than left to fill up
    /// the host.
    async fn open(&self, live: &Arc<Live>, slot: OwnedSemaphorePermit) -> Result<Opened, SshError> {
        let (give, take) = oneshot::channel();
        let live = live.clone();
        self.tasks.spawn(async move {
            let opened = live.handle.channel_open_session().await;
            if let Err((_slot, Ok(channel))) = give.send((slot, opened)) {
                let _ = channel.close().await;
            }
        });
        take.await.map_err(|_| SshError::Cancelled { ended: true })
    }

    /// The connection, made if need be. After a failure there is a pause before the next attempt; who cannot wait for it
    /// is told the failure.
    async fn live(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Live>, ConnectError> {
        let seen = self.attempts.load(Ordering::Acquire);
        let mut link = self.link.lock().await;
        if let Some(live) = link.as_ref().filter(|live| !live.handle.is_closed()) {
            return Ok(live.clone());
        }
        if let Some(lost) = link.take() {
            info!(host = %self.endpoint.address, reason = lost.end(), "the connection to a host had ended");
        }
        let failure = self.failure.lock().clone();
        if let Some(failure) = &failure {
            let is_told = self.attempts.load(Ordering::Acquire) != seen;
            if is_told
                || failure.retry_at >= deadline
                || !failure.error.is_transient() && failure.retry_at > Instant::now()
            {
                return Err(failure.error.clone());
            }
            sleep_until(failure.retry_at).await;
        }
        let outcome = self.attempt().await;
        self.attempts.fetch_add(1, Ordering::Release);
        let label = if outcome.is_ok() { "connected" } else { "failed" };
        metrics::counter!("pinacle_orchestrator_ssh_connects_total", "outcome" => label).increment(1);
        match outcome {
            Ok(live) => {
                let live = Arc::new(live);
                *self.failure.lock() = None;
                *link = Some(live.clone());
                self.watch_idle(&live);
                Ok(live)
            }
            Err(error) => {
                let before = failure.map_or(FIRST_PAUSE / 2, |failure| failure.pause);
                let pause = (before * 2).min(LONGEST_PAUSE);
                // From half to all of it, so that copies of the orchestrator do not come in step.
                let retry_at = Instant::now() + pause.mul_f64(rand::random_range(0.5..1.0));
                *self.failure.lock() = Some(Failure { error: error.clone(), pause, retry_at });
                Err(error)
            }
        }
    }

    async fn attempt(&self) -> Result<Live, ConnectError> {
        let within = self.settings.connect_within;
        timeout(within, dial(&self.endpoint, &self.settings)).await.unwrap_or_else(|_| {
            let address = format!("{}:{}", self.endpoint.address, self.endpoint.port);
            Err(ConnectError::TimedOut { address, within })
        })
    }

    /// Closes the connection once nobody has used it for long. Holds neither: the connection ends with the last that
    /// uses it, whatever becomes of this.
    fn watch_idle(self: &Arc<Self>, live: &Arc<Live>) {
        let (shared, live) = (Arc::downgrade(self), Arc::downgrade(live));
        let (idle, closed) = (self.settings.idle, self.closed.clone());
        let mut wake_at = Instant::now() + idle;
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    // cancel-safe: a timer.
                    () = sleep_until(wake_at) => {}
                    // cancel-safe: only observed.
                    () = closed.cancelled() => return,
                }
                let (Some(shared), Some(live)) = (shared.upgrade(), live.upgrade()) else { return };
                let mut link = shared.link.lock().await;
                if !link.as_ref().is_some_and(|current| Arc::ptr_eq(current, &live)) {
                    return;
                }
                let is_used = shared.slots.available_permits() < shared.settings.channels;
                let unused_since = *shared.last_used.lock();
                wake_at = if is_used { Instant::now() + idle } else { unused_since + idle };
                if wake_at <= Instant::now() {
                    debug!(host = %shared.endpoint.address, "closing a connection that nobody uses");
                    *link = None;
                    return;
                }
            }
        });
    }
}

type Opened = (OwnedSemaphorePermit, Result<Channel<Msg>, russh::Error>);
