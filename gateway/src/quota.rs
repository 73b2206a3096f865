//! How much an owner may use, and what of it is used. What counts is decided here, out of claims and live pods; that no two
//! creations are decided at once is the store's to see to.

use chrono::{DateTime, TimeDelta, Utc};
use pinacle_bus::contract::{
    PodId, TeamId, UserId,
    pod::{PodPhase, Tier},
    request::Progress,
};
use pinacle_store::{Holdings, PodClaimRow, StoreErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::App,
    live::{Live, board::Owned, fleet::PodLive, operations::OperationLive},
    problem::{Code, Problem},
    settings::Gateway,
};

/// A claim counts so long without a pod: the request may still be on its way to here.
const ON_ITS_WAY: TimeDelta = TimeDelta::minutes(2);
const GIB: f64 = (1_u64 << 30) as f64;

/// Pods, and what they take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Amount {
    /// Pods that are not deleted.
    pub pods: u64,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Disk.
    pub disk_bytes: u64,
}

/// The most that an owner may use; null = as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Limits {
    /// Pods that are not deleted.
    pub pods: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Disk.
    pub disk_bytes: Option<u64>,
}

impl Amount {
    fn of_tier(name: &str) -> Self {
        // A tier that this release does not know takes nothing that it could count.
        let tier = Tier::find(name);
        Self {
            pods: 1,
            cpu_millis: tier.map_or(0, |tier| tier.cpu_millis.into()),
            memory_bytes: tier.map_or(0, |tier| tier.memory_bytes),
            disk_bytes: tier.map_or(0, |tier| tier.disk_bytes),
        }
    }

    fn of_claim(claim: &PodClaimRow) -> Self {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        Self {
            pods: 1,
            cpu_millis: number(claim.cpu_millis),
            memory_bytes: number(claim.memory_bytes),
            disk_bytes: number(claim.disk_bytes),
        }
    }

    /// What a pod may use.
    pub fn of_pod(pod: &PodLive) -> Self {
        Self::of_tier(pod.tier().unwrap_or_default())
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            pods: self.pods.saturating_add(other.pods),
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }
}

impl Limits {
    /// Those of an owner: what an admin has set for it, and else what the settings say.
    pub fn of(settings: &Gateway, holdings: &Holdings) -> Self {
        let set = holdings.quota.as_ref();
        let limit = |set: Option<i64>, usual: u64| match set {
            Some(set) => Some(u64::try_from(set).unwrap_or(0)),
            None => Some(usual).filter(|usual| *usual > 0),
        };
        Self {
            pods: limit(set.and_then(|set| set.pods), settings.quota_pods),
            cpu_millis: limit(set.and_then(|set| set.cpu_millis), settings.quota_cpu_millis),
            memory_bytes: limit(set.and_then(|set| set.memory_bytes), settings.quota_memory_bytes),
            disk_bytes: limit(set.and_then(|set| set.disk_bytes), settings.quota_disk_bytes),
        }
    }

    /// What `used` and `more` are together beyond these limits, for people.
    fn refusal(&self, used: Amount, more: Amount) -> Option<String> {
        let pods = |pods: u64| format!("{pods} pods");
        let cores = |millis: u64| format!("{:.1} cores", millis as f64 / 1000.0);
        let memory = |bytes: u64| format!("{:.1} GiB of memory", bytes as f64 / GIB);
        let disk = |bytes: u64| format!("{:.1} GiB of disk", bytes as f64 / GIB);
        let told = |what: fn(u64) -> String, limit: Option<u64>, used: u64, more: u64| {
            let limit = limit.filter(|limit| used.saturating_add(more) > *limit)?;
            Some(format!("{} of {} are used and this takes {} more", what(used), what(limit), what(more)))
        };
        let reasons: Vec<String> = [
            told(pods, self.pods, used.pods, more.pods),
            told(cores, self.cpu_millis, used.cpu_millis, more.cpu_millis),
            told(memory, self.memory_bytes, used.memory_bytes, more.memory_bytes),
            told(disk, self.disk_bytes, used.disk_bytes, more.disk_bytes),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!reasons.is_empty()).then(|| format!("the quota does not allow it: {}", reasons.join("; ")))
    }
}

/// Whether a pod takes something of its owner's quota.
fn takes(pod: &PodLive) -> bool {
    match &pod.record {
        None => pod.asked.is_some(),
        Some(record) => {
            record.phase != PodPhase::Deleted && (record.phase != PodPhase::Failed || record.host_id.is_some())
        }
    }
}

/// Whether a claim still counts, given what is known of its pod.
fn counts(claim: &PodClaimRow, pod: Option<&PodLive>, now: DateTime<Utc>) -> bool {
    let on_its_way = now - claim.claimed_at < ON_ITS_WAY;
    match pod {
        // Not here yet, or not this owner's yet; or no longer.
        None => on_its_way,
        Some(pod) if pod.owner() != Some(claim.owner.as_str()) => on_its_way,
        Some(pod) => match &pod.record {
            // It failed before it had anything; claimed anew since, it is to be started.
            Some(record) if record.phase == PodPhase::Failed && record.host_id.is_none() => {
                claim.claimed_at > record.phase_since.as_utc()
            }
            _ => takes(pod),
        },
    }
}

