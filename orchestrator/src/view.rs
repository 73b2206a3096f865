//! What this copy knows: the live records, and what the newest inventory of each host says that concerns pods. It may lag
//! behind for a moment; whatever is decided by it is written by compare-and-set.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use pinacle_bus::{
    client::{Bus, Change, Entry, Incoming, Start, Stored},
    contract::{
        HostId, Message, PodId, Subject,
        host::HostRecord,
        inventory::{ContainerEntry, Inventory, NetworkEntry},
        ledger::{HostLedger, PORTS},
        pod::PodRecord,
        subject::filter,
        topology::{HOSTS, LEDGER, PODS, StreamName},
    },
};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    placement::{Candidate, Demand, Refusal, Rules, choose},
    record::is_idle,
};

/// How busy a host is says nothing any more after so long.
const LOAD_IS_NEWS: Duration = Duration::from_secs(30);
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
    /// Ports for pods that something listens on.
    pub ports: BTreeSet<u16>,
    /// The `n` of each network `10.249.n.0/24` that is there, and whose it is by its label.
    pub subnets: Vec<(u8, Option<PodId>)>,
    /// Whether Docker answered: if not, nothing follows at all.
    pub docker_is_up: bool,
    /// Whether entries were left out: then nothing follows from one that is missing.
    pub truncated: bool,
}

impl From<Inventory> for OnHost {
    fn from(inventory: Inventory) -> Self {
        let Inventory { facts, mut containers, mut networks, ports, truncated, .. } = inventory;
        let subnets = networks.iter().flat_map(|network| {
            let numbers = network.subnets.iter().filter_map(|subnet| number_of(subnet));
            numbers.map(|number| (number, network.pod_id))
        });
        let subnets = subnets.collect();
        containers.retain(|container| container.pod_id.is_some());
        networks.retain(|network| network.pod_id.is_some());
        Self {
            boot_id: facts.boot_id,
            containers,
            networks,
            ports: ports.iter().map(|entry| entry.port).filter(|port| PORTS.contains(port)).collect(),
            subnets,
            docker_is_up: facts.docker_version.is_some(),
            truncated,
        }
    }
}

/// The `n` of `10.249.n.0/24`.
fn number_of(subnet: &str) -> Option<u8> {
    subnet.strip_prefix("10.249.")?.split('.').next()?.parse().ok()
}

/// A ledger, and what is taken of its host in all.
#[derive(Debug, Clone, PartialEq)]
pub struct Booked {
    /// The ledger and its revision.
    pub entry: Entry<HostLedger>,
    /// In all.
    pub taken: Taken,
}

/// What is taken of a host in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// By how many pods.
    pub pods: usize,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Disk.
    pub disk_bytes: u64,
}

impl From<&HostLedger> for Taken {
    fn from(ledger: &HostLedger) -> Self {
        ledger.reservations.values().fold(Self::default(), |sum, reservation| Self {
            pods: sum.pods + 1,
            cpu_millis: sum.cpu_millis.saturating_add(reservation.cpu_millis.into()),
            memory_bytes: sum.memory_bytes.saturating_add(reservation.memory_bytes),
            disk_bytes: sum.disk_bytes.saturating_add(reservation.disk_bytes),
        })
    }
}

/// How busy a host was in its newest sample.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// 1 = all of its cores, or all of its memory, whichever is more.
    share: f64,
    since: Instant,
}

/// The little of a sample that placement needs; the rest is skipped.
#[derive(Deserialize)]
struct LightSample {
    host_id: HostId,
    host: LightFigures,
}

#[derive(Deserialize)]
struct LightFigures {
    cpu_percent: f64,
    memory_total_bytes: u64,
    memory_used_bytes: u64,
}

/// A host, with what placement asks of it: one look at all hosts is one walk through memory.
struct Known {
    record: Arc<HostRecord>,
    taken: Taken,
    load: Option<Load>,
}

#[derive(Default)]
struct Maps {
    pods: BTreeMap<PodId, Arc<Seen<PodRecord>>>,
    hosts: BTreeMap<HostId, Known>,
    ledgers: BTreeMap<HostId, Arc<Booked>>,
    /// Where each pod has something reserved, by the ledgers.
    reserved: BTreeMap<PodId, BTreeSet<HostId>>,
    /// The newest revision of any ledger.
    ledger_revision: u64,
    on_hosts: BTreeMap<HostId, Arc<OnHost>>,
    /// Pods with an operation under way, or with requests that wait.
    busy: BTreeSet<PodId>,
    /// How many of the three buckets have been read to their end.
    current: usize,
}

