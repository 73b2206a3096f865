//! Tasks that somebody watches: each has a name and says what its failure means. A panic is a failure.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

/// What the failure of a task means. A task that returns `Ok` has done its work and is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The service is of no use without it: the process ends with exit code 1, for its supervisor to start anew.
    StopService,
    /// It starts again after a pause, which doubles from 1 s to 30 s while it keeps failing.
    Restart,
}

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A task that ran for so long has not failed at once; its next pause is the shortest again.
const RAN_WELL: Duration = Duration::from_secs(60);

/// Starts tasks, and waits for them when the service stops. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    tasks: TaskTracker,
    running: Mutex<BTreeMap<String, usize>>,
    shutdown: CancellationToken,
    failed: watch::Sender<Option<String>>,
}

/// Keeps a task's name among the running ones for as long as it lives, also when it is cut off.
struct Running {
    inner: Arc<Inner>,
    name: String,
}

impl Running {
    fn new(inner: &Arc<Inner>, name: &str) -> Self {
        *inner.running.lock().entry(name.to_owned()).or_default() += 1;
        Self { inner: inner.clone(), name: name.to_owned() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.inner.running.lock();
        if let Some(count) = running.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.name);
            }
        }
    }
}

impl Supervisor {
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        let inner =
            Inner { tasks: TaskTracker::new(), running: Mutex::default(), shutdown, failed: watch::Sender::new(None) };
        Self { inner: Arc::new(inner) }
    }

    /// Starts a task that can be started again: `task` makes its future anew each time.
    pub fn spawn<F, Fut>(&self, name: impl Into<String>, on_failure: OnFailure, mut task: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let running = Running::new(&self.inner, &name.into());
        self.inner.tasks.spawn(async move {
            let mut pause = SHORTEST_PAUSE;
            loop {
                let began = Instant::now();
                let Err(failure) = caught(task()).await else { break };
                running.note(&failure);
                if on_failure == OnFailure::StopService || running.inner.shutdown.is_cancelled() {
                    running.fail();
                    break;
                }
                if began.elapsed() >= RAN_WELL {
                    pause = SHORTEST_PAUSE;
                }
                tokio::select! {
                    // cancel-safe: a timer.
                    () = sleep(pause) => {}
                    // cancel-safe: only observed.
                    () = running.inner.shutdown.cancelled() => break,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    /// Starts a task that runs once; its failure stops the service.
    pub fn spawn_once<Fut>(&self, name: impl Into<String>, task: Fut)
    where
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let running = Running::new(&self.inner, &name.into());
        self.inner.tasks.spawn(async move {
            if let Err(failure) = caught(task).await {
                running.note(&failure);
                running.fail();
            }
        });
    }

    /// Names of the tasks that run now.
    pub fn running(&self) -> Vec<String> {
        self.inner.running.lock().keys().cloned().collect()
    }

    /// The first task whose failure stops the service, once there is one.
    pub fn failures(&self) -> watch::Receiver<Option<String>> {
        self.inner.failed.subscribe()
    }

    /// Waits until every task has ended. After a second it says who still holds on.
    ///
    /// # Errors
    /// When `deadline` passes: the names of the tasks that still run.
    pub async fn drain(&self, deadline: Duration) -> Result<(), Vec<String>> {
        self.inner.tasks.close();
        let patience = Duration::from_secs(1).min(deadline);
        if timeout(patience, self.inner.tasks.wait()).await.is_ok() {
            return Ok(());
        }
        warn!(tasks = ?self.running(), "still waiting for tasks to end");
        match timeout(deadline.saturating_sub(patience), self.inner.tasks.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.running()),
        }
    }
}

impl Running {
    fn note(&self, failure: &anyhow::Error) {
        error!(task = self.name, "task failed: {failure:#}");
        metrics::counter!("pinacle_task_failures_total", "task" => self.name.clone()).increment(1);
    }

    fn fail(&self) {
        self.inner.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert_with(|| self.name.clone());
            first
        });
    }
}

async fn caught(task: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // The future is dropped after a panic, so nothing sees a state that it left half-way.
    AssertUnwindSafe(task).catch_unwind().await.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked; see above")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn supervisor() -> Supervisor {
        Supervisor::new(CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_or_panics_is_started_again() {
        let supervisor = supervisor();
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        supervisor.spawn("flaky", OnFailure::Restart, move || {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match start {
                    0 => anyhow::bail!("failed"),
                    1 => panic!("panicked"),
                    _ => Ok(()),
                }
            }
        });
        supervisor.drain(Duration::from_secs(60)).await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert!(supervisor.failures().borrow().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_failure_of_a_critical_task_is_told_by_name() {
        let supervisor = supervisor();
        supervisor.spawn("vital", OnFailure::StopService, || async { anyhow::bail!("gone") });
        let mut failures = supervisor.failures();
        assert_eq!(failures.wait_for(Option::is_some).await.unwrap().as_deref(), Some("vital"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_at_its_deadline_and_names_who_holds_on() {
        let supervisor = supervisor();
        supervisor.spawn_once("stubborn", std::future::pending());
        supervisor.spawn_once("quick", async { Ok(()) });
        assert_eq!(supervisor.drain(Duration::from_secs(5)).await, Err(vec!["stubborn".to_owned()]));
    }
}
