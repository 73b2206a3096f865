//! Live records against inventories: containers that ended, came back, or were changed or removed by hand, and the
//! restart policy.
//!
//! The newest inventory only raises a suspicion. Then the host's agent is asked what is there now, after the record was
//! read; and the record is changed only if nobody has changed it since it was read. So neither clocks nor the order of
//! arrival matter.

mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use pinacle_bus::{
    client::Entry,
    contract::{
        HostId, PodId, Timestamp,
        command::Logs,
        host::HostRecord,
        pod::{PodPhase, PodRecord},
    },
};
use tracing::info;

use super::{
    ReconcileError, Reconciler, Report,
    context::{Context, enqueue, is_idle, is_there, settle},
};
use crate::{
    operation::plan::Verb,
    view::{OnHost, Seen},
};
use judge::{Facts, Found, Rules, Verdict, judge};

/// Agents gather Docker's events for a moment: what they say of a pod that changed just now may be from before.
const YOUNG: Duration = Duration::from_millis(1500);
const HOSTS_AT_ONCE: usize = 16;
const LAST_LINES: u32 = 20;
const LAST_OUTPUT_CHARACTERS: usize = 600;
const LOGS_WITHIN: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Default)]
pub struct Containers {
    /// The boot of each host in which this copy last saw a pod run. After a restart of this copy an unknown one counts
    /// as the same: at worst a pod's end is counted that was its host's.
    boots: BTreeMap<PodId, String>,
}

impl Reconciler for Containers {
    const NAME: &'static str = "containers";

    async fn run(&mut self, context: &Context) -> Result<Report, ReconcileError> {
        let mut report = Report::default();
        let mut placed: BTreeMap<HostId, Vec<Arc<Seen<PodRecord>>>> = BTreeMap::new();
        for pod in context.view.pods() {
            let record = &pod.entry.record;
            if let (Some(host), true) = (record.host_id, is_idle(record) && record.phase != PodPhase::Deleted) {
                placed.entry(host).or_default().push(pod);
            }
        }
        let known: BTreeSet<PodId> = placed.values().flatten().map(|pod| pod.entry.record.pod_id).collect();
        self.boots.retain(|pod, _| known.contains(pod));
        let hosts = placed.into_iter().filter_map(|(host, pods)| {
            let host = context.view.host(host).filter(|host| is_there(host))?;
            let on_host = context.view.on_host(host.host_id)?;
            Some((host, on_host, pods))
        });
        let boots = &self.boots;
        let looked: Vec<_> = stream::iter(hosts)
            .map(|(host, on_host, pods)| look_at(context, boots, host, on_host, pods))
            .buffer_unordered(HOSTS_AT_ONCE)
            .collect()
            .await;
        for outcome in looked {
            let looked = outcome?;
            report.examined += looked.report.examined;
            report.repaired += looked.report.repaired;
            report.findings.extend(looked.report.findings);
            if let Some(wait) = looked.report.again_in {
                report.again_in(wait);
            }
            self.boots.extend(looked.boots);
        }
        Ok(report)
    }
}

#[derive(Default)]
struct Looked {
    report: Report,
    boots: Vec<(PodId, String)>,
}

/// Compares a host's pods with what it says of them.
async fn look_at(
    context: &Context,
    boots: &BTreeMap<PodId, String>,
    host: Arc<HostRecord>,
    mut on_host: Arc<OnHost>,
    pods: Vec<Arc<Seen<PodRecord>>>,
) -> Result<Looked, ReconcileError> {
    let mut looked = Looked::default();
    let rules = Rules::from(&*context.settings);
    let mut is_fresh = false;
    for pod in pods {
        let record = &pod.entry.record;
        looked.report.examined += 1;
        let boot = boots.get(&record.pod_id);
        let facts = facts_of(record, &on_host, boot);
        if facts.found == Found::Running {
            looked.boots.push((record.pod_id, on_host.boot_id.clone()));
        }
        match judge(record, facts, rules, Timestamp::now()) {
            Verdict::Nothing => continue,
            Verdict::Wait(wait) => {
                looked.report.again_in(wait);
                continue;
            }
            _ if on_host.truncated && facts.found == Found::Absent => continue,
            verdict => {
                // What is asked for and comes to nothing is asked for again at the timer's pace, not at once.
                let every = Duration::from_millis(context.settings.reconcile_ms);
                let age = if matches!(verdict, Verdict::Ask(..)) { YOUNG.max(every) } else { YOUNG };
                let wait = age.saturating_sub(pod.since.elapsed());
                if !wait.is_zero() {
                    looked.report.again_in(wait);
                    continue;
                }
            }
        }
        if !is_fresh {
            match context.look(host.host_id).await {
                Ok(now) => (on_host, is_fresh) = (Arc::new(now), true),
                Err(error) => {
                    let what = format!("{} is not as its record says, but {error}", record.name);
                    looked.report.find_host(host.host_id, what);
                    return Ok(looked);
                }
            }
        }
        if !on_host.docker_is_up {
            looked.report.find_host(host.host_id, "its pods cannot be compared: its Docker does not answer");
            return Ok(looked);
        }
        let verdict = judge(record, facts_of(record, &on_host, boot), rules, Timestamp::now());
        act(context, &host, &pod.entry, verdict, &mut looked.report).await?;
    }
    Ok(looked)
}

