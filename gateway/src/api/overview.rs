//! The installation in figures, for its admins.

use std::collections::BTreeMap;

use axum::response::Response;
use pinacle_bus::contract::{pod::PodPhase, request::Progress};
use pinacle_store::{Population, StoreErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Shared, json};
use crate::{problem::Problem, quota::Amount};

/// The installation in figures.
#[derive(Default, Serialize, ToSchema)]
pub struct Overview {
    /// People; null while Postgres is away.
    people: Option<People>,
    /// Hosts by their state.
    hosts: BTreeMap<&'static str, u64>,
    /// Pods by their phase, without deleted ones.
    pods: BTreeMap<&'static str, u64>,
    /// What the hosts have.
    capacity: Capacity,
    /// What all pods may use together.
    allotted: Amount,
    /// Recent operations that wait for their turn.
    operations_waiting: u64,
    /// Operations under way.
    operations_running: u64,
}

/// People and teams.
#[derive(Serialize, ToSchema)]
pub struct People {
    /// All.
    users: u64,
    /// Of these, admins.
    admins: u64,
    /// Of these, suspended.
    suspended: u64,
    /// Teams.
    teams: u64,
}

impl From<Population> for People {
    fn from(row: Population) -> Self {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        Self {
            users: number(row.users),
            admins: number(row.admins),
            suspended: number(row.suspended),
            teams: number(row.teams),
        }
    }
}

/// What all hosts have together, as their newest samples say.
#[derive(Default, Serialize, ToSchema)]
pub struct Capacity {
    /// Thousandths of a core.
    cpu_millis: u64,
    /// Memory.
    memory_bytes: u64,
    /// Of this, in use.
    memory_used_bytes: u64,
    /// Disk.
    disk_bytes: u64,
    /// Of this, in use.
    disk_used_bytes: u64,
}

/// The installation in figures
#[utoipa::path(get, path = "/admin/overview", operation_id = "overview", tag = "installation",
    responses((status = 200, body = Overview)))]
pub async fn overview(app: Shared) -> Result<Response, Problem> {
    let mut told = Overview {
        people: match app.database.population().await {
            Ok(row) => Some(row.into()),
            Err(error) if *error.kind() == StoreErrorKind::Unavailable => None,
            Err(error) => return Err(error.into()),
        },
        ..Overview::default()
    };
    let fleet = app.fleet()?;
    for (_, host) in fleet.hosts.page(None, usize::MAX, |_| true) {
        *told.hosts.entry(host.record.state.as_str()).or_default() += 1;
        let capacity = &mut told.capacity;
        capacity.cpu_millis += u64::from(host.record.facts.cpu_count) * 1000;
        if let Some(sample) = &host.sample {
            let figures = &sample.value.host;
            capacity.memory_bytes = capacity.memory_bytes.saturating_add(figures.memory_total_bytes);
            capacity.memory_used_bytes = capacity.memory_used_bytes.saturating_add(figures.memory_used_bytes);
            for disk in &figures.disks {
                capacity.disk_bytes = capacity.disk_bytes.saturating_add(disk.total_bytes);
                capacity.disk_used_bytes = capacity.disk_used_bytes.saturating_add(disk.used_bytes);
            }
        }
    }
    for (_, pod) in fleet.pods.page(None, usize::MAX, |pod| !super::pods::is_deleted(pod)) {
        *told.pods.entry(pod.phase().map_or("no_record", PodPhase::as_str)).or_default() += 1;
        told.allotted = told.allotted.plus(Amount::of_pod(&pod));
    }
    for (_, operation) in app.live.operations.board.page(None, usize::MAX, |_| true) {
        match operation.known.progress() {
            Progress::Waiting => told.operations_waiting += 1,
            Progress::Running => told.operations_running += 1,
            _ => {}
        }
    }
    Ok(json(&told))
}
