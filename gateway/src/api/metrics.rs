//! Series of figures, from the history.

use axum::response::Response;
use chrono::TimeDelta;
use pinacle_bus::contract::Timestamp;
use pinacle_store::{Scope, SeriesQuery, StoreError, StoreErrorKind};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Shared, hosts, json, pods, schema};
use crate::{
    extract::{FromPath, FromQuery},
    identity::Identity,
    problem::{Code, Problem},
};

/// What people look at when they do not say what.
const USUAL: std::time::Duration = std::time::Duration::from_secs(60 * 60);
const LONGEST_STEP: u32 = 31 * 24 * 60 * 60;

/// Which part of a series.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesParameters {
    /// From this time on; an hour before `to` if not given.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this time; now if not given.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Seconds of one point; a readable number of points if not given. It is raised where data is coarser, or where there
    /// would be more than 2000 points.
    #[param(minimum = 1, maximum = 2678400)]
    step: Option<u32>,
}

impl SeriesParameters {
    fn query(&self) -> Result<SeriesQuery, Problem> {
        let to = self.to.unwrap_or_else(Timestamp::now);
        let from = self.from.unwrap_or_else(|| to.minus(USUAL));
        if from >= to {
            return Err(Problem::field(Code::InvalidParameter, "from", "must be before to"));
        }
        if self.step.is_some_and(|step| !(1..=LONGEST_STEP).contains(&step)) {
            let message = format!("must be from 1 to {LONGEST_STEP} seconds");
            return Err(Problem::field(Code::InvalidParameter, "step", message));
        }
        let step = self.step.map(|step| TimeDelta::seconds(step.into()));
        Ok(SeriesQuery { from: from.as_utc(), to: to.as_utc(), step })
    }
}

/// A host's figures over time
///
/// Averages and maxima a step, from samples or from their rollups, whichever fits the step. Steps without samples have no
/// point.
#[utoipa::path(get, path = "/hosts/{host}/metrics", operation_id = "host_metrics", tag = "hosts",
    params(("host" = String, Path, description = "id or name"), SeriesParameters),
    responses((status = 200, body = schema::Series<schema::HostPoint>)))]
pub async fn host(
    app: Shared,
    identity: Identity,
    FromPath(host): FromPath<String>,
    FromQuery(parameters): FromQuery<SeriesParameters>,
) -> Result<Response, Problem> {
    let (host, _) = hosts::visible(&app, &identity, &host)?;
    let query = parameters.query()?;
    let series = app.database.host_metrics_series(&Scope::All, &host.to_string(), query).await;
    Ok(json(&series.map_err(|error| not_yet(error, Code::HostNotFound))?))
}

/// A pod's figures over time
///
/// As for hosts; rates are the differences of totals.
#[utoipa::path(get, path = "/pods/{pod}/metrics", operation_id = "pod_metrics", tag = "pods",
    params(("pod" = String, Path, description = "id or name"), SeriesParameters),
    responses((status = 200, body = schema::Series<schema::PodPoint>)))]
pub async fn pod(
    app: Shared,
    identity: Identity,
    FromPath(pod): FromPath<String>,
    FromQuery(parameters): FromQuery<SeriesParameters>,
) -> Result<Response, Problem> {
    let (pod, _) = pods::find(&app, &identity, &pod)?;
    let query = parameters.query()?;
    let series = app.database.pod_metrics_series(identity.scope(), &pod.to_string(), query).await;
    Ok(json(&series.map_err(|error| not_yet(error, Code::PodNotFound))?))
}

/// What has just come to life is live before the history has it.
fn not_yet(error: StoreError, missing: Code) -> Problem {
    if *error.kind() == StoreErrorKind::NotFound {
        Problem::new(missing, "the history does not have it yet; try again in a moment")
    } else {
        error.into()
    }
}
