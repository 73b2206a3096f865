//! Series for people: the finest data that the step needs and that is still there, at most [`MOST_POINTS`] of it.

mod point;
#[cfg(test)]
mod tests;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::Serialize;

pub use point::{HostPoint, PodPoint};

use crate::{
    Database, Partitioned, Scope, StoreError, StoreErrorKind,
    rollup::{HOST, POD, Rollup},
};

/// A series never has more points.
const MOST_POINTS: i64 = 2000;
/// How many points are about right when nobody asked for a step.
const USUAL_POINTS: i64 = 300;
/// Steps that people read easily, in seconds.
const USUAL_STEPS: [i64; 10] = [5, 10, 30, 60, 300, 900, 3600, 10_800, 21_600, 86_400];
const QUERY: &str = "read a series";

/// Which part of a series is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesQuery {
    /// From this time on.
    pub from: DateTime<Utc>,
    /// Before this time.
    pub to: DateTime<Utc>,
    /// The time of one point; `None` = whatever makes a readable series. It is raised where data is coarser, or where
    /// there would be too many points.
    pub step: Option<TimeDelta>,
}

/// What a series is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Samples as they came.
    Raw,
    /// Rollups of a minute.
    Minute,
    /// Rollups of an hour.
    Hour,
}

/// A series. Times without samples have no point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series<P> {
    /// What it is made from.
    pub resolution: Resolution,
    /// The time of one point; a point's time is its start.
    pub step_seconds: i64,
    /// In the order of time.
    pub points: Vec<P>,
}

impl Database {
    /// A host's series.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Data`] when the range is none, [`StoreErrorKind::Unavailable`].
    pub async fn host_metrics_series(
        &self,
        scope: &Scope,
        id_or_name: &str,
        query: SeriesQuery,
    ) -> Result<Series<HostPoint>, StoreError> {
        let host = self.host_get(scope, id_or_name).await?;
        self.series(&HOST, &host.host_id, query).await
    }

    /// A pod's series. Of a pod without a record [`Scope::All`] sees the samples, by the pod's id.
    ///
    /// # Errors
    /// As for [`host_metrics_series`](Self::host_metrics_series).
    pub async fn pod_metrics_series(
        &self,
        scope: &Scope,
        id_or_name: &str,
        query: SeriesQuery,
    ) -> Result<Series<PodPoint>, StoreError> {
        let pod_id = match self.pod_get(scope, id_or_name).await {
            Ok(pod) => pod.pod_id,
            // Samples may come before the pod's record; until then they are nobody's but the installation's.
            Err(error) if scope.is_all() && *error.kind() == StoreErrorKind::NotFound => id_or_name.to_owned(),
            Err(error) => return Err(error),
        };
        let mut series = self.series(&POD, &pod_id, before_by_one_step(query)).await?;
        point::derive_rates(&mut series.points, series.step_seconds);
        series.points.retain(|point: &PodPoint| point.time + TimeDelta::seconds(series.step_seconds) > query.from);
        Ok(series)
    }

    async fn series<P: FromQueryResult + Send + Sync>(
        &self,
        rollup: &'static Rollup,
        id: &str,
        query: SeriesQuery,
    ) -> Result<Series<P>, StoreError> {
        let mut step = step_of(query)?;
        let mut resolution = finest_for(step);
        if resolution == Resolution::Raw && self.is_gone(rollup, Resolution::Raw, id, query.from).await? {
            (resolution, step) = (Resolution::Minute, rounded_up(step, 60));
        }
        if resolution == Resolution::Minute && self.is_gone(rollup, Resolution::Minute, id, query.from).await? {
            (resolution, step) = (Resolution::Hour, rounded_up(step, 3600));
        }
        let sql = match resolution {
            Resolution::Raw => rollup.series_of_samples(),
            Resolution::Minute => rollup.series_of_minutes(),
            Resolution::Hour => rollup.series_of_hours(),
        };
        let (from, to) = aligned(query, step);
        #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^52 seconds")]
        let values = [id.into(), from.into(), to.into(), (step as f64).into()];
        let select = P::find_by_statement(Self::statement(&sql, values));
        let points = self.within(QUERY, select.all(self.orm())).await?;
        Ok(Series { resolution, step_seconds: step, points })
    }

