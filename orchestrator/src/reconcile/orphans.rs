//! What carries our label and belongs to no live record: told once, and removed after a grace period. Volumes are listed
//! over SSH, as inventories do not have them: where something else is wrong, and now and then everywhere.

mod remove;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pinacle_bus::contract::{
    HostId, PodId, Timestamp,
    event::Orphan,
    host::HostRecord,
    pod::{PodPhase, PodRecord},
};

use super::{
    ReconcileError, Reconciler, Report,
    context::{Context, is_idle, is_there},
};
use crate::{tell, view::OnHost};

/// Volumes of every host are listed in one run of so many.
const VOLUMES_EVERY: u64 = 10;

/// Something on a host that belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Stray {
    kind: Kind,
    /// What Docker removes it by: an id where there is one, so that what was made anew under its name is never meant.
    handle: String,
    name: String,
    pod_id: Option<PodId>,
}

/// In the order in which they can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Container,
    Network,
    Volume,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Orphans {
    /// When each was first seen. Another copy that goes on counts anew: it removes later, never earlier.
    found: BTreeMap<(HostId, Stray), Timestamp>,
    /// What was removed, and an inventory from before may still list.
    gone: BTreeSet<(HostId, Stray)>,
    runs: u64,
}

impl Reconciler for Orphans {
    const NAME: &'static str = "orphans";

    async fn run(&mut self, context: &Context) -> Result<Report, ReconcileError> {
        let mut report = Report::default();
        let lists_volumes = self.runs.is_multiple_of(VOLUMES_EVERY);
        self.runs += 1;
        for host in context.view.hosts() {
            let Some(on_host) = context.view.on_host(host.host_id).filter(|_| is_there(&host)) else { continue };
            let mut strays = self.not_gone(host.host_id, strays(context, host.host_id, &on_host));
            report.examined += (on_host.containers.len() + on_host.networks.len()) as u64;
            let knows_some = self.found.keys().any(|(id, _)| *id == host.host_id);
            if lists_volumes || knows_some || !strays.is_empty() {
                match remove::volumes(context, &host).await {
                    Ok(volumes) => strays.extend(volumes.into_iter().filter(|it| is_stray(context, host.host_id, it))),
                    // Until then what is known of them stays known.
                    Err(why) => {
                        report.find_host(host.host_id, format!("its volumes cannot be listed: {why}"));
                        strays.extend(self.known_volumes(host.host_id));
                    }
                }
            }
            if lists_volumes && let Err(why) = remove::fences(context, &host).await {
                report.find_host(host.host_id, format!("fences of pods that are gone cannot be removed: {why}"));
            }
            self.settle(context, &host, strays, &mut report).await?;
        }
        Ok(report)
    }
}

impl Orphans {
    /// Without those that were removed since the inventory was taken.
    fn not_gone(&mut self, host: HostId, mut strays: Vec<Stray>) -> Vec<Stray> {
        self.gone.retain(|(id, stray)| *id != host || strays.contains(stray));
        strays.retain(|stray| !self.gone.iter().any(|(id, gone)| (*id, gone) == (host, stray)));
        strays
    }

    fn known_volumes(&self, host: HostId) -> Vec<Stray> {
        let known = self.found.keys().filter(|(id, stray)| *id == host && stray.kind == Kind::Volume);
        known.map(|(_, stray)| stray.clone()).collect()
    }

    /// Tells what is new, and removes what is old enough.
    async fn settle(
        &mut self,
        context: &Context,
        host: &HostRecord,
        strays: Vec<Stray>,
        report: &mut Report,
    ) -> Result<(), ReconcileError> {
        let grace = Duration::from_millis(context.settings.orphan_grace_ms);
        let now = Timestamp::now();
        self.found.retain(|(id, stray), _| *id != host.host_id || strays.contains(stray));
        let mut old = Vec::new();
        for stray in strays {
            let key = (host.host_id, stray.clone());
            let found_at = match self.found.get(&key) {
                Some(found_at) => *found_at,
                None => {
                    tell::orphan(&context.bus, &told(host.host_id, &stray, now, None), &host.name).await?;
                    *self.found.entry(key).or_insert(now)
                }
            };
            let due = found_at.plus(grace);
            let (kind, name) = (stray.kind.as_str(), &stray.name);
            let what = format!("the {kind} {name} on {} belongs to no pod; it is removed after {due}", host.name);
            report.find_host(host.host_id, what);
            if due <= now {
                old.push((stray, found_at));
            } else {
                let wait = u64::try_from(due.as_millis() - now.as_millis()).unwrap_or(0);
                report.again_in(Duration::from_millis(wait));
            }
        }
        old.sort();
        let sure = self.still_stray(context, host, old).await?;
        if sure.is_empty() {
            return Ok(());
        }
        for (stray, found_at) in remove::remove(context, host, sure).await? {
            report.repaired += 1;
            let gone = told(host.host_id, &stray, found_at, Some(Timestamp::now()));
            tell::orphan(&context.bus, &gone, &host.name).await?;
            let key = (host.host_id, stray);
            self.found.remove(&key);
            // Volumes are listed at the moment, and may be made anew under their name.
            if key.1.kind != Kind::Volume {
                self.gone.insert(key);
            }
        }
        Ok(())
    }

