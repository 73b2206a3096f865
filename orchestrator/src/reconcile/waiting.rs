//! Pods that wait for room: which, and why each host does not have it. Placement itself wakes up when hosts or ledgers
//! change; this is where one can look.

use pinacle_bus::contract::{pod::PodRecord, request::Progress};

use super::{ReconcileError, Reconciler, Report, context::Context};
use crate::operation::plan::Step;

/// See the module.
#[derive(Default)]
pub struct Waiting;

impl Reconciler for Waiting {
    const NAME: &'static str = "waiting";

    async fn run(&mut self, context: &Context) -> Result<Report, ReconcileError> {
        let mut report = Report::default();
        for pod in context.view.pods() {
            report.examined += 1;
            let record = &pod.entry.record;
            if let Some(why) = waits_for_room(record) {
                report.find_pod(record.pod_id, format!("{} waits for room: {why}", record.name));
            }
        }
        Ok(report)
    }
}

/// Why a pod has no host yet.
fn waits_for_room(record: &PodRecord) -> Option<&str> {
    let operation = record.operation.as_ref().filter(|operation| operation.ended_at.is_none())?;
    let is_placing = |label: &str, progress| label == Step::Place.label() && progress == Progress::Running;
    let step = operation.steps.iter().find(|step| is_placing(&step.label, step.progress))?;
    step.note.as_deref()
}
