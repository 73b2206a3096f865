//! What is done on a clock: partitions made ahead and dropped, old rows deleted, samples rolled up.
//!
//! Every run is repeatable and takes no input; several copies of the service may run them at once, since the store takes
//! locks that the second one does not wait for.

use std::time::Duration;

use chrono::{Days, NaiveDate, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use pinacle_bus::service::{OnFailure, Supervisor};
use pinacle_store::{Database, Expiring, Partitioned, StoreError};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::{
    gate::{Gate, chain},
    settings::IngestSettings,
    throttle::Throttle,
};

/// Days that have their partitions before their first sample.
const DAYS_AHEAD: u64 = 2;
/// Rows that are deleted in one statement.
const DELETE_AT_ONCE: u32 = 5000;

/// What is done at each tick.
type Run = fn(Clock) -> BoxFuture<'static, Result<(), StoreError>>;

/// The tasks of the clock. Cheap to clone.
#[derive(Clone)]
pub struct Clock {
    /// Where everything is.
    pub database: Database,
    /// Whether it is there now.
    pub gate: Gate,
    /// How often, and how long things are kept.
    pub settings: IngestSettings,
    /// Begin nothing new.
    pub shutdown: CancellationToken,
}

impl Clock {
    /// Starts the tasks.
    pub fn spawn(&self, supervisor: &Supervisor) {
        let retention = Duration::from_secs(self.settings.retention_interval_s);
        let rollups = Duration::from_millis(self.settings.rollup_interval_ms);
        self.spawn_one(supervisor, "partitions", retention, |clock| async move { clock.partitions().await }.boxed());
        self.spawn_one(supervisor, "retention", retention, |clock| async move { clock.retention().await }.boxed());
        self.spawn_one(supervisor, "rollups", rollups, |clock| async move { clock.rollups().await }.boxed());
    }

    fn spawn_one(&self, supervisor: &Supervisor, name: &'static str, every: Duration, run: Run) {
        let clock = self.clone();
        supervisor.spawn(name, OnFailure::Restart, move || {
            let clock = clock.clone();
            async move {
                clock.tick(name, every, run).await;
                Ok(())
            }
        });
    }

    async fn tick(self, name: &'static str, every: Duration, run: Run) {
        let mut timer = interval(every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let throttle = Throttle::default();
        loop {
            tokio::select! {
                // cancel-safe: a timer that keeps its ticks, and a wait for a level.
                () = async { timer.tick().await; self.gate.opened().await } => {}
                // cancel-safe: only observed.
                () = self.shutdown.cancelled() => return,
            }
            let result = tokio::select! {
                // cancel-safe: not dropped before it ends, but for the stop below.
                result = run(self.clone()) => result,
                // cancel-safe: a run that is cut off changed nothing, or what the next one finds done.
                () = self.shutdown.cancelled() => return,
            };
            let outcome = match &result {
                Ok(()) => "done",
                Err(fault) => {
                    // Whether Postgres is away is for the probe to find: a run here may fail for what it asks for.
                    if let Some(held_back) = throttle.tell() {
                        error!(
                            task = name,
                            reason = chain(fault),
                            held_back,
                            "a run on the clock failed; it is tried again"
                        );
                    }
                    "failed"
                }
            };
            metrics::counter!("pinacle_ingest_clock_runs_total", "task" => name, "outcome" => outcome).increment(1);
        }
    }

    async fn partitions(&self) -> Result<(), StoreError> {
        let today = Utc::now().date_naive();
        let made = self.database.partitions_ensure(today, today + Days::new(DAYS_AHEAD)).await?;
        if made.changed > 0 {
            info!(partitions = made.changed, "made partitions ahead");
        }
        for (kind, days) in
            [(Partitioned::Raw, self.settings.raw_days), (Partitioned::Minute, self.settings.minute_days)]
        {
            let dropped = self.database.partitions_drop(kind, first_kept(today, days)).await?;
            if dropped.changed > 0 {
                info!(partitions = dropped.changed, ?kind, days, "dropped partitions whose time is over");
            }
        }
        Ok(())
    }

    async fn retention(&self) -> Result<(), StoreError> {
        let settings = &self.settings;
        for what in Expiring::ALL {
            let days = match what {
                Expiring::HourRollups => settings.hour_days,
                Expiring::Events => settings.event_days,
                Expiring::Requests => settings.request_days,
                Expiring::Exec => settings.exec_days,
                Expiring::DeadLetters => settings.dead_letter_days,
            };
            let Some(before) = Utc::now().checked_sub_days(Days::new(days.into())) else { continue };
            let mut deleted = 0;
            loop {
                match self.database.expired_delete(what, before, DELETE_AT_ONCE).await? {
                    0 => break,
                    rows => deleted += rows,
                }
            }
            if deleted > 0 {
                info!(rows = deleted, ?what, days, "deleted what is too old");
                metrics::counter!("pinacle_ingest_expired_rows_total").increment(deleted);
            }
        }
        Ok(())
    }

    async fn rollups(&self) -> Result<(), StoreError> {
        let limit = u32::try_from(self.settings.rollup_batch).unwrap_or(u32::MAX);
        loop {
            let done = self.database.rollup_run(limit).await?;
            if done.busy {
                return Ok(());
            }
            metrics::counter!("pinacle_ingest_rollups_total", "of" => "minute").increment(done.minutes);
            metrics::counter!("pinacle_ingest_rollups_total", "of" => "hour").increment(done.hours);
            metrics::gauge!("pinacle_ingest_rollups_pending").set(done.remaining as f64);
            debug!(minutes = done.minutes, hours = done.hours, remaining = done.remaining, "rolled samples up");
            if done.remaining == 0 {
                return Ok(());
            }
        }
    }
}

/// The oldest day that is kept. A sample just within the limit is of this day, so all of it stays.
fn first_kept(today: NaiveDate, days: u32) -> NaiveDate {
    today.checked_sub_days(Days::new(days.into())).unwrap_or(NaiveDate::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_of_the_oldest_sample_that_is_taken_is_kept() {
        let today = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        assert_eq!(first_kept(today, 7), NaiveDate::from_ymd_opt(2026, 2, 22).unwrap());
        assert_eq!(first_kept(NaiveDate::MIN, 7), NaiveDate::MIN);
    }
}
