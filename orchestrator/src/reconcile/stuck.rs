//! Operations and queues that nobody works on, deletions that were not taken up, and records of pods that are long gone.

use std::time::Duration;

use pinacle_bus::contract::{
    Timestamp,
    pod::{Desired, PodPhase, PodRecord},
};

use super::{
    ReconcileError, Reconciler, Report,
    context::{Context, enqueue, is_idle},
};
use crate::{lease::won, operation::plan::Verb};

/// A copy takes up what another left within a few times a lease; what nobody has written for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub struct Stuck;

impl Reconciler for Stuck {
    const NAME: &'static str = "stuck";

    async fn run(&mut self, context: &Context) -> Result<Report, ReconcileError> {
        let mut report = Report::default();
        let kept = Duration::from_millis(context.settings.deleted_kept_ms);
        for pod in context.view.pods() {
            let record = &pod.entry.record;
            report.examined += 1;
            match judge(record, pod.since.elapsed(), kept, Timestamp::now()) {
                Verdict::Fine => {}
                Verdict::Forget => {
                    let key = record.pod_id.to_string();
                    report.repaired += u64::from(won(context.pods.delete(&key, pod.entry.revision).await)?);
                }
                Verdict::Delete => {
                    let change = |record: &mut PodRecord| {
                        let _is_full = !enqueue(record, Verb::Delete);
                    };
                    report.repaired += u64::from(context.change(&pod.entry, change).await?);
                }
                Verdict::Stuck(what) => {
                    // Somebody may hold it and be slow, such as a copy at the limit of what it does at once.
                    let lease = context.leases.get(&record.pod_id.to_string()).await?;
                    let who = lease.map_or("nobody".into(), |lease| lease.record.holder);
                    report.find_pod(record.pod_id, format!("{}: {what}; {who} works on it", record.name));
                }
            }
        }
        Ok(report)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// Its record is removed.
    Forget,
    /// Its deletion is taken up again. A placed pod's is so once its host answers: see [`super::containers`].
    Delete,
    Stuck(&'static str),
}

/// `unchanged` is for how long the record has been as it is.
fn judge(record: &PodRecord, unchanged: Duration, kept: Duration, now: Timestamp) -> Verdict {
    let is_deleted = record.phase == PodPhase::Deleted;
    if is_idle(record) && is_deleted && !record.residue {
        return if record.phase_since.plus(kept) < now { Verdict::Forget } else { Verdict::Fine };
    }
    if unchanged < PATIENCE {
        return Verdict::Fine;
    }
    match &record.operation {
        None if !record.queue.is_empty() => Verdict::Stuck("requests wait, and none is taken up"),
        None if record.desired == Desired::Deleted && record.host_id.is_none() && !is_deleted => Verdict::Delete,
        Some(operation) if operation.ended_at.is_some() => {
            Verdict::Stuck("its operation has ended, and the next one does not begin")
        }
        Some(operation) if operation.deadline_at.plus(PATIENCE) < now => {
            Verdict::Stuck("its operation should have ended by now")
        }
        _ => Verdict::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::context::settle;
    use crate::sample;

    const KEPT: Duration = Duration::from_secs(3600);

    #[test]
    fn a_deleted_pods_record_is_removed_once_it_was_kept_long_enough() {
        let mut record = sample::pod();
        settle(&mut record, PodPhase::Deleted, None);
        record.desired = Desired::Deleted;
        let later = |seconds| record.phase_since.plus(Duration::from_secs(seconds));
        assert_eq!(judge(&record, PATIENCE, KEPT, later(3599)), Verdict::Fine);
        assert_eq!(judge(&record, Duration::ZERO, KEPT, later(3601)), Verdict::Forget);
        record.residue = true;
        assert_eq!(judge(&record, PATIENCE, KEPT, later(3601)), Verdict::Fine);
    }

    #[test]
    fn what_nobody_has_taken_up_for_a_minute_is_found() {
        let mut record = sample::pod();
        assert!(enqueue(&mut record, Verb::Stop));
        assert_eq!(judge(&record, PATIENCE / 2, KEPT, Timestamp::now()), Verdict::Fine);
        assert!(matches!(judge(&record, PATIENCE, KEPT, Timestamp::now()), Verdict::Stuck(_)));
    }

    #[test]
    fn a_deletion_that_was_given_up_before_a_host_was_found_is_taken_up_again() {
        let mut record = sample::pod();
        (record.desired, record.host_id) = (Desired::Deleted, None);
        assert_eq!(judge(&record, PATIENCE, KEPT, Timestamp::now()), Verdict::Delete);
    }
}