impl Maps {
    /// A host's ledger as it is now; `None` = it has none.
    fn book(&mut self, host: HostId, booked: Option<Booked>) {
        let taken = booked.as_ref().map(|booked| booked.taken).unwrap_or_default();
        if let Some(known) = self.hosts.get_mut(&host) {
            known.taken = taken;
        }
        let pods = |booked: &Booked| booked.entry.record.reservations.keys().copied().collect::<Vec<_>>();
        let after = booked.as_ref().map(pods).unwrap_or_default();
        let before = match booked {
            Some(booked) => self.ledgers.insert(host, Arc::new(booked)),
            None => self.ledgers.remove(&host),
        };
        for pod in before.as_deref().map(pods).unwrap_or_default() {
            if let Some(hosts) = self.reserved.get_mut(&pod) {
                hosts.remove(&host);
                if hosts.is_empty() {
                    self.reserved.remove(&pod);
                }
            }
        }
        for pod in after {
            self.reserved.entry(pod).or_default().insert(host);
        }
    }
}

/// Kept up to date by [`View::follow`]. Cheap to clone.
#[derive(Clone)]
pub struct View {
    maps: Arc<RwLock<Maps>>,
    /// Counts what may give a reconciler something to do.
    nudges: Arc<watch::Sender<u64>>,
    /// Counts changes of pods.
    pod_changes: Arc<watch::Sender<u64>>,
    /// Counts what may make room for a pod.
    room_changes: Arc<watch::Sender<u64>>,
}

impl Default for View {
    fn default() -> Self {
        let counter = || Arc::new(watch::Sender::new(0));
        Self { maps: Arc::default(), nudges: counter(), pod_changes: counter(), room_changes: counter() }
    }
}

impl View {
    /// Told of changes that may give a reconciler something to do.
    pub fn nudges(&self) -> watch::Receiver<u64> {
        self.nudges.subscribe()
    }

    /// Told of every change of a pod.
    pub fn pod_changes(&self) -> watch::Receiver<u64> {
        self.pod_changes.subscribe()
    }

    /// Told of changes that may make room for a pod.
    pub fn room_changes(&self) -> watch::Receiver<u64> {
        self.room_changes.subscribe()
    }

    /// Pods with an operation under way, or with requests that wait.
    pub fn busy(&self) -> Vec<PodId> {
        self.maps.read().busy.iter().copied().collect()
    }

    /// The newest revision of any ledger that is known.
    pub fn ledger_revision(&self) -> u64 {
        self.maps.read().ledger_revision
    }

    /// Where a pod has something reserved.
    pub fn reserved_on(&self, pod: PodId) -> Option<HostId> {
        self.maps.read().reserved.get(&pod)?.first().copied()
    }

    /// Which host a pod is best placed on; without one, why none takes it.
    ///
    /// # Errors
    /// Why each host does not take it.
    pub fn choose(
        &self,
        demand: &Demand<'_>,
        rules: &Rules,
        passed_over: &BTreeSet<HostId>,
    ) -> Result<HostId, Vec<Refusal>> {
        let maps = self.maps.read();
        let now = Instant::now();
        let candidates = maps.hosts.values().map(|known| {
            let load = known.load.filter(|load| now.duration_since(load.since) < LOAD_IS_NEWS);
            Candidate { host: &known.record, taken: known.taken, load: load.map(|load| load.share) }
        });
        choose(demand, candidates, rules, passed_over)
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
        self.maps.read().hosts.values().map(|known| known.record.clone()).collect()
    }

    /// A host.
    pub fn host(&self, host: HostId) -> Option<Arc<HostRecord>> {
        self.maps.read().hosts.get(&host).map(|known| known.record.clone())
    }

    /// All ledgers.
    pub fn ledgers(&self) -> Vec<Arc<Booked>> {
        self.maps.read().ledgers.values().cloned().collect()
    }

