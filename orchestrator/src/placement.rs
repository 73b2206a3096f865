//! Placement: which host takes a pod, and which port and network it gets there. Pure: the caller brings what is known,
//! and writes what is decided by compare-and-set.

use std::collections::BTreeSet;

use pinacle_bus::contract::{
    HostId, Timestamp,
    host::{HostRecord, HostState, Maintenance},
    ledger::{HostLedger, PORTS, Reservation},
    pod::{PodRecord, Tier},
};

use crate::{
    settings::{Orchestrator, Placement},
    view::{OnHost, Taken},
};

/// Networks `10.249.n.0/24` of a host.
const SUBNETS: std::ops::RangeInclusive<u8> = 1..=254;
/// How much what pods were promised counts against what the host is really at.
const WEIGHT_OF_PROMISES: f64 = 0.7;
const GIB: f64 = 1_073_741_824.0;

/// How hosts are judged: see `default.toml`.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the setting of its name")]
pub struct Rules {
    pub placement: Placement,
    pub cpu_overcommit: f64,
    pub memory_overcommit: f64,
    pub disk_overcommit: f64,
    pub memory_reserve_bytes: u64,
}

impl From<&Orchestrator> for Rules {
    fn from(settings: &Orchestrator) -> Self {
        Self {
            placement: settings.placement,
            cpu_overcommit: settings.cpu_overcommit,
            memory_overcommit: settings.memory_overcommit,
            disk_overcommit: settings.disk_overcommit,
            memory_reserve_bytes: settings.memory_reserve_bytes,
        }
    }
}

/// What a pod needs.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The pod's record.
    pub pod: &'a PodRecord,
    /// Its tier.
    pub tier: &'static Tier,
}

/// A host, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its record.
    pub host: &'a HostRecord,
    /// What is taken of it.
    pub taken: Taken,
    /// How busy it is, from 0 to 1; `None` = not known.
    pub load: Option<f64>,
}

/// Why a host does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The host's name.
    pub host: String,
    /// In words that follow the name.
    pub why: String,
}

/// What a host has for pods, in all.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    cpu_millis: f64,
    memory_bytes: f64,
    disk_bytes: f64,
}

impl Capacity {
    #[expect(clippy::cast_precision_loss, reason = "an error of a few bytes in terabytes is none")]
    fn of(host: &HostRecord, rules: &Rules) -> Self {
        let facts = &host.facts;
        Self {
            cpu_millis: f64::from(facts.cpu_count) * 1000.0 * rules.cpu_overcommit,
            memory_bytes: facts.memory_total_bytes.saturating_sub(rules.memory_reserve_bytes) as f64
                * rules.memory_overcommit,
            disk_bytes: facts.disk_total_bytes as f64 * rules.disk_overcommit,
        }
    }
}

/// Why a host cannot take a pod, before it is put into words.
enum Lack {
    NotOnline,
    Disabled,
    Cordoned,
    Maintained(Maintenance),
    Docker,
    Runtime,
    Ssh,
    Owner,
    Label(String),
    OtherHost,
    Cpu(f64),
    Memory(f64),
    Disk(f64),
    Subnets,
}

/// Chooses the best of those hosts that take the pod, without those `passed_over`. Of equals the first.
///
/// # Errors
/// Why each host does not take it.
pub fn choose<'a>(
    demand: &Demand<'_>,
    candidates: impl Iterator<Item = Candidate<'a>> + Clone,
    rules: &Rules,
    passed_over: &BTreeSet<HostId>,
) -> Result<HostId, Vec<Refusal>> {
    let mut best: Option<(f64, HostId)> = None;
    for candidate in candidates.clone() {
        let (score, host) = (score(demand, &candidate, rules), candidate.host.host_id);
        // Looked at closely only if it would be the best: most are not.
        if best.is_none_or(|(least, _)| score < least)
            && !passed_over.contains(&host)
            && lack(demand, &candidate, rules).is_none()
        {
            best = Some((score, host));
        }
    }
    if let Some((_, host)) = best {
        return Ok(host);
    }
    Err(candidates
        .map(|candidate| {
            let why = match lack(demand, &candidate, rules) {
                Some(lack) => lack.in_words(demand, candidate.host),
                None => "has no port or network left".into(),
            };
            Refusal { host: candidate.host.name.clone(), why }
        })
        .collect())
}

fn lack(demand: &Demand<'_>, candidate: &Candidate<'_>, rules: &Rules) -> Option<Lack> {
    let (spec, host, taken) = (&demand.pod.spec, candidate.host, candidate.taken);
    if spec.only_host.is_some_and(|only| only != host.host_id) {
        return Some(Lack::OtherHost);
    }
    if host.disabled {
        return Some(Lack::Disabled);
    }
    if host.state != HostState::Online {
        return Some(Lack::NotOnline);
    }
    if host.cordoned {
        return Some(Lack::Cordoned);
    }
    if let Some(window) = host.maintained_at(Timestamp::now()) {
        return Some(Lack::Maintained(window.clone()));
    }
    if !host.allowed_owners.is_empty() && !host.allowed_owners.contains(&demand.pod.owner) {
        return Some(Lack::Owner);
    }
    if let Some((key, value)) = spec.host_labels.iter().find(|(key, value)| host.labels.get(*key) != Some(value)) {
        return Some(Lack::Label(format!("{key}={value}")));
    }
    if host.facts.docker_version.is_none() {
        return Some(Lack::Docker);
    }
    if !host.facts.runtimes.contains(&spec.runtime) {
        return Some(Lack::Runtime);
    }
    if host.facts.ssh.is_none() || host.pinned_host_keys.is_empty() {
        return Some(Lack::Ssh);
    }
    let capacity = Capacity::of(host, rules);
    short_of(demand.tier, taken, capacity)
}

