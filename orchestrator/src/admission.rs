//! Admission: a host's first inventory asks for it, every later one brings its facts up to date.

use std::sync::Arc;

use metrics::counter;
use pinacle_bus::{
    client::{Bus, BusErrorKind, Delivered, Entry, Outcome, consume},
    contract::{
        DecodeError, Subject, Timestamp,
        host::{Evidence, HostRecord, HostState, StateCause},
        inventory::Inventory,
        topology::ORCHESTRATOR_INVENTORY,
    },
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    names::Names,
    registry::{Registry, RegistryError},
};

/// How often a record is read again when somebody else keeps writing it.
const MOST_CONFLICTS: usize = 5;

/// Whether a host may join, and under which terms: its record as it begins.
///
/// For now every host with a valid inventory may. Enrolment belongs here, and nowhere else.
fn admit(inventory: &Inventory, names: &Names, now: Timestamp) -> HostRecord {
    HostRecord {
        host_id: inventory.host_id,
        name: names.free_for(inventory.host_id, &inventory.hostname),
        state: HostState::Unknown,
        cause: StateCause::Admitted,
        state_since: now,
        evidence: Evidence::default(),
        admitted_at: now,
        cordoned: false,
        labels: [].into(),
        allowed_owners: [].into(),
        pinned_host_keys: offered_keys(inventory),
        facts: inventory.facts.clone(),
        owner: None,
        notes: String::new(),
        maintenance: Vec::new(),
        disabled: false,
    }
}

fn offered_keys(inventory: &Inventory) -> Vec<String> {
    inventory.facts.ssh.as_ref().map(|ssh| ssh.host_keys.clone()).unwrap_or_default()
}

/// Takes in inventories.
#[derive(Clone)]
pub struct Admission {
    registry: Registry,
    names: Names,
}

impl Admission {
    /// Writes to `registry`; `names` are those taken already.
    pub fn new(registry: Registry, names: Names) -> Self {
        Self { registry, names }
    }

    /// Consumes inventories until `shutdown`.
    pub async fn run(self, bus: &Bus, most_at_once: usize, shutdown: CancellationToken) {
        let admission = Arc::new(self);
        consume(bus, &ORCHESTRATOR_INVENTORY, most_at_once, shutdown, move |delivered| {
            let admission = admission.clone();
            async move { admission.handle(&delivered).await }
        })
        .await;
    }

    async fn handle(&self, delivered: &Delivered) -> Outcome {
        let inventory: Inventory = match delivered.decode() {
            Ok(inventory) => inventory,
            Err(error) => return Outcome::Reject { reason: told(&error) },
        };
        if delivered.subject.parse() != Ok(Subject::Inventory(inventory.host_id)) {
            let reason = format!("the inventory is of {}, but its subject is {}", inventory.host_id, delivered.subject);
            return Outcome::Reject { reason };
        }
        match self.take(&inventory).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                match &error {
                    // That NATS is away is not the message's fault.
                    RegistryError::Bus(bus) if bus.kind() != BusErrorKind::TooLarge => {
                        tracing::debug!("cannot take an inventory in now: {error}: {cause}");
                        Outcome::Later(std::time::Duration::from_secs(1))
                    }
                    _ => Outcome::Retry { reason: format!("{error}: {cause}") },
                }
            }
        }
    }

    async fn take(&self, inventory: &Inventory) -> Result<(), RegistryError> {
        let key = inventory.host_id.to_string();
        for _ in 0..MOST_CONFLICTS {
            let written = match self.registry.records().get(&key).await? {
                None => self.begin(inventory).await,
                Some(Entry { record, .. }) if record.facts == inventory.facts => return self.look_after(record).await,
                Some(Entry { revision, record, .. }) => {
                    let mut record = HostRecord { facts: inventory.facts.clone(), ..record };
                    // Keys are pinned once. Later ones are for a person to confirm: the agent may not be itself any more.
                    if record.pinned_host_keys.is_empty() {
                        record.pinned_host_keys = offered_keys(inventory);
                    }
                    self.registry.records().update(&key, &record, revision).await.map(drop).map_err(Into::into)
                }
            };
            match written {
                Err(RegistryError::Bus(error)) if error.kind() == BusErrorKind::Conflict => {
                    counter!("pinacle_orchestrator_conflicts_total").increment(1);
                }
                written => return written,
            }
        }
        // Whoever writes it that often will be done in a moment, and the next inventory comes in a minute.
        Err(RegistryError::Contended(inventory.host_id))
    }

    async fn begin(&self, inventory: &Inventory) -> Result<(), RegistryError> {
        let record = admit(inventory, &self.names, Timestamp::now());
        self.registry.records().create(&record.host_id.to_string(), &record).await?;
        self.names.put(record.host_id, &record.name, record.admitted_at);
        info!(host = %record.host_id, name = record.name, "admitted a host");
        counter!("pinacle_orchestrator_admitted_total").increment(1);
        self.registry.announce(&record, HostState::Unknown).await.map(drop)
    }

    /// A copy may have died between a host's record and the event that it was admitted; its message comes again.
    async fn look_after(&self, record: HostRecord) -> Result<(), RegistryError> {
        if record.cause == StateCause::Admitted { self.registry.ensure_announced(&record).await } else { Ok(()) }
    }
}

fn told(error: &DecodeError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