fn facts_of(record: &PodRecord, on_host: &OnHost, boot: Option<&String>) -> Facts {
    let is_its = |pod: Option<PodId>| pod == Some(record.pod_id);
    let container_name = format!("pinacle-pod-{}", record.pod_id);
    let container = on_host.containers.iter().find(|entry| is_its(entry.pod_id) && entry.name == container_name);
    let has_network = on_host.networks.iter().any(|network| is_its(network.pod_id));
    Facts {
        found: Found::of(container),
        network_gone: !has_network && !on_host.truncated,
        rebooted: boot.is_some_and(|boot| *boot != on_host.boot_id),
    }
}

async fn act(
    context: &Context,
    host: &HostRecord,
    judged: &Entry<PodRecord>,
    verdict: Verdict,
    report: &mut Report,
) -> Result<(), ReconcileError> {
    let (pod, name) = (judged.record.pod_id, &judged.record.name);
    let changed = match verdict {
        Verdict::Nothing => return Ok(()),
        Verdict::Wait(wait) => {
            report.again_in(wait);
            return Ok(());
        }
        Verdict::Record(phase, cause) => {
            let change = |record: &mut PodRecord| {
                settle(record, phase, cause);
                record.restart_at = None;
            };
            context.change(judged, change).await?
        }
        Verdict::Schedule(at, cause) => {
            report.find_pod(pod, format!("{name}: {cause}"));
            let wait = u64::try_from(at.as_millis().saturating_sub(Timestamp::now().as_millis())).unwrap_or(0);
            report.again_in(Duration::from_millis(wait));
            let change = |record: &mut PodRecord| {
                settle(record, PodPhase::Starting, Some(cause));
                record.restart_at = Some(at);
            };
            context.change(judged, change).await?
        }
        Verdict::StartAgain { counted } => {
            let change = |record: &mut PodRecord| {
                if enqueue(record, Verb::Start) {
                    record.restart_at = None;
                    record.restarts += u32::from(counted);
                    record.restarted_at = Some(Timestamp::now());
                }
            };
            context.change(judged, change).await?
        }
        Verdict::Ask(verb, why) => {
            info!(%pod, verb = verb.as_str(), why, "a reconciler asks for something");
            report.find_pod(pod, format!("{name}: {why}"));
            context
                .change(judged, |record| {
                    let _full = !enqueue(record, verb);
                })
                .await?
        }
        Verdict::GiveUp(cause) => {
            let cause = format!("{cause}; {}", last_output(context, host.host_id, pod).await);
            context.change(judged, |record| settle(record, PodPhase::Failed, Some(cause))).await?
        }
        Verdict::CountAnew => {
            let change = |record: &mut PodRecord| {
                record.restarts = 0;
                record.restarted_at = None;
            };
            context.change(judged, change).await?
        }
    };
    report.repaired += u64::from(changed);
    Ok(())
}

/// The end of what a pod printed, for people. From the agent: what is said of a pod's health never rests on SSH.
async fn last_output(context: &Context, host: HostId, pod: PodId) -> String {
    let ask = Logs { pod_id: pod, tail: LAST_LINES, since: None, follow_seconds: 0 };
    let chunk = match context.bus.ask(host, &ask, LOGS_WITHIN).await {
        Ok(chunk) => chunk,
        Err(error) => return format!("its last output is not known: {error}"),
    };
    let text: Vec<&str> = chunk.lines.iter().map(|line| line.text.trim_end()).collect();
    let text = text.join("\n").replace('\0', "\u{fffd}");
    if text.is_empty() {
        return "it printed nothing".into();
    }
    let skipped = text.chars().count().saturating_sub(LAST_OUTPUT_CHARACTERS);
    format!("its last output: {}", text.chars().skip(skipped).collect::<String>())
}
