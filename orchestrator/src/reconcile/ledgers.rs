//! Ledgers against records: what is reserved for nobody is given back, what is used without a reservation gets one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pinacle_bus::{
    client::Entry,
    contract::{
        HostId, PodId, Timestamp,
        ledger::{HostLedger, Reservation},
        pod::{PodPhase, PodRecord, Tier},
    },
};
use tracing::warn;

use super::{
    ReconcileError, Reconciler, Report,
    context::{Context, is_idle},
};
use crate::{lease::won, view::Booked};

/// A reservation comes before the record that names its host.
const GRACE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub struct Ledgers;

impl Reconciler for Ledgers {
    const NAME: &'static str = "ledgers";

    async fn run(&mut self, context: &Context) -> Result<Report, ReconcileError> {
        let mut report = Report::default();
        let ledgers: BTreeMap<HostId, Arc<Booked>> =
            context.view.ledgers().into_iter().map(|booked| (booked.entry.record.host_id, booked)).collect();
        for ledger in ledgers.values() {
            give_back(context, &ledger.entry, &mut report).await?;
        }
        for pod in context.view.pods() {
            let record = &pod.entry.record;
            let Some((host, reservation)) = missing(record, &ledgers) else { continue };
            if pod.since.elapsed() >= GRACE {
                reserve(context, record, (host, reservation), ledgers.get(&host), &mut report).await?;
            }
        }
        Ok(report)
    }
}

/// Whether a reservation on `host` belongs to nobody. `pod` is the record of the pod that it names.
fn is_stray(host: HostId, reservation: &Reservation, pod: Option<&PodRecord>, now: Timestamp) -> bool {
    let is_used = pod.is_some_and(|pod| !is_idle(pod) || pod.host_id == Some(host) && pod.phase != PodPhase::Deleted);
    !is_used && reservation.reserved_at.plus(GRACE) < now
}

/// Gives back what is reserved on a host for pods that are not there.
async fn give_back(context: &Context, ledger: &Entry<HostLedger>, report: &mut Report) -> Result<(), ReconcileError> {
    let (host, now) = (ledger.record.host_id, Timestamp::now());
    let mut kept = ledger.record.clone();
    for (pod, reservation) in &ledger.record.reservations {
        report.examined += 1;
        let known = context.view.pod(*pod);
        if !is_stray(host, reservation, known.as_ref().map(|pod| &pod.entry.record), now) {
            continue;
        }
        // The view may lag behind a creation that goes on with a reservation made by a copy that died.
        let fresh = context.pods.get(&pod.to_string()).await?;
        if is_stray(host, reservation, fresh.as_ref().map(|entry| &entry.record), now) {
            kept.reservations.remove(pod);
        }
    }
    let released = ledger.record.reservations.len() - kept.reservations.len();
    if released == 0 || !won(context.ledgers.update(&host.to_string(), &kept, ledger.revision).await)? {
        return Ok(());
    }
    warn!(%host, released, "gave back what was reserved for pods that are not there");
    report.repaired += released as u64;
    Ok(())
}

/// What a placed pod should have reserved on its host and has not.
fn missing(record: &PodRecord, ledgers: &BTreeMap<HostId, Arc<Booked>>) -> Option<(HostId, Reservation)> {
    let host = record.host_id?;
    if !is_idle(record) || record.phase == PodPhase::Deleted {
        return None;
    }
    let is_reserved =
        ledgers.get(&host).is_some_and(|ledger| ledger.entry.record.reservations.contains_key(&record.pod_id));
    let tier = Tier::find(&record.spec.tier).filter(|_| !is_reserved)?;
    let reservation = Reservation {
        cpu_millis: tier.cpu_millis,
        memory_bytes: tier.memory_bytes,
        disk_bytes: tier.disk_bytes,
        external_port: record.external_port?,
        subnet: record.subnet?,
        reserved_at: Timestamp::now(),
    };
    Some((host, reservation))
}

async fn reserve(
    context: &Context,
    record: &PodRecord,
    (host, reservation): (HostId, Reservation),
    ledger: Option<&Arc<Booked>>,
    report: &mut Report,
) -> Result<(), ReconcileError> {
    let (pod, name) = (record.pod_id, &record.name);
    if let Some(other) = ledger.and_then(|ledger| holder_of(&ledger.entry.record, &reservation)) {
        report
            .find_pod(pod, format!("{name} uses a port or a network that is reserved for {other}; delete one of them"));
        return Ok(());
    }
    report.find_pod(pod, format!("{name} had nothing reserved on its host, and has it again"));
    let key = host.to_string();
    let written = match ledger {
        Some(ledger) => {
            let mut changed = ledger.entry.record.clone();
            changed.reservations.insert(pod, reservation);
            context.ledgers.update(&key, &changed, ledger.entry.revision).await
        }
        None => {
            let reservations = [(pod, reservation)].into();
            context.ledgers.create(&key, &HostLedger { host_id: host, reservations }).await
        }
    };
    report.repaired += u64::from(won(written)?);
    Ok(())
}

/// Who has the same port or subnet.
fn holder_of(ledger: &HostLedger, wanted: &Reservation) -> Option<PodId> {
    let clashes = |held: &Reservation| held.external_port == wanted.external_port || held.subnet == wanted.subnet;
    ledger.reservations.iter().find(|(_, held)| clashes(held)).map(|(pod, _)| *pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        operation::plan::Verb,
        reconcile::context::{enqueue, settle},
        sample,
        view::Taken,
    };

    fn placed() -> (PodRecord, HostId, Reservation) {
        let record = sample::pod();
        let (host, reservation) = missing(&record, &BTreeMap::new()).unwrap();
        (record, host, reservation)
    }

    #[test]
    fn only_a_reservation_that_no_pod_uses_or_is_about_to_use_is_given_back() {
        let (mut record, host, reservation) = placed();
        let later = reservation.reserved_at.plus(GRACE + GRACE);
        assert!(is_stray(host, &reservation, None, later));
        assert!(!is_stray(host, &reservation, None, reservation.reserved_at));
        assert!(!is_stray(host, &reservation, Some(&record), later));
        assert!(is_stray(HostId::new(), &reservation, Some(&record), later));
        settle(&mut record, PodPhase::Deleted, None);
        assert!(is_stray(host, &reservation, Some(&record), later));
        assert!(enqueue(&mut record, Verb::Start));
        assert!(!is_stray(host, &reservation, Some(&record), later));
    }

    #[test]
    fn a_placed_pod_without_a_reservation_gets_the_one_that_it_uses() {
        let (record, host, reservation) = placed();
        assert_eq!(Some((host, reservation.external_port)), Some((record.host_id.unwrap(), 30_000)));
        let reservations = [(record.pod_id, reservation.clone())].into();
        let entry =
            Entry { revision: 1, written_at: Timestamp::now(), record: HostLedger { host_id: host, reservations } };
        assert_eq!(holder_of(&entry.record, &reservation), Some(record.pod_id));
        assert!(missing(&record, &[(host, Arc::new(Booked { taken: Taken::default(), entry }))].into()).is_none());
    }
}
