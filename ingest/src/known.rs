//! Which hosts there are, and where each pod runs: the buckets `hosts` and `pods`, kept in memory by watching them.
//!
//! The cache may be a moment behind. So nothing is refused on its word alone: [`Known::confirm_host`] and
//! [`Known::confirm_pod`] ask the bucket itself first.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use pinacle_bus::{
    client::{Bucket, Bus, BusError, BusErrorKind, Change},
    contract::{HostId, Message, PodId, host::HostRecord, pod::PodRecord, topology},
    service::Condition,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::throttle::Throttle;

/// Pause before a watch that broke off is taken up again.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for the bucket's own word.
const CONFIRM: Duration = Duration::from_secs(5);

/// The cache. Cheap to clone.
#[derive(Clone)]
pub struct Known {
    inner: Arc<Inner>,
}

struct Inner {
    hosts: Bucket<HostRecord>,
    pods: Bucket<PodRecord>,
    facts: RwLock<Facts>,
    /// How many of the two buckets have been told whole.
    primed: watch::Sender<u8>,
}

/// What the buckets say.
#[derive(Debug, Default)]
pub struct Facts {
    hosts: HashSet<HostId>,
    /// Pods that are placed.
    placed: HashMap<PodId, HostId>,
}

impl Facts {
    /// Whether the host was admitted.
    pub fn has_host(&self, host: HostId) -> bool {
        self.hosts.contains(&host)
    }

    /// Whether the pod is known to run on another host.
    pub fn runs_elsewhere(&self, pod: PodId, host: HostId) -> bool {
        self.placed.get(&pod).is_some_and(|placed| *placed != host)
    }

    #[cfg(test)]
    pub(crate) fn of(hosts: &[HostId], placed: &[(PodId, HostId)]) -> Self {
        Self { hosts: hosts.iter().copied().collect(), placed: placed.iter().copied().collect() }
    }

    fn host_changed(&mut self, host: HostId, there: bool) {
        if there {
            self.hosts.insert(host);
        } else {
            self.hosts.remove(&host);
        }
    }

    fn pod_changed(&mut self, pod: PodId, placed: Option<HostId>) {
        match placed {
            Some(host) => self.placed.insert(pod, host),
            None => self.placed.remove(&pod),
        };
    }
}

impl Known {
    /// Opens the buckets; the cache stays empty until the watches run.
    ///
    /// # Errors
    /// When a bucket is missing or the server does not answer.
    pub async fn open(bus: &Bus) -> Result<Self, BusError> {
        let hosts = bus.bucket(&topology::HOSTS).await?;
        let pods = bus.bucket(&topology::PODS).await?;
        Ok(Self { inner: Arc::new(Inner { hosts, pods, facts: RwLock::default(), primed: watch::Sender::new(0) }) })
    }

    /// Waits until both buckets have been told whole. Cancel-safe.
    pub async fn primed(&self) {
        // The sender lives in self, so this ends only when it is so.
        let _ = self.inner.primed.subscribe().wait_for(|primed| *primed >= 2).await;
    }

    /// Runs `decide` on what is known now.
    pub fn with<T>(&self, decide: impl FnOnce(&Facts) -> T) -> T {
        decide(&self.inner.facts.read())
    }

    /// Asks the bucket whether the host was admitted, and remembers the answer if it was.
    ///
    /// # Errors
    /// When the bus gives no answer.
    pub async fn confirm_host(&self, host: HostId) -> Result<bool, NoAnswer> {
        let there = !matches!(read(&self.inner.hosts, &host.to_string()).await?, Found::Nothing);
        if there {
            self.inner.facts.write().host_changed(host, true);
        }
        Ok(there)
    }

    /// Asks the bucket where the pod runs; `None` = nobody knows.
    ///
    /// # Errors
    /// When the bus gives no answer.
    pub async fn confirm_pod(&self, pod: PodId) -> Result<Option<HostId>, NoAnswer> {
        match read(&self.inner.pods, &pod.to_string()).await? {
            Found::Record(record) => Ok(record.host_id),
            Found::Nothing | Found::Unreadable => Ok(None),
        }
    }