/// Whether the request for a pod that is not there came to nothing.
fn has_ended(live: &Live, pod_id: &str) -> bool {
    let ended = |operation: &OperationLive| {
        operation.known.target_id() == pod_id
            && matches!(operation.known.progress(), Progress::Failed | Progress::Cancelled)
    };
    !live.operations.board.page_back(None, 1, ended).is_empty()
}

/// What an owner uses, and the pods whose claims count no more. `but` = leave this pod out.
fn tally(live: &Live, owner: &str, holdings: &Holdings, but: Option<PodId>) -> (Amount, Vec<String>) {
    let (fleet, now) = (&live.fleet, Utc::now());
    let mut used = Amount::default();
    let mut over = Vec::new();
    for claim in &holdings.claims {
        let pod_id = claim.pod_id.parse::<PodId>().ok();
        let pod = pod_id.and_then(|pod| fleet.pods.get(&pod));
        if !counts(claim, pod.as_deref(), now) || (pod.is_none() && has_ended(live, &claim.pod_id)) {
            over.push(claim.pod_id.clone());
        } else if pod_id != but {
            used = used.plus(Amount::of_claim(claim));
        }
    }
    // Pods from before there were quotas, or from before the database was lost.
    let claimed = |pod: &PodLive| holdings.claims.iter().any(|claim| claim.pod_id == pod.pod_id.to_string());
    let unclaimed =
        |pod: &PodLive| pod.owner() == Some(owner) && takes(pod) && Some(pod.pod_id) != but && !claimed(pod);
    for (_, pod) in fleet.pods.page(None, usize::MAX, unclaimed) {
        used = used.plus(Amount::of_pod(&pod));
    }
    (used, over)
}

/// Whether this owner's use is bounded: a person's and a team's is, the installation's own is not.
fn is_bounded(owner: &str) -> bool {
    owner.parse::<UserId>().is_ok() || owner.parse::<TeamId>().is_ok()
}

/// Claims what a pod takes, for its owner. The installation itself needs no claim, and so can make pods while Postgres is
/// away; for others nothing is made then.
///
/// # Errors
/// When it is more than the owner may use, or that cannot be told now.
pub async fn claim(app: &App, owner: &str, pod_id: PodId, tier: &str) -> Result<(), Problem> {
    if !is_bounded(owner) {
        return Ok(());
    }
    let need = Amount::of_tier(tier);
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let claim = PodClaimRow {
        owner: owner.to_owned(),
        pod_id: pod_id.to_string(),
        cpu_millis: number(need.cpu_millis),
        memory_bytes: number(need.memory_bytes),
        disk_bytes: number(need.disk_bytes),
        claimed_at: Utc::now(),
    };
    app.fleet()?;
    let judge = |holdings: &Holdings| {
        let (used, over) = tally(&app.live, owner, holdings, Some(pod_id));
        match Limits::of(&app.live.settings, holdings).refusal(used, need) {
            None => Ok(over),
            Some(refusal) => Err(refusal),
        }
    };
    match app.database.claim_make(&claim, judge).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refusal)) => Err(Problem::new(Code::QuotaExceeded, refusal)),
        Err(error) if *error.kind() == StoreErrorKind::NotFound => {
            Err(Problem::new(Code::OwnerNotFound, Code::OwnerNotFound.explanation()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Claims again for a pod that had failed before it had anything, which counts no more, and is to be started.
///
/// # Errors
/// As for [`claim`].
pub async fn claim_again(app: &App, pod: &PodLive) -> Result<(), Problem> {
    let (Some(owner), Some(tier)) = (pod.owner(), pod.tier()) else { return Ok(()) };
    if takes(pod) { Ok(()) } else { claim(app, owner, pod.pod_id, tier).await }
}

/// What an owner may use, and uses.
///
/// # Errors
/// When that cannot be told now.
pub async fn of(app: &App, owner: &str) -> Result<(Limits, Amount), Problem> {
    let holdings = app.database.holdings(owner).await?;
    app.fleet()?;
    let (used, _) = tally(&app.live, owner, &holdings, None);
    Ok((Limits::of(&app.live.settings, &holdings), used))
}

/// Gives up the claims of an owner's that count no more.
///
/// # Errors
/// When that cannot be told now.
pub async fn settle(app: &App, owner: &str) -> Result<(), Problem> {
    let holdings = app.database.holdings(owner).await?;
    app.fleet()?;
    let (_, over) = tally(&app.live, owner, &holdings, None);
    if over.is_empty() { Ok(()) } else { Ok(app.database.claims_release(owner, &over).await?) }
}
