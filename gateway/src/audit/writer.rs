//! Publishing, and the entries that wait for the bus.

use std::time::Duration;

use pinacle_bus::{
    client::{Bus, BusError, BusErrorKind},
    contract::{EventId, Subject, audit::AuditEntry, event::Event, subject::EventKind},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::lost;

const PAUSE: Duration = Duration::from_millis(500);
/// A stop waits no longer for the bus.
const FAREWELL: Duration = Duration::from_secs(3);

/// Publishes an entry; a second attempt after a lost acknowledgement makes no second message.
///
/// # Errors
/// When the bus does not take it in.
pub async fn publish(bus: &Bus, entry: &AuditEntry) -> Result<(), BusError> {
    let id = entry.audit_id.to_string();
    let target = entry.target_id.as_deref().unwrap_or("nothing");
    let message = format!("{} {} {target}: {}", entry.actor, entry.action, entry.outcome.as_str());
    let event = Event {
        event_id: EventId::new(),
        at: entry.at,
        kind: EventKind::Audit,
        target_id: id.clone(),
        what: entry.action.clone(),
        message,
        // It has a JSON form: only maps with other keys than texts have none.
        detail: serde_json::to_value(entry).unwrap_or_default(),
    };
    let subject = Subject::Event { kind: EventKind::Audit, id: id.clone(), what: entry.action.clone() };
    match bus.publish(&subject, &id, &event).await {
        Err(error) if error.kind() == BusErrorKind::Timeout => bus.publish(&subject, &id, &event).await.map(drop),
        published => published.map(drop),
    }
}

/// Entries that the bus has not taken in yet.
pub struct Waiting(mpsc::Receiver<AuditEntry>);

impl Waiting {
    pub(super) fn new(receiver: mpsc::Receiver<AuditEntry>) -> Self {
        Self(receiver)
    }

    /// Publishes each as soon as the bus takes it, until the service stops.
    pub async fn run(mut self, bus: Bus, shutdown: CancellationToken) {
        loop {
            let entry = tokio::select! {
                biased;
                // cancel-safe: nothing is taken out of the channel.
                entry = self.0.recv() => entry,
                // cancel-safe: only observed.
                () = shutdown.cancelled() => break,
            };
            let Some(entry) = entry else { return };
            let delivery = deliver(&bus, &entry);
            tokio::select! {
                biased;
                // cancel-safe: an entry that is published twice has one id.
                () = delivery => {}
                // cancel-safe: only observed.
                () = shutdown.cancelled() => {
                    farewell(&bus, &entry).await;
                    break;
                }
            }
        }
        while let Ok(entry) = self.0.try_recv() {
            farewell(&bus, &entry).await;
        }
    }
}

async fn farewell(bus: &Bus, entry: &AuditEntry) {
    if !bus.is_connected() || tokio::time::timeout(FAREWELL, deliver(bus, entry)).await.is_err() {
        lost(entry);
    }
}

async fn deliver(bus: &Bus, entry: &AuditEntry) {
    while let Err(error) = publish(bus, entry).await {
        if matches!(error.kind(), BusErrorKind::Malformed | BusErrorKind::TooLarge) {
            return lost(entry);
        }
        warn!(%error, "an entry of the audit log waits for the bus");
        sleep(PAUSE).await;
    }
}
