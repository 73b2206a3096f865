//! The live side: state and events straight from the bus, in memory, and the WebSockets that show them.

pub mod board;
mod catch_up;
pub mod events;
pub mod feed;
pub mod fleet;
mod flow;
pub mod operations;
pub mod position;
pub mod protocol;
mod session;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pinacle_bus::client::Bus;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use session::run;

use crate::{audit::Audit, settings::Gateway};

/// Clients that read the stream of events at once; the rest wait their turn.
const MOST_CATCH_UPS: usize = 256;
/// Logs and commands' results that are followed at once.
const MOST_FLOWS: usize = 256;

/// What all WebSockets share.
pub struct Live {
    /// Hosts and pods as they are now.
    pub fleet: fleet::Fleet,
    /// Recent operations.
    pub operations: operations::Operations,
    /// Recent events.
    pub events: events::EventLog,
    /// Places among the events, as clients know them.
    pub positions: position::Positions,
    /// Whether the live state has arrived.
    pub primed: feed::Primed,
    /// For who is behind the recent events.
    pub bus: Bus,
    /// The settings.
    pub settings: Gateway,
    /// Cancelled when all are to go.
    pub shutdown: CancellationToken,
    /// The audit log.
    pub audit: Audit,
    /// The WebSockets that are open, so that a stop can wait for their farewells.
    pub sessions: TaskTracker,
    catch_ups: Semaphore,
    flows: Arc<Semaphore>,
    clients: AtomicUsize,
}

/// One client's place among all. Dropping it gives the place back.
pub struct Place(Arc<Live>);

impl Live {
    /// Nothing is known yet.
    pub fn new(bus: Bus, settings: Gateway, token: &str, audit: Audit, shutdown: CancellationToken) -> Self {
        Self {
            fleet: fleet::Fleet::default(),
            operations: operations::Operations::default(),
            events: events::EventLog::new(settings.live_recent_events),
            positions: position::Positions::new(token),
            primed: feed::Primed::default(),
            bus,
            settings,
            shutdown,
            audit,
            sessions: TaskTracker::new(),
            catch_ups: Semaphore::new(MOST_CATCH_UPS),
            flows: Arc::new(Semaphore::new(MOST_FLOWS)),
            clients: AtomicUsize::new(0),
        }
    }

    /// A place for one more log or pod's commands to follow; `None` when there are as many as may be.
    fn flow_place(&self) -> Option<OwnedSemaphorePermit> {
        self.flows.clone().try_acquire_owned().ok()
    }

    /// A place for one more client; `None` when there are as many as may be.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        let most = self.settings.live_max_clients;
        let taken = |clients| (clients < most).then_some(clients + 1);
        self.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        metrics::gauge!("pinacle_gateway_live_clients").increment(1.0);
        Some(Place(self.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("pinacle_gateway_live_clients").decrement(1.0);
    }
}
