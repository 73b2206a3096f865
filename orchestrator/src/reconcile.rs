//! Reconcilers: desired and actual are compared on a clock, so that no lost message and no crashed step stays lost.
//!
//! Each one is a file: it takes no input, runs on a timer and on a nudge, by one copy of the orchestrator at a time, and
//! writes what it found and did into the bucket `status`. It never touches a pod whose operation is under way, and acts
//! by compare-and-set on the record that it judged: whoever was faster wins, and the next run looks again.

pub mod containers;
pub mod context;
pub mod hosts_away;
pub mod ledgers;
pub mod orphans;
mod runner;
pub mod ssh_keys;
pub mod stuck;
pub mod waiting;

use std::time::Duration;

use pinacle_bus::{
    client::BusError,
    contract::{
        HostId, PodId, Timestamp,
        reconciler::Finding,
        topology::{LEDGER, STATUS},
    },
    service::Supervisor,
};

use crate::operation::context::Engine;
use context::Context;

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// How many things it looked at.
    pub examined: u64,
    /// How many it set right.
    pub repaired: u64,
    /// What is not as it should be; `since` is kept from the run before if it is the same.
    pub findings: Vec<Finding>,
    /// When the next run is due although nobody nudges; `None` = on the timer.
    pub again_in: Option<Duration>,
}

impl Report {
    /// Something that is not as it should be.
    pub fn find(&mut self, kind: &str, target: impl ToString, what: impl Into<String>) {
        let (kind, target_id, what) = (kind.into(), target.to_string(), what.into());
        self.findings.push(Finding { kind, target_id, what, since: Timestamp::now() });
    }

    fn find_pod(&mut self, pod: PodId, what: impl Into<String>) {
        self.find("pod", pod, what);
    }

    fn find_host(&mut self, host: HostId, what: impl Into<String>) {
        self.find("host", host, what);
    }

    /// Wants to run again after this, or earlier.
    fn again_in(&mut self, wait: Duration) {
        self.again_in = Some(self.again_in.map_or(wait, |before| before.min(wait)));
    }
}

/// One thing that is compared and set right.
pub trait Reconciler: Default + Send + 'static {
    /// As in the bucket `status`, and in its lease.
    const NAME: &'static str;

    /// Compares, and sets right what can be. Takes no input; may be ended at any instant, and runs again.
    fn run(&mut self, context: &Context) -> impl Future<Output = Result<Report, ReconcileError>> + Send;
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The bus.
    #[error("the bus did not do it: {0}")]
    Bus(#[from] BusError),
    /// It took too long.
    #[error("it took longer than {} s", .0.as_secs())]
    TooLong(Duration),
    /// An event cannot be written.
    #[error("an event has no JSON form: {0}")]
    Event(#[from] serde_json::Error),
    /// It panicked.
    #[error("it panicked")]
    Panicked,
}

/// Starts every reconciler as a task of `supervisor`.
///
/// # Errors
/// When the buckets are not there.
pub async fn start(supervisor: &Supervisor, engine: &Engine) -> Result<(), BusError> {
    let context = Context {
        bus: engine.bus.clone(),
        view: engine.view.clone(),
        pods: engine.pods.clone(),
        ledgers: engine.bus.bucket(&LEDGER).await?,
        leases: engine.leases.clone(),
        statuses: engine.bus.bucket(&STATUS).await?,
        keys: engine.keys.clone(),
        connections: engine.connections.clone(),
        settings: engine.settings.clone(),
        holder: engine.holder.clone(),
        shutdown: engine.shutdown.clone(),
    };
    runner::spawn::<containers::Containers>(supervisor, &context);
    runner::spawn::<hosts_away::HostsAway>(supervisor, &context);
    runner::spawn::<orphans::Orphans>(supervisor, &context);
    runner::spawn::<ledgers::Ledgers>(supervisor, &context);
    runner::spawn::<ssh_keys::SshKeys>(supervisor, &context);
    runner::spawn::<stuck::Stuck>(supervisor, &context);
    runner::spawn::<waiting::Waiting>(supervisor, &context);
    Ok(())
}
