//! What is taken of a host, and who works on what for now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    HostId, PodId, Timestamp,
    message::{Invalid, Message, check},
};

/// External ports of pods, on each host.
pub const PORTS: std::ops::RangeInclusive<u16> = 30_000..=39_999;

/// What is taken of a host, in the bucket `ledger`: one compare-and-set reserves capacity, port and subnet together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLedger {
    /// The host.
    pub host_id: HostId,
    /// By pod.
    pub reservations: BTreeMap<PodId, Reservation>,
}

/// What is taken for one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Disk.
    pub disk_bytes: u64,
    /// The host's port that leads to the pod.
    pub external_port: u16,
    /// The `n` of its network `10.249.n.0/24`.
    pub subnet: u8,
    /// Since when.
    pub reserved_at: Timestamp,
}

impl Message for HostLedger {
    const NAME: &'static str = "host_ledger";
    const MAX_BYTES: usize = 256 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::length("reservations", self.reservations.len(), 256)?;
        let mut taken = BTreeSet::new();
        for reservation in self.reservations.values() {
            check::count("reservations.memory_bytes", reservation.memory_bytes)?;
            check::count("reservations.disk_bytes", reservation.disk_bytes)?;
            if !PORTS.contains(&reservation.external_port) {
                let why = format!("is {}, not from {} to {}", reservation.external_port, PORTS.start(), PORTS.end());
                return Err(Invalid { field: "reservations.external_port", why });
            }
            if !taken.insert(u32::from(reservation.external_port)) || !taken.insert(u32::from(reservation.subnet)) {
                return Err(Invalid { field: "reservations", why: "have a port or a subnet twice".into() });
            }
        }
        Ok(())
    }
}

/// Who works on something for now, in the bucket `leases`. Others leave it alone until it has not been renewed for
/// `valid_ms` by their own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The process that holds it: another one each start.
    pub holder: String,
    /// How long it is good for after each renewal.
    pub valid_ms: u64,
    /// How often it was renewed.
    pub renewals: u64,
}

impl Message for Lease {
    const NAME: &'static str = "lease";
    const MAX_BYTES: usize = 4096;

    fn check(&self) -> Result<(), Invalid> {
        check::text("holder", &self.holder, 255)?;
        check::count("valid_ms", self.valid_ms)?;
        check::count("renewals", self.renewals)
    }
}