    /// The ledger of a host, if it has one.
    pub fn ledger(&self, host: HostId) -> Option<Arc<Booked>> {
        self.maps.read().ledgers.get(&host).cloned()
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
        let mut samples = bus.subscribe(filter::metrics()).await?;
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
                // cancel-safe: the subscription says so.
                sample = samples.next() => {
                    let Some(sample) = sample else { return Ok(()) };
                    self.sampled(&sample);
                    Ok(())
                }
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
            };
            if let Err(error) = told {
                debug!(%error, "following the live records broke off; going on");
                sleep(PAUSE).await;
            }
        }
    }

    fn nudge(&self) {
        count(&self.nudges);
    }

    fn sampled(&self, sample: &Incoming) {
        // An agent may send anything: what is no sample of its own host says nothing.
        let Ok(light) = serde_json::from_slice::<LightSample>(&sample.payload) else { return };
        if sample.subject.parse() != Ok(Subject::Metrics(light.host_id)) {
            return;
        }
        let mut maps = self.maps.write();
        let Some(known) = maps.hosts.get_mut(&light.host_id) else { return };
        let cpu = light.host.cpu_percent / 100.0 / f64::from(known.record.facts.cpu_count.max(1));
        #[expect(clippy::cast_precision_loss, reason = "a share needs few digits")]
        let memory = light.host.memory_used_bytes as f64 / light.host.memory_total_bytes.max(1) as f64;
        known.load = Some(Load { share: cpu.max(memory).clamp(0.0, 1.0), since: Instant::now() });
    }

    fn pod_changed(&self, change: Change<PodRecord>) {
        match change {
            Change::Put { entry, .. } => {
                let is_idle = is_idle(&entry.record);
                let (pod, seen) = (entry.record.pod_id, Seen { since: Instant::now(), entry });
                let mut maps = self.maps.write();
                maps.pods.insert(pod, Arc::new(seen));
                if is_idle {
                    maps.busy.remove(&pod);
                } else {
                    maps.busy.insert(pod);
                }
                drop(maps);
                count(&self.pod_changes);
                if is_idle {
                    self.nudge();
                }
            }
            Change::Deleted { key, .. } => {
                if let Ok(pod) = key.parse() {
                    let mut maps = self.maps.write();
                    maps.pods.remove(&pod);
                    maps.busy.remove(&pod);
                }
            }
            Change::Malformed { key, error, .. } => malformed(PodRecord::NAME, &key, &error),
            Change::Current => self.current(),
        }
    }

    fn host_changed(&self, change: Change<HostRecord>) {
        match change {
            Change::Put { entry: Entry { record, .. }, .. } => {
                let mut maps = self.maps.write();
                let taken = maps.ledgers.get(&record.host_id).map(|booked| booked.taken).unwrap_or_default();
                let load = maps.hosts.get(&record.host_id).and_then(|known| known.load);
                let fresh = Known { record: Arc::new(record.clone()), taken, load };
                let before = maps.hosts.insert(record.host_id, fresh).map(|known| known.record);
                drop(maps);
                if before.as_ref().is_none_or(|before| before.state != record.state) {
                    self.nudge();
                }
                if before.is_none_or(|before| offer(&before) != offer(&record)) {
                    count(&self.room_changes);
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
        let mut maps = self.maps.write();
        match change {
            Change::Put { entry, .. } => {
                maps.ledger_revision = entry.revision;
                let booked = Booked { taken: Taken::from(&entry.record), entry };
                maps.book(booked.entry.record.host_id, Some(booked));
            }
            Change::Deleted { key, revision } => {
                maps.ledger_revision = revision;
                if let Ok(host) = key.parse() {
                    maps.book(host, None);
                }
            }
            Change::Malformed { key, revision, error } => {
                maps.ledger_revision = revision;
                malformed(HostLedger::NAME, &key, &error);
            }
            Change::Current => {
                drop(maps);
                return self.current();
            }
        }
        drop(maps);
        count(&self.room_changes);
    }

    /// All that was there when a bucket's watch began is known.
    fn current(&self) {
        self.maps.write().current += 1;
        self.nudge();
        count(&self.pod_changes);
        count(&self.room_changes);
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

fn count(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count = count.wrapping_add(1));
}

/// What of a host's record decides whether it takes pods.
fn offer(host: &HostRecord) -> impl PartialEq + use<> {
    let HostRecord { state, cordoned, labels, allowed_owners, pinned_host_keys, facts, .. } = host.clone();
    (state, cordoned, labels, allowed_owners, pinned_host_keys, facts, host.disabled, host.maintenance.clone())
}

fn malformed(name: &str, key: &str, error: &pinacle_bus::contract::DecodeError) {
    warn!(%error, key, "a {name} cannot be read; it is left alone");
}

#[cfg(test)]
mod tests;
