//! Pods of a host that is away are lost: nobody knows how they are, and nothing is done about them until it is back. Then
//! [containers](super::containers) says what they are.

use pinacle_bus::contract::{host::HostState, pod::PodPhase};

use super::{
    ReconcileError, Reconciler, Report,
    context::{Context, is_idle, settle},
};

/// See the module.
#[derive(Default)]
pub struct HostsAway;

impl Reconciler for HostsAway {
    const NAME: &'static str = "hosts-away";

    async fn run(&mut self, context: &Context) -> Result<Report, ReconcileError> {
        let mut report = Report::default();
        for pod in context.view.pods() {
            let record = &pod.entry.record;
            let Some(host) = record.host_id.and_then(|host| context.view.host(host)) else { continue };
            report.examined += 1;
            if host.state != HostState::Offline || record.phase == PodPhase::Deleted {
                continue;
            }
            if is_idle(record) && is_alive(record.phase) {
                let cause = format!("its host {} is away since {}", host.name, host.state_since);
                let change = |record: &mut _| settle(record, PodPhase::Lost, Some(cause));
                report.repaired += u64::from(context.change(&pod.entry, change).await?);
            }
            report.find_pod(record.pod_id, format!("{} waits for its host {} to be back", record.name, host.name));
        }
        Ok(report)
    }
}

/// Whether a record says something of a pod that nobody can know while its host is away. A pod that waits to be started
/// again is [`PodPhase::Starting`] without an operation.
fn is_alive(phase: PodPhase) -> bool {
    matches!(phase, PodPhase::Running | PodPhase::Paused | PodPhase::Stopped | PodPhase::Starting)
}
