//! Whose turn it is: one copy at a time runs a reconciler. Another takes over once the lease has not been renewed for as
//! long as it is good for, by the other's own monotonic clock.

use std::time::Duration;

use pinacle_bus::{
    client::{Bucket, BusError},
    contract::ledger::Lease,
};
use tokio::time::Instant;

use super::context::won;

/// Longer than a run may take, and shorter than the bucket keeps leases.
const VALID: Duration = Duration::from_secs(20);
/// How often it is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// A copy's part in the lease of one reconciler.
pub struct Turn {
    leases: Bucket<Lease>,
    key: String,
    holder: String,
    /// The newest lease that was seen, and when for the first time.
    seen: Option<(u64, Instant)>,
}

impl Turn {
    /// For the reconciler of this name.
    pub fn new(leases: Bucket<Lease>, name: &str, holder: &str) -> Self {
        Self { leases, key: format!("reconciler-{name}"), holder: holder.into(), seen: None }
    }

    /// Takes the lease, or renews it. Says whether it is ours.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn take(&mut self) -> Result<bool, BusError> {
        let valid_ms = u64::try_from(VALID.as_millis()).unwrap_or(u64::MAX);
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