    /// Those that are strays by what the host and the bus say at this moment: what is removed does not come back.
    async fn still_stray(
        &self,
        context: &Context,
        host: &HostRecord,
        old: Vec<(Stray, Timestamp)>,
    ) -> Result<Vec<(Stray, Timestamp)>, ReconcileError> {
        let mut sure = Vec::new();
        for (stray, found_at) in old {
            let Some(pod) = stray.pod_id else { continue };
            let record = context.pods.get(&pod.to_string()).await?;
            if belongs_to_nobody(host.host_id, record.as_ref().map(|entry| &entry.record)) {
                sure.push((stray, found_at));
            }
        }
        Ok(sure)
    }
}

fn told(host_id: HostId, stray: &Stray, found_at: Timestamp, removed_at: Option<Timestamp>) -> Orphan {
    let (kind, name) = (stray.kind.as_str().into(), stray.name.clone());
    Orphan { host_id, kind, name, pod_id: stray.pod_id, found_at, removed_at }
}

/// What an inventory has that belongs to nobody.
fn strays(context: &Context, host: HostId, on_host: &OnHost) -> Vec<Stray> {
    let containers = on_host.containers.iter().map(|container| Stray {
        kind: Kind::Container,
        handle: container.container_id.clone(),
        name: container.name.clone(),
        pod_id: container.pod_id,
    });
    let networks = on_host.networks.iter().map(|network| Stray {
        kind: Kind::Network,
        handle: network.network_id.clone(),
        name: network.name.clone(),
        pod_id: network.pod_id,
    });
    containers.chain(networks).filter(|stray| is_stray(context, host, stray)).collect()
}

fn is_stray(context: &Context, host: HostId, stray: &Stray) -> bool {
    let Some(pod) = stray.pod_id else { return false };
    let known = context.view.pod(pod);
    belongs_to_nobody(host, known.as_ref().map(|pod| &pod.entry.record))
}

/// Whether what names a pod on a host belongs to no live record. `record` is that pod's.
fn belongs_to_nobody(host: HostId, record: Option<&PodRecord>) -> bool {
    record.is_none_or(|record| {
        is_idle(record) && (record.host_id != Some(host) || record.phase == PodPhase::Deleted && !record.residue)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        operation::plan::Verb,
        reconcile::context::{enqueue, settle},
        sample,
    };

    #[test]
    fn only_what_no_record_places_there_belongs_to_nobody() {
        let mut record = sample::pod();
        let (here, elsewhere) = (record.host_id.unwrap(), HostId::new());
        assert!(belongs_to_nobody(here, None));
        assert!(!belongs_to_nobody(here, Some(&record)));
        assert!(belongs_to_nobody(elsewhere, Some(&record)));
        settle(&mut record, PodPhase::Deleted, None);
        assert!(belongs_to_nobody(here, Some(&record)));
        record.residue = true;
        assert!(!belongs_to_nobody(here, Some(&record)));
    }

    #[test]
    fn what_was_removed_is_not_found_again_in_an_inventory_from_before() {
        let (host, pod) = (HostId::new(), PodId::new());
        let stray = |handle: &str| Stray {
            kind: Kind::Container,
            handle: handle.into(),
            name: "one name".into(),
            pod_id: Some(pod),
        };
        let (removed, other) = (stray("1"), stray("2"));
        let mut orphans = Orphans { gone: [(host, removed.clone())].into(), ..Orphans::default() };
        assert_eq!(orphans.not_gone(host, vec![removed.clone(), other]), [stray("2")]);
        assert_eq!(orphans.not_gone(host, vec![stray("2")]), [stray("2")]);
        assert!(orphans.gone.is_empty());
    }

    #[test]
    fn nothing_of_a_pod_that_is_worked_on_is_an_orphan() {
        let mut record = sample::pod();
        assert!(enqueue(&mut record, Verb::Delete));
        assert!(!belongs_to_nobody(HostId::new(), Some(&record)));
    }
}
