//! Leases: who works on something for now. Another copy takes over once a lease has not been renewed for as long as it is
//! good for, by the other's own monotonic clock; so no clocks need to agree.

use std::time::Duration;

use pinacle_bus::{
    client::{Bucket, BusError, BusErrorKind},
    contract::ledger::Lease,
};
use tokio::time::Instant;

/// A copy's part in one lease.
pub struct Claim {
    leases: Bucket<Lease>,
    key: String,
    holder: String,
    valid: Duration,
    /// The newest lease that was seen, and when for the first time.
    seen: Option<(u64, Instant)>,
}

impl Claim {
    /// For the lease `key`, held as `holder`, good for `valid` after each renewal.
    pub fn new(leases: Bucket<Lease>, key: impl Into<String>, holder: &str, valid: Duration) -> Self {
        Self { leases, key: key.into(), holder: holder.into(), valid, seen: None }
    }

    /// Takes the lease, or renews it. Says whether it is ours.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn take(&mut self) -> Result<bool, BusError> {
        let valid_ms = u64::try_from(self.valid.as_millis()).unwrap_or(u64::MAX);
        let mut lease = Lease { holder: self.holder.clone(), valid_ms, renewals: 0 };
        let Some(entry) = self.leases.get(&self.key).await? else {
            return won(self.leases.create(&self.key, &lease).await);
        };
        if self.seen.is_none_or(|(revision, _)| revision != entry.revision) {
            self.seen = Some((entry.revision, Instant::now()));
        }
        let is_ours = entry.record.holder == self.holder;
        let valid = Duration::from_millis(entry.record.valid_ms);
        if !is_ours && self.seen.is_some_and(|(_, since)| since.elapsed() < valid) {
            return Ok(false);
        }
        if is_ours {
            lease.renewals = entry.record.renewals + 1;
        }
        won(self.leases.update(&self.key, &lease, entry.revision).await)
    }

    /// Gives the lease back, so that another copy goes on at once.
    pub async fn give_back(&self) {
        if let Ok(Some(entry)) = self.leases.get(&self.key).await
            && entry.record.holder == self.holder
        {
            // Otherwise it runs out by itself.
            let _ = self.leases.delete(&self.key, entry.revision).await;
        }
    }
}

/// A write by compare-and-set: whether it was ours.
///
/// # Errors
/// When it failed for another reason than that somebody else wrote first.
pub fn won<T>(written: Result<T, BusError>) -> Result<bool, BusError> {
    match written {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == BusErrorKind::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}
