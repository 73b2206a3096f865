//! What the reconcilers look at: the live records, and what the newest inventory of each host says of pods.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use pinacle_bus::{
    client::{Bus, Change, Entry, Start, Stored},
    contract::{
        HostId, Message, PodId, Subject,
        host::HostRecord,
        inventory::{ContainerEntry, Inventory, NetworkEntry},
        ledger::HostLedger,
        pod::PodRecord,
        topology::{HOSTS, LEDGER, PODS, StreamName},
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const PAUSE: Duration = Duration::from_secs(1);

/// A record, and since when this copy knows it so.
#[derive(Debug, Clone)]
pub struct Seen<T> {
    /// The record and its revision.
    pub entry: Entry<T>,
    /// Since when, by this process's own clock.
    pub since: Instant,
}

/// What an inventory says of pods.
#[derive(Debug, Clone, PartialEq)]
pub struct OnHost {
    /// The kernel's id of the boot.
    pub boot_id: String,
    /// Containers with our label.
    pub containers: Vec<ContainerEntry>,
    /// Networks with our label.
    pub networks: Vec<NetworkEntry>,
    /// Whether Docker answered: if not, nothing follows at all.
    pub docker_is_up: bool,
    /// Whether entries were left out: then nothing follows from one that is missing.
    pub truncated: bool,
}

impl From<Inventory> for OnHost {
    fn from(inventory: Inventory) -> Self {
        let Inventory { facts, mut containers, mut networks, truncated, .. } = inventory;
        containers.retain(|container| container.pod_id.is_some());
        networks.retain(|network| network.pod_id.is_some());
        Self { boot_id: facts.boot_id, containers, networks, docker_is_up: facts.docker_version.is_some(), truncated }
    }
}

#[derive(Default)]
struct Maps {
    pods: BTreeMap<PodId, Arc<Seen<PodRecord>>>,
    hosts: BTreeMap<HostId, Arc<HostRecord>>,
    ledgers: BTreeMap<HostId, Arc<Entry<HostLedger>>>,
    on_hosts: BTreeMap<HostId, Arc<OnHost>>,
    /// How many of the three buckets have been read to their end.
    current: usize,
}

/// Kept up to date by [`View::follow`]. Cheap to clone.
#[derive(Clone)]
pub struct View {
    maps: Arc<RwLock<Maps>>,
    /// Counts what may give a reconciler something to do.
    nudges: Arc<watch::Sender<u64>>,
}

impl Default for View {
    fn default() -> Self {
        Self { maps: Arc::default(), nudges: Arc::new(watch::Sender::new(0)) }
    }
}

impl View {
    /// Told of changes that may give a reconciler something to do.
    pub fn nudges(&self) -> watch::Receiver<u64> {
        self.nudges.subscribe()
    }

    /// Whether all records are known.
    pub fn is_complete(&self) -> bool {
        self.maps.read().current == 3
    }

    /// All pods.
    pub fn pods(&self) -> Vec<Arc<Seen<PodRecord>>> {
        self.maps.read().pods.values().cloned().collect()
    }

    /// A pod.
    pub fn pod(&self, pod: PodId) -> Option<Arc<Seen<PodRecord>>> {
        self.maps.read().pods.get(&pod).cloned()
    }

    /// All hosts.
    pub fn hosts(&self) -> Vec<Arc<HostRecord>> {
        self.maps.read().hosts.values().cloned().collect()
    }

    /// A host.
    pub fn host(&self, host: HostId) -> Option<Arc<HostRecord>> {
        self.maps.read().hosts.get(&host).cloned()
    }

    /// All ledgers.
    pub fn ledgers(&self) -> Vec<Arc<Entry<HostLedger>>> {
        self.maps.read().ledgers.values().cloned().collect()
    }

    /// What a host's newest inventory says of pods.
    pub fn on_host(&self, host: HostId) -> Option<Arc<OnHost>> {
        self.maps.read().on_hosts.get(&host).cloned()
    }

    /// Follows the bus until `shutdown`.
    ///
    /// # Errors
    /// When a bucket cannot be opened.
    pub async fn follow(self, bus: Bus, shutdown: CancellationToken) -> anyhow::Result<()> {
        *self.maps.write() = Maps::default();
        let mut pods = bus.bucket::<PodRecord>(&PODS).await?.watch();
        let mut hosts = bus.bucket::<HostRecord>(&HOSTS).await?.watch();
        let mut ledgers = bus.bucket::<HostLedger>(&LEDGER).await?.watch();
        let mut inventories = bus.read(StreamName::Inventory, Start::LastOfEach, None);
        loop {
            let told = tokio::select! {
                // cancel-safe: the watch says so.
                change = pods.next() => change.map(|change| self.pod_changed(change)),
                // cancel-safe: as above.
                change = hosts.next() => change.map(|change| self.host_changed(change)),
                // cancel-safe: as above.
                change = ledgers.next() => change.map(|change| self.ledger_changed(change)),
                // cancel-safe: the reader says so.
                stored = inventories.next() => stored.map(|stored| self.inventory(&stored)),
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
            };
            if let Err(error) = told {
                debug!(%error, "what the reconcilers look at broke off; going on");
                sleep(PAUSE).await;
            }
        }
    }

    fn nudge(&self) {
        self.nudges.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn pod_changed(&self, change: Change<PodRecord>) {
        match change {
            Change::Put { entry, .. } => {
                let is_idle = super::context::is_idle(&entry.record);
                let seen = Seen { since: Instant::now(), entry };
                self.maps.write().pods.insert(seen.entry.record.pod_id, Arc::new(seen));
                if is_idle {
                    self.nudge();
                }
            }
            Change::Deleted { key, .. } => {
                if let Ok(pod) = key.parse() {
                    self.maps.write().pods.remove(&pod);
                }
            }
            Change::Malformed { key, error, .. } => malformed(PodRecord::NAME, &key, &error),
            Change::Current => self.current(),
        }
    }

    fn host_changed(&self, change: Change<HostRecord>) {
        match change {
            Change::Put { entry: Entry { record, .. }, .. } => {
                let before = self.maps.write().hosts.insert(record.host_id, Arc::new(record.clone()));
                if before.is_none_or(|before| before.state != record.state) {
                    self.nudge();
                }
            }
            Change::Deleted { key, .. } => {
                if let Ok(host) = key.parse() {
                    let mut maps = self.maps.write();
                    maps.hosts.remove(&host);
                    maps.on_hosts.remove(&host);
                }
            }
            Change::Malformed { key, error, .. } => malformed(HostRecord::NAME, &key, &error),
            Change::Current => self.current(),
        }
    }

    fn ledger_changed(&self, change: Change<HostLedger>) {
        match change {
            Change::Put { entry, .. } => {
                self.maps.write().ledgers.insert(entry.record.host_id, Arc::new(entry));
            }
            Change::Deleted { key, .. } => {
                if let Ok(host) = key.parse() {
                    self.maps.write().ledgers.remove(&host);
                }
            }
            Change::Malformed { key, error, .. } => malformed(HostLedger::NAME, &key, &error),
            Change::Current => self.current(),
        }
    }

    /// All that was there when a bucket's watch began is known.
    fn current(&self) {
        self.maps.write().current += 1;
        self.nudge();
    }

    fn inventory(&self, stored: &Stored) {
        let Ok(inventory) = stored.decode::<Inventory>() else { return };
        let host = inventory.host_id;
        if stored.subject.parse() != Ok(Subject::Inventory(host)) {
            return;
        }
        let fresh = Arc::new(OnHost::from(inventory));
        let before = self.maps.write().on_hosts.insert(host, fresh.clone());
        if before.is_none_or(|before| before != fresh) {
            self.nudge();
        }
    }
}

fn malformed(name: &str, key: &str, error: &pinacle_bus::contract::DecodeError) {
    warn!(%error, key, "a {name} cannot be read; the reconcilers leave it alone");
}
