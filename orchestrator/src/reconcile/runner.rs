//! Runs a reconciler on a timer and on a nudge, while it is this copy's turn, and tells what it found.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use metrics::{counter, gauge, histogram};
use pinacle_bus::{
    contract::{
        Timestamp,
        reconciler::{Finding, MOST_FINDINGS, ReconcilerStatus},
    },
    service::{OnFailure, Supervisor},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{info, warn};

use super::{ReconcileError, Reconciler, Report, context::Context};
use crate::lease::{Claim, won};

/// A run may take no longer; what is not done then is done in the next one. Shorter than its lease is good for.
const RUN_WITHIN: Duration = Duration::from_secs(15);
/// A lease on a reconciler is good for longer than a run may take, and for less than the bucket keeps leases.
const VALID: Duration = Duration::from_secs(20);
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Nudges come in bursts.
const GATHER: Duration = Duration::from_secs(1);

/// Runs `R` as a task of `supervisor`.
pub fn spawn<R: Reconciler>(supervisor: &Supervisor, context: &Context) {
    let context = context.clone();
    supervisor.spawn(format!("reconciler {}", R::NAME), OnFailure::Restart, move || {
        let context = context.clone();
        async move { keep_running::<R>(&context).await }
    });
}

async fn keep_running<R: Reconciler>(context: &Context) -> anyhow::Result<()> {
    let every = Duration::from_millis(context.settings.reconcile_ms);
    let mut reconciler = R::default();
    let mut turn = Claim::new(context.leases.clone(), format!("reconciler-{}", R::NAME), &context.holder, VALID);
    let mut nudges = context.view.nudges();
    let mut renewals = interval(RENEW_EVERY);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_ours, mut due, mut nudged) = (false, Instant::now(), true);
    loop {
        tokio::select! {
            // cancel-safe: a timer.
            () = sleep_until(due) => {
                is_ours = context.view.is_complete() && turn.take().await.unwrap_or(false);
                due = Instant::now() + if context.view.is_complete() { every } else { GATHER };
                if is_ours {
                    nudges.mark_unchanged();
                    let again_in = run(&mut reconciler, context).await;
                    due = due.min(Instant::now() + again_in.unwrap_or(every).max(GATHER));
                }
                nudged = false;
            }
            // cancel-safe: a watch keeps its value.
            told = nudges.changed(), if !nudged => {
                told?;
                nudged = true;
                due = due.min(Instant::now() + GATHER.min(every));
            }
            // cancel-safe: a timer.
            _ = renewals.tick(), if is_ours => is_ours = turn.take().await.unwrap_or(false),
            // cancel-safe: only observed.
            () = context.shutdown.cancelled() => {
                if is_ours {
                    turn.give_back().await;
                }
                return Ok(());
            }
        }
    }
}

/// One run, and its status. Returns when the next one is due, if not on the timer.
async fn run<R: Reconciler>(reconciler: &mut R, context: &Context) -> Option<Duration> {
    let began = Instant::now();
    let work = AssertUnwindSafe(reconciler.run(context)).catch_unwind();
    let (report, error) = match timeout(RUN_WITHIN, work).await {
        Ok(Ok(Ok(report))) => (report, None),
        Ok(Ok(Err(error))) => (Report::default(), Some(error)),
        Ok(Err(_)) => {
            // Whatever it remembered may be half-changed.
            *reconciler = R::default();
            (Report::default(), Some(ReconcileError::Panicked))
        }
        Err(_) => (Report::default(), Some(ReconcileError::TooLong(RUN_WITHIN))),
    };
    let took = began.elapsed();
    let outcome = if error.is_some() { "failed" } else { "done" };
    counter!("pinacle_orchestrator_reconciler_runs_total", "name" => R::NAME, "outcome" => outcome).increment(1);
    counter!("pinacle_orchestrator_reconciler_repairs_total", "name" => R::NAME).increment(report.repaired);
    histogram!("pinacle_orchestrator_reconciler_seconds", "name" => R::NAME).record(took);
    #[expect(clippy::cast_precision_loss, reason = "findings are few")]
    gauge!("pinacle_orchestrator_reconciler_findings", "name" => R::NAME).set(report.findings.len() as f64);
    if let Some(error) = &error {
        warn!(reconciler = R::NAME, %error, "a reconciler's run failed; it runs again");
    }
    if report.repaired > 0 {
        info!(reconciler = R::NAME, repaired = report.repaired, "a reconciler set something right");
    }
    let again_in = report.again_in;
    let status = ReconcilerStatus {
        name: R::NAME.into(),
        holder: context.holder.to_string(),
        ran_at: Timestamp::now(),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        examined: report.examined,
        repaired: report.repaired,
        findings: report.findings,
        error: error.map(|error| crate::tell::line(&error.to_string())),
    };
    if let Err(error) = tell(context, status).await {
        warn!(reconciler = R::NAME, %error, "a reconciler's status was not written");
    }
    again_in
}

/// Writes the status of a run.
async fn tell(context: &Context, mut status: ReconcilerStatus) -> Result<(), ReconcileError> {
    let key = status.name.clone();
    let before = context.statuses.get(&key).await?;
    if let Some(before) = &before {
        keep_since(&mut status.findings, &before.record.findings);
    }
    // The oldest first: what has been wrong for long is not cut off by what is new.
    status.findings.sort_by_key(|finding| finding.since);
    status.findings.truncate(MOST_FINDINGS);
    won(match before {
        Some(before) => context.statuses.update(&key, &status, before.revision).await,
        None => context.statuses.create(&key, &status).await,
    })?;
    Ok(())
}

/// A finding that was there in the run before is as old as it was then.
fn keep_since(findings: &mut [Finding], before: &[Finding]) {
    for finding in findings {
        let same = |other: &&Finding| {
            (&other.kind, &other.target_id, &other.what) == (&finding.kind, &finding.target_id, &finding.what)
        };
        if let Some(known) = before.iter().find(same) {
            finding.since = known.since;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_that_lasts_keeps_its_beginning() {
        let mut old = Report::default();
        old.find("pod", "pod_1", "is away");
        old.findings[0].since = Timestamp::from_millis(1000).unwrap();
        let mut new = Report::default();
        new.find("pod", "pod_1", "is away");
        new.find("pod", "pod_1", "is strange");
        keep_since(&mut new.findings, &old.findings);
        assert_eq!(new.findings[0].since, old.findings[0].since);
        assert_ne!(new.findings[1].since, old.findings[0].since);
    }
}
