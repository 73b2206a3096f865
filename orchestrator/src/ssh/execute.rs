//! One command on one channel, from its start to its end.

mod feed;
mod run;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use pinacle_bus::contract::Timestamp;
use russh::{Channel, client};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Captured, Command, Fence, SshError,
    capture::Capture,
    command::Input,
    dial::Live,
    wrapper::{refusal, wrapped},
};
use run::Run;

/// The host's own deadline is that much later, so that it counts only when we cannot reach the host.
const REMOTE_GRACE: Duration = Duration::from_secs(1);
const CLOSES_WITHIN: Duration = Duration::from_secs(1);
const RUNNING: &str = "the command ran";

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// `None` when a signal ended it.
    pub exit_code: Option<i32>,
    /// Such as `KILL`.
    pub signal: Option<String>,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// How long it ran, its way there and back included, but not the wait for its turn.
    pub duration: Duration,
}

impl Finished {
    /// Whether it ended with exit code 0.
    pub fn is_success(&self) -> bool {
        self.exit_code == Some(0)
    }
}

/// How long to wait, and what ends a wait early.
pub(super) struct Limit {
    pub deadline: Instant,
    /// The same as a duration, for people.
    pub after: Duration,
    pub cancel: CancellationToken,
    pub closed: CancellationToken,
}

impl Limit {
    /// Waits for `future` before the command runs.
    pub async fn hold<T>(&self, doing: &'static str, future: impl Future<Output = T>) -> Result<T, SshError> {
        tokio::select! {
            // cancel-safe: a wait that ends early is never taken up again.
            value = future => Ok(value),
            // cancel-safe: a timer.
            () = sleep_until(self.deadline) => Err(SshError::TimedOut { after: self.after, doing, ended: true }),
            // cancel-safe: only observed.
            () = self.stopped() => Err(SshError::Cancelled { ended: true }),
        }
    }

    async fn stopped(&self) {
        tokio::select! {
            // cancel-safe: only observed.
            () = self.cancel.cancelled() => {}
            // cancel-safe: only observed.
            () = self.closed.cancelled() => {}
        }
    }
}

/// A channel, and what it needs to live.
pub(super) struct Session {
    pub channel: Channel<client::Msg>,
    pub live: Arc<Live>,
    pub slot: OwnedSemaphorePermit,
    pub tasks: TaskTracker,
}

/// What a command has printed so far, for those who watch.
pub(super) struct Output {
    pub stdout: Mutex<Capture>,
    pub stderr: Mutex<Capture>,
}

/// A command that was started. Dropped, it is cancelled.
pub(super) struct Execution {
    task: JoinHandle<Result<Finished, SshError>>,
    pub output: Arc<Output>,
    _cancel: DropGuard,
}

impl Execution {
    pub fn new(task: JoinHandle<Result<Finished, SshError>>, output: Arc<Output>, cancel: CancellationToken) -> Self {
        Self { task, output, _cancel: cancel.drop_guard() }
    }

    /// Waits for its end; may be dropped and called again.
    pub async fn outcome(&mut self) -> Result<Finished, SshError> {
        let ended = (&mut self.task).await;
        ended.unwrap_or_else(|error| Err(SshError::ConnectionLost(format!("its task ended: {error}"))))
    }
}

/// A command ready to be sent.
pub(super) struct Job {
    line: String,
    input: Input,
    fence: Option<Fence>,
    began: oneshot::Sender<Timestamp>,
    pub output: Arc<Output>,
    pub allowed: Duration,
    pub deadline: Instant,
    pub cancel: CancellationToken,
}

impl Job {
    pub fn new(
        command: &Command,
        cancel: CancellationToken,
        began: oneshot::Sender<Timestamp>,
    ) -> Result<Self, SshError> {
        let capture = || Mutex::new(Capture::new(&command.masks));
        Ok(Self {
            line: command.line()?,
            input: command.input.clone(),
            fence: command.fence,
            began,
            output: Arc::new(Output { stdout: capture(), stderr: capture() }),
            allowed: command.deadline,
            deadline: Instant::now() + command.deadline,
            cancel,
        })
    }

    /// Runs it. Returns shortly after the deadline at the latest, whatever the host does.
    pub async fn run(self, session: Session, limit: &Limit) -> Result<Finished, SshError> {
        let _ = self.began.send(Timestamp::now());
        let Session { channel, live, slot: _slot, tasks } = session;
        let (reader, writer) = channel.split();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let line = wrapped(&self.line, self.fence, left + REMOTE_GRACE);
        let mut run = Run::new(reader, &live, &tasks, &self.output);
        let outcome = match timeout_at(self.deadline, writer.exec(true, line)).await {
            Err(_) => Err(SshError::TimedOut { after: self.allowed, doing: RUNNING, ended: false }),
            Ok(Err(_)) => Err(SshError::ConnectionLost(live.end())),
            Ok(Ok(())) => run.until_its_end(&writer, self.input, limit).await,
        };
        // Also when the host has closed it: that is a message to ourselves then.
        let _ = timeout(CLOSES_WITHIN, writer.close()).await;
        let finished = outcome?;
        match finished.exit_code.and_then(|code| refusal(self.fence, code, &finished.stderr.text())) {
            Some(refused) => Err(refused),
            None => Ok(finished),
        }
    }
}
