//! Whether Postgres can be written to, as the last attempt found it. One gate for the whole service: who finds the
//! database away closes it, everyone else waits at it instead of trying on their own, and one probe opens it again.

use std::{error::Error, sync::Arc, time::Duration};

use parking_lot::Mutex;
use pinacle_bus::service::Condition;
use pinacle_store::{Database, StoreError, StoreErrorKind};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::throttle::Throttle;

/// How often the probe asks while Postgres is there.
const PROBE: Duration = Duration::from_secs(5);
/// How often it asks while Postgres is away, since the return is waited for.
const PROBE_AWAY: Duration = Duration::from_millis(250);
/// Postgres may answer and yet take nothing: not migrated, its disk full. Then the pause before the next attempt doubles
/// up to this.
const LONGEST_HOLD: Duration = Duration::from_secs(5);
/// An attempt that fails within this after the gate was opened shows such a state.
const RELAPSE: Duration = Duration::from_secs(10);

/// The gate. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    open: watch::Sender<bool>,
    condition: Condition,
    state: Arc<Mutex<State>>,
    told: Arc<Throttle>,
}

struct State {
    opened_at: Option<Instant>,
    hold: Duration,
}

impl Gate {
    /// Closed until the probe has found Postgres.
    pub fn new(condition: Condition) -> Self {
        let state = State { opened_at: None, hold: PROBE_AWAY };
        Self { open: watch::Sender::new(false), condition, state: Arc::new(Mutex::new(state)), told: Arc::default() }
    }

    /// Whether the database is away, as far as anybody knows.
    pub fn is_closed(&self) -> bool {
        !*self.open.borrow()
    }

    /// Waits until the database is there. Cancel-safe.
    pub async fn opened(&self) {
        // The sender lives in self, so this ends only when the gate is open.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Notes what a query ended with. Returns whether the database is away, so that the same call should be made again
    /// once the gate is open.
    pub fn note(&self, error: &StoreError) -> bool {
        let away = matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::Schema);
        if away {
            self.close(error);
        }
        away
    }

    fn close(&self, error: &StoreError) {
        let reason = chain(error);
        if self.open.send_replace(false) {
            let mut state = self.state.lock();
            let relapsed = state.opened_at.is_some_and(|at| at.elapsed() < RELAPSE);
            state.hold = if relapsed { (state.hold * 2).min(LONGEST_HOLD) } else { PROBE_AWAY };
            if let Some(held_back) = self.told.tell() {
                warn!(
                    reason,
                    held_back, "cannot write to Postgres; waiting for it, the bus keeps everything meanwhile"
                );
            }
        }
        metrics::gauge!("pinacle_ingest_database_up").set(0.0);
        self.condition.unmet(reason);
    }

    fn reopen(&self) {
        if !self.open.send_replace(true) {
            self.state.lock().opened_at = Some(Instant::now());
            info!("Postgres answers");
        }
        metrics::gauge!("pinacle_ingest_database_up").set(1.0);
        self.condition.met();
    }

    /// Asks Postgres now and then, until `shutdown`. It opens the gate; a fault closes it, so that readiness tells also
    /// when there is nothing to write.
    pub async fn probe(self, database: Database, shutdown: CancellationToken) {
        loop {
            match database.ping().await {
                Ok(()) => self.reopen(),
                Err(error) => self.close(&error),
            }
            let pause = async {
                if self.is_closed() {
                    sleep(PROBE_AWAY).await;
                } else if timeout(PROBE, self.closed()).await.is_ok() {
                    let hold = self.state.lock().hold;
                    sleep(hold).await;
                }
            };
            tokio::select! {
                // cancel-safe: timers, and a wait for a level.
                () = pause => {}
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn closed(&self) {
        // The sender lives in self, so this ends only when the gate is closed.
        let _ = self.open.subscribe().wait_for(|open| !*open).await;
    }
}

/// An error with its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