    /// Follows the bucket `hosts` until `shutdown`.
    pub async fn follow_hosts(self, primed: Condition, shutdown: CancellationToken) {
        let bucket = self.inner.hosts.clone();
        let met = || self.note_primed(&primed);
        follow(&bucket, "hosts", met, shutdown, |host, record| {
            self.inner.facts.write().host_changed(host, !matches!(record, Record::Gone));
        })
        .await;
    }

    /// Follows the bucket `pods` until `shutdown`.
    pub async fn follow_pods(self, primed: Condition, shutdown: CancellationToken) {
        let bucket = self.inner.pods.clone();
        let met = || self.note_primed(&primed);
        follow(&bucket, "pods", met, shutdown, |pod, record: Record<'_, PodRecord>| match record {
            Record::Here(record) => self.inner.facts.write().pod_changed(pod, record.host_id),
            // What cannot be read says nothing about where the pod runs, so nothing is refused for it.
            Record::Unreadable | Record::Gone => self.inner.facts.write().pod_changed(pod, None),
        })
        .await;
    }

    fn note_primed(&self, condition: &Condition) {
        condition.met();
        self.inner.primed.send_modify(|primed| *primed += 1);
    }
}

/// The bus gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

enum Found<T> {
    Record(T),
    Unreadable,
    Nothing,
}

async fn read<T: Message>(bucket: &Bucket<T>, key: &str) -> Result<Found<T>, NoAnswer> {
    match tokio::time::timeout(CONFIRM, bucket.get(key)).await {
        Ok(Ok(Some(entry))) => Ok(Found::Record(entry.record)),
        Ok(Ok(None)) => Ok(Found::Nothing),
        Ok(Err(error)) if error.kind() == BusErrorKind::Malformed => Ok(Found::Unreadable),
        Ok(Err(error)) => {
            debug!(%error, key, "cannot read a record");
            Err(NoAnswer)
        }
        Err(_) => Err(NoAnswer),
    }
}

enum Record<'a, T> {
    Here(&'a T),
    Unreadable,
    Gone,
}

async fn follow<K: FromStr, T: Message>(
    bucket: &Bucket<T>,
    name: &'static str,
    primed: impl Fn(),
    shutdown: CancellationToken,
    mut changed: impl FnMut(K, Record<'_, T>),
) {
    let throttle = Throttle::default();
    let mut watch = bucket.watch();
    let mut note = |key: &str, record: Record<'_, T>| match key.parse() {
        Ok(key) => changed(key, record),
        Err(_) => warn!(bucket = name, key, "a record has a key that is no id; leaving it aside"),
    };
    loop {
        let change = tokio::select! {
            // cancel-safe: see Watch::next.
            change = watch.next() => change,
            // cancel-safe: only observed.
            () = shutdown.cancelled() => return,
        };
        match change {
            Ok(Change::Put { key, entry }) => note(&key, Record::Here(&entry.record)),
            Ok(Change::Deleted { key, .. }) => note(&key, Record::Gone),
            Ok(Change::Malformed { key, error, .. }) => {
                warn!(bucket = name, key, %error, "a record cannot be read");
                note(&key, Record::Unreadable);
            }
            Ok(Change::Current) => primed(),
            Err(error) => {
                if let Some(held_back) = throttle.tell() {
                    warn!(bucket = name, %error, held_back, "the watch of a bucket broke off; taking it up again");
                }
                tokio::select! {
                    // cancel-safe: a timer.
                    () = tokio::time::sleep(PAUSE) => {}
                    // cancel-safe: only observed.
                    () = shutdown.cancelled() => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_a_place_runs_nowhere_else() {
        let (here, there, pod) = (HostId::new(), HostId::new(), PodId::new());
        let mut facts = Facts::of(&[here], &[]);
        assert!(!facts.runs_elsewhere(pod, here));
        facts.pod_changed(pod, Some(there));
        assert!(facts.runs_elsewhere(pod, here) && !facts.runs_elsewhere(pod, there));
        facts.pod_changed(pod, None);
        assert!(!facts.runs_elsewhere(pod, here));
    }

    #[test]
    fn a_removed_host_is_unknown_again() {
        let host = HostId::new();
        let mut facts = Facts::default();
        facts.host_changed(host, true);
        assert!(facts.has_host(host));
        facts.host_changed(host, false);
        assert!(!facts.has_host(host));
    }
}
