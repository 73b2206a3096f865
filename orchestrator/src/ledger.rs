//! Ledgers: what is taken of each host, in the bucket `ledger`. One compare-and-set reserves capacity, port and network
//! together, so that no two copies can promise the same thing.

use std::{collections::BTreeSet, time::Duration};

use pinacle_bus::{
    client::{Bucket, Bus, BusError, Entry},
    contract::{
        HostId, PodId, Timestamp,
        ledger::{HostLedger, Reservation},
        topology::LEDGER,
    },
};
use tokio::time::{Instant, sleep};

use crate::{
    lease::won,
    placement::{Demand, Refusal, Rules, reserve},
    view::View,
};

/// How long the view may take to show what was written before a copy took a pod over.
const VIEW_CATCHES_UP_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// The ledgers of all hosts. Cheap to clone.
#[derive(Clone)]
pub struct Ledgers {
    bucket: Bucket<HostLedger>,
    view: View,
}

/// Why nothing could be reserved.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// No host has room.
    #[error("no host has room")]
    NoRoom(Vec<Refusal>),
    /// The bus.
    #[error("the bus did not do it: {0}")]
    Bus(#[from] BusError),
    /// The view lags behind the bus.
    #[error("what this copy knows of ledgers is too old")]
    Stale,
}

impl Ledgers {
    /// Opens the bucket.
    ///
    /// # Errors
    /// When it does not exist or the server does not answer.
    pub async fn open(bus: &Bus, view: View) -> Result<Self, BusError> {
        Ok(Self { bucket: bus.bucket(&LEDGER).await?, view })
    }

    /// A host's ledger as it is now.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn get(&self, host: HostId) -> Result<Option<Entry<HostLedger>>, BusError> {
        self.bucket.get(&host.to_string()).await
    }

    /// Removes the ledger of a host that goes.
    ///
    /// # Errors
    /// When somebody else wrote it meanwhile, or the bus does not answer.
    pub async fn forget(&self, host: HostId, ledger: Entry<HostLedger>) -> Result<(), BusError> {
        self.bucket.delete(&host.to_string(), ledger.revision).await
    }

    /// Reserves room for a pod on the best host that has it. A pod that has room somewhere keeps that: whoever works on
    /// a pod must hold its lease, and first call [`Self::catch_up`].
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub async fn place(&self, demand: &Demand<'_>, rules: &Rules) -> Result<(HostId, Reservation), PlaceError> {
        let mut passed_over = BTreeSet::new();
        let mut kept = self.view.reserved_on(demand.pod.pod_id);
        loop {
            let host = match kept.take() {
                Some(host) => host,
                None => self.view.choose(demand, rules, &passed_over).map_err(PlaceError::NoRoom)?,
            };
            match self.reserve_on(host, demand, rules).await? {
                Some(reservation) => return Ok((host, reservation)),
                None => passed_over.insert(host),
            };
        }
    }

    /// Reserves room on a host; `None` when it turns out to have none.
    async fn reserve_on(
        &self,
        host: HostId,
        demand: &Demand<'_>,
        rules: &Rules,
    ) -> Result<Option<Reservation>, BusError> {
        let Some(record) = self.view.host(host) else { return Ok(None) };
        let (key, on_host) = (host.to_string(), self.view.on_host(host));
        // The view first: it is right but for the moments in which copies meet.
        let mut known = self.view.ledger(host).map(|booked| booked.entry.clone());
        loop {
            let mut ledger = known.as_ref().map_or_else(
                || HostLedger { host_id: host, reservations: std::collections::BTreeMap::new() },
                |entry| entry.record.clone(),
            );
            let held = ledger.reservations.contains_key(&demand.pod.pod_id);
            let Ok(reservation) = reserve(&mut ledger, demand, &record, on_host.as_deref(), rules, Timestamp::now())
            else {
                return Ok(None);
            };
            if held {
                return Ok(Some(reservation));
            }
            let written = match &known {
                Some(entry) => self.bucket.update(&key, &ledger, entry.revision).await,
                None => self.bucket.create(&key, &ledger).await,
            };
            if won(written)? {
                return Ok(Some(reservation));
            }
            known = self.bucket.get(&key).await?;
        }
    }

    /// Gives back what a pod has on a host. Once more is the same.
    ///
    /// # Errors
    /// When the bus does not do it.
    pub async fn release(&self, host: HostId, pod: PodId) -> Result<(), BusError> {
        let key = host.to_string();
        while let Some(mut entry) = self.bucket.get(&key).await? {
            if entry.record.reservations.remove(&pod).is_none()
                || won(self.bucket.update(&key, &entry.record, entry.revision).await)?
            {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the view shows all that was written before now: a copy that died may just have reserved something.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn catch_up(&self) -> Result<(), PlaceError> {
        let newest = self.bucket.newest_revision().await?;
        let give_up = Instant::now() + VIEW_CATCHES_UP_WITHIN;
        while self.view.ledger_revision() < newest {
            if Instant::now() > give_up {
                return Err(PlaceError::Stale);
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }
}