    /// Whether this resolution no longer holds what a coarser one does. Before the oldest day both may be empty,
    /// on a young installation: then the finer one is as good.
    async fn is_gone(
        &self,
        rollup: &'static Rollup,
        resolution: Resolution,
        id: &str,
        from: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let Rollup { table, key, .. } = rollup;
        let (kind, finer, coarser) = match resolution {
            Resolution::Raw => (Partitioned::Raw, (*table).to_owned(), ["1m", "1h"].as_slice()),
            Resolution::Minute => (Partitioned::Minute, format!("{table}_1m"), ["1h"].as_slice()),
            Resolution::Hour => return Ok(false),
        };
        let days = self.partitions_list(kind).await?;
        let oldest = days.iter().find(|partition| partition.table == finer).map(|partition| partition.day);
        let oldest = start_of(oldest.unwrap_or(Utc::now().date_naive()));
        if from >= oldest {
            return Ok(false);
        }
        let exists = coarser
            .iter()
            .map(|level| format!("EXISTS (SELECT FROM {table}_{level} WHERE {key} = $1 AND time >= $2 AND time < $3)"));
        let sql = format!("SELECT 1 WHERE {}", exists.collect::<Vec<_>>().join(" OR "));
        let statement = Self::statement(&sql, [id.into(), from.into(), oldest.into()]);
        Ok(self.within(QUERY, self.orm().query_one_raw(statement)).await?.is_some())
    }
}

fn start_of(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

fn finest_for(step: i64) -> Resolution {
    match step {
        ..60 => Resolution::Raw,
        60..3600 => Resolution::Minute,
        _ => Resolution::Hour,
    }
}

/// The step in whole seconds, such that there are not too many points and that rollups fit into it.
fn step_of(query: SeriesQuery) -> Result<i64, StoreError> {
    let span = (query.to - query.from).num_seconds();
    if span <= 0 {
        return Err(StoreError::new(QUERY, StoreErrorKind::Data));
    }
    let wanted = match query.step {
        Some(step) => step.num_seconds().max(1),
        None => {
            let fits = |step: &i64| span / step <= USUAL_POINTS;
            USUAL_STEPS.into_iter().find(fits).unwrap_or(span / USUAL_POINTS)
        }
    };
    // Two more than the span holds, since its ends are rounded outwards.
    let step = wanted.max((span / (MOST_POINTS - 2)) + 1);
    Ok(match finest_for(step) {
        Resolution::Raw => step,
        Resolution::Minute => rounded_up(step, 60),
        Resolution::Hour => rounded_up(step, 3600),
    })
}

fn rounded_up(step: i64, to: i64) -> i64 {
    (step + to - 1) / to * to
}

/// The range, widened to whole steps, so that the first and the last point are as complete as the others.
fn aligned(query: SeriesQuery, step: i64) -> (DateTime<Utc>, DateTime<Utc>) {
    let from = query.from.timestamp().div_euclid(step) * step;
    // Half a second more is another step.
    let to = (query.to.timestamp_millis() + 999).div_euclid(1000);
    let to = (to + step - 1).div_euclid(step) * step;
    let time = |seconds| DateTime::from_timestamp(seconds, 0);
    (time(from).unwrap_or(query.from), time(to).unwrap_or(query.to))
}

/// A rate needs the point before it.
fn before_by_one_step(query: SeriesQuery) -> SeriesQuery {
    let step = step_of(query).map_or(TimeDelta::zero(), TimeDelta::seconds);
    SeriesQuery { from: query.from.checked_sub_signed(step).unwrap_or(query.from), ..query }
}
