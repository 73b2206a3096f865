//! Pods of a host that is away are lost: nobody knows how they are, and nothing is done about them until it is back. Then
//! [containers](super::containers) says what they are.

use pinacle_bus::{
    client::Entry,
    contract::{
        host::HostState,
        pod::{PodPhase, PodRecord},
    },
};

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
            if record.phase == PodPhase::Deleted {
                continue;
            }
            if host.disabled {
                report.repaired += u64::from(say_disabled(context, &pod.entry, &host.name).await?);
                continue;
            }
            if host.state != HostState::Offline {
                report.repaired += u64::from(take_back(context, &pod.entry).await?);
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

/// What a pod of a disabled host is said to be, behind the host's name.
const GOES_ON: &str = "is disabled: the pod goes on there, but nobody watches it";

/// A disabled host's silence is wanted, and its pods go on; they say so.
async fn say_disabled(context: &Context, pod: &Entry<PodRecord>, host: &str) -> Result<bool, ReconcileError> {
    let cause = format!("its host {host} {GOES_ON}");
    let record = &pod.record;
    if !is_idle(record) || !is_alive(record.phase) || record.cause.as_ref() == Some(&cause) {
        return Ok(false);
    }
    context.change(pod, |record| record.cause = Some(cause)).await
}

/// The host was enabled again.
async fn take_back(context: &Context, pod: &Entry<PodRecord>) -> Result<bool, ReconcileError> {
    if !is_idle(&pod.record) || !pod.record.cause.as_ref().is_some_and(|cause| cause.ends_with(GOES_ON)) {
        return Ok(false);
    }
    context.change(pod, |record| record.cause = None).await
}

/// Whether a record says something of a pod that nobody can know while its host is away. A pod that waits to be started
/// again is [`PodPhase::Starting`] without an operation.
fn is_alive(phase: PodPhase) -> bool {
    matches!(phase, PodPhase::Running | PodPhase::Paused | PodPhase::Stopped | PodPhase::Starting)
}