#[expect(clippy::cast_precision_loss, reason = "an error of a few bytes in terabytes is none")]
fn short_of(tier: &Tier, taken: Taken, capacity: Capacity) -> Option<Lack> {
    let cpu = capacity.cpu_millis - taken.cpu_millis as f64;
    let memory = capacity.memory_bytes - taken.memory_bytes as f64;
    let disk = capacity.disk_bytes - taken.disk_bytes as f64;
    if cpu < f64::from(tier.cpu_millis) {
        return Some(Lack::Cpu(cpu));
    }
    if memory < tier.memory_bytes as f64 {
        return Some(Lack::Memory(memory));
    }
    if disk < tier.disk_bytes as f64 {
        return Some(Lack::Disk(disk));
    }
    (taken.pods >= SUBNETS.len()).then_some(Lack::Subnets)
}

impl Lack {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn in_words(self, demand: &Demand<'_>, host: &HostRecord) -> String {
        let tier = demand.tier;
        let gib = |left: f64, needed: u64, what: &str| {
            format!("has {:.1} GiB of {what} left, {:.1} GiB are needed", left.max(0.0) / GIB, needed as f64 / GIB)
        };
        match self {
            Self::NotOnline => format!("is {}", host.state.as_str()),
            Self::Disabled => "is disabled".into(),
            Self::Cordoned => "is cordoned".into(),
            Self::Maintained(window) => format!("is under maintenance until {}", window.until),
            Self::Docker => "has no Docker that answers".into(),
            Self::Runtime => format!("has no runtime {}", demand.pod.spec.runtime),
            Self::Ssh => "does not say where it takes SSH, or by which key it is known".into(),
            Self::Owner => format!("does not take pods of {}", demand.pod.owner),
            Self::Label(label) => format!("lacks the label {label}"),
            Self::OtherHost => "is not the host that was asked for".into(),
            Self::Cpu(left) => {
                let (left, needed) = (left.max(0.0) / 1000.0, f64::from(tier.cpu_millis) / 1000.0);
                format!("has {left:.1} cores left, {needed:.1} are needed")
            }
            Self::Memory(left) => gib(left, tier.memory_bytes, "memory"),
            Self::Disk(left) => gib(left, tier.disk_bytes, "disk"),
            Self::Subnets => "has no network left for another pod".into(),
        }
    }
}

/// The lower the better.
#[expect(clippy::cast_precision_loss, reason = "a share needs few digits")]
fn score(demand: &Demand<'_>, candidate: &Candidate<'_>, rules: &Rules) -> f64 {
    let (tier, taken, capacity) = (demand.tier, candidate.taken, Capacity::of(candidate.host, rules));
    let cpu = (taken.cpu_millis as f64 + f64::from(tier.cpu_millis)) / capacity.cpu_millis;
    let memory = (taken.memory_bytes as f64 + tier.memory_bytes as f64) / capacity.memory_bytes;
    let promised = cpu.max(memory);
    // A host that nobody knows the load of counts as half busy.
    let busy = candidate.load.unwrap_or(0.5);
    match rules.placement {
        Placement::Spread => WEIGHT_OF_PROMISES * promised + (1.0 - WEIGHT_OF_PROMISES) * busy,
        Placement::Pack => -promised,
    }
}

/// Reserves room for a pod in a host's ledger: capacity, a port and a network at once. A pod that has room there keeps it.
///
/// # Errors
/// Why there is none, in words that follow the host's name.
pub fn reserve(
    ledger: &mut HostLedger,
    demand: &Demand<'_>,
    host: &HostRecord,
    on_host: Option<&OnHost>,
    rules: &Rules,
    now: Timestamp,
) -> Result<Reservation, String> {
    let pod = demand.pod.pod_id;
    if let Some(reservation) = ledger.reservations.get(&pod) {
        return Ok(reservation.clone());
    }
    let candidate = Candidate { host, taken: Taken::from(&*ledger), load: None };
    if let Some(lack) = lack(demand, &candidate, rules) {
        return Err(lack.in_words(demand, host));
    }
    let mut ports: BTreeSet<u16> = ledger.reservations.values().map(|held| held.external_port).collect();
    let mut subnets: BTreeSet<u8> = ledger.reservations.values().map(|held| held.subnet).collect();
    if let Some(on_host) = on_host {
        ports.extend(&on_host.ports);
        // What a pod's own network has is its own: it was made before its reservation was lost.
        subnets.extend(on_host.subnets.iter().filter(|(_, owner)| *owner != Some(pod)).map(|(number, _)| *number));
    }
    let external_port = PORTS.clone().find(|port| !ports.contains(port)).ok_or("has no port left for another pod")?;
    let subnet = SUBNETS.clone().find(|n| !subnets.contains(n)).ok_or("has no network left for another pod")?;
    let reservation = Reservation {
        cpu_millis: demand.tier.cpu_millis,
        memory_bytes: demand.tier.memory_bytes,
        disk_bytes: demand.tier.disk_bytes,
        external_port,
        subnet,
        reserved_at: now,
    };
    ledger.reservations.insert(pod, reservation.clone());
    Ok(reservation)
}

/// Why no host takes a pod, for people.
pub fn explain(refusals: &[Refusal]) -> String {
    const SHOWN: usize = 8;
    if refusals.is_empty() {
        return "no host is enrolled".into();
    }
    let mut text: Vec<String> =
        refusals.iter().take(SHOWN).map(|refusal| format!("{} {}", refusal.host, refusal.why)).collect();
    if refusals.len() > SHOWN {
        text.push(format!("and {} more hosts", refusals.len() - SHOWN));
    }
    text.join("; ")
}

#[cfg(test)]
mod tests;
