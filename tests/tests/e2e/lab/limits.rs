//! What a pod is held to: its memory, its share of the processors, and the number of its processes, measured on its host.

use std::{fs, path::PathBuf};

use pinacle_bus::contract::{
    PodId,
    pod::{PodPhase, Tier},
};
use pinacle_tests::{eventually, lab::Lab};

use super::stage::{LONG, Stage, container};

const TIER: &str = "dev.small";
const PIDS: u64 = 1024;
/// So many periods in which it had used up its share.
const THROTTLED: u64 = 20;

/// The control group of a pod, in each hierarchy (version 1) or in the one there is (version 2).
struct Group {
    name: String,
}

impl Group {
    fn of(stage: &Stage, pod: PodId) -> Self {
        let parent = fs::read_to_string(stage.lab.folder().join("cgroup")).unwrap();
        let id = stage.host("alpha").docker(&["inspect", "--format", "{{.Id}}", &container(pod)]);
        Self { name: format!("{parent}/{id}") }
    }

    /// A file's text; none when the group is gone.
    fn find(&self, controller: &str, first: &str, second: &str) -> Option<String> {
        let top = PathBuf::from("/sys/fs/cgroup");
        let version_1 = top.join(controller).join(&self.name).join(first);
        fs::read_to_string(version_1).or_else(|_| fs::read_to_string(top.join(&self.name).join(second))).ok()
    }

    fn read(&self, controller: &str, first: &str, second: &str) -> String {
        self.find(controller, first, second).unwrap_or_else(|| panic!("{} has no {first}, no {second}", self.name))
    }

    /// Microseconds of each period, and of a period that it may use.
    fn share(&self) -> (u64, u64) {
        let quota = self.read("cpu", "cpu.cfs_quota_us", "cpu.max");
        let mut words = quota.split_whitespace();
        let quota = words.next().unwrap().parse().expect("a quota");
        let period =
            words.next().map(str::to_owned).unwrap_or_else(|| self.read("cpu", "cpu.cfs_period_us", "cpu.max"));
        (period.trim().parse().unwrap(), quota)
    }

    fn periods(&self, key: &str) -> u64 {
        value(&self.read("cpu", "cpu.stat", "cpu.stat"), key)
    }

    /// Microseconds of processor time that it has used.
    fn used(&self) -> u64 {
        match self.find("cpuacct", "cpuacct.usage", "cpuacct.usage") {
            Some(nanoseconds) => nanoseconds.trim().parse::<u64>().unwrap() / 1000,
            None => value(&self.read("cpu", "cpu.stat", "cpu.stat"), "usage_usec"),
        }
    }
}

/// The figure beside a word.
fn value(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
    line.trim().parse().unwrap()
}

async fn stage() -> Stage {
    Stage::on(Lab::builder().hosts(1).set("orchestrator.reconcile_ms", "1000").start().await).await
}

/// Runs a script of `sh` in a pod, and does not wait.
fn begin(stage: &Stage, pod: PodId, script: &str) {
    stage.host("alpha").docker(&["exec", "--detach", &container(pod), "sh", "-c", script]);
}

#[tokio::test]
async fn a_pod_has_no_more_of_the_processors_than_its_tier() {
    let stage = stage().await;
    let id = stage.running("busy").await;
    let group = Group::of(&stage, id);
    let (period, quota) = group.share();
    assert_eq!(quota * 1000 / period, u64::from(Tier::find(TIER).unwrap().cpu_millis));
    let (periods, used) = (group.periods("nr_periods"), group.used());
    // More than one processor could do.
    for _ in 0..3 {
        begin(&stage, id, "while :; do :; done");
    }
    let throttled = group.periods("nr_throttled") + THROTTLED;
    eventually(LONG, "its share to be used up", async || match group.periods("nr_throttled") {
        count if count >= throttled => Ok(()),
        count => Err(count),
    })
    .await;
    let used = group.used() - used;
    let periods = group.periods("nr_periods") - periods;
    // What it has used of the period under way, and what is given out in slices, comes on top.
    assert!(used <= (periods + 2) * quota * 11 / 10, "{used} µs in {periods} periods of {quota} µs");
}

#[tokio::test]
async fn a_pod_that_takes_more_memory_than_its_tier_is_killed_and_its_record_says_so() {
    let stage = stage().await;
    let (id, neighbour) = (stage.running("greedy").await, stage.running("neighbour").await);
    let limit = Group::of(&stage, id).read("memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit.trim().parse::<u64>().unwrap(), Tier::find(TIER).unwrap().memory_bytes);
    begin(&stage, id, r#"awk 'BEGIN { text = "x"; while (1) text = text text }'"#);
    let record = stage.settles(id, PodPhase::Failed).await;
    let cause = record.cause.unwrap();
    assert!(cause.contains("out of memory") && cause.contains("OOM"), "{cause}");
    stage.is_whole(neighbour, "running").await;
    // With the same limits, and everything it had written.
    stage.done(id, "start").await;
    stage.is_whole(id, "running").await;
}

#[tokio::test]
async fn a_pod_cannot_fill_its_host_with_processes() {
    let stage = stage().await;
    let (id, neighbour) = (stage.running("bomb").await, stage.running("neighbour").await);
    let group = Group::of(&stage, id);
    assert_eq!(group.read("pids", "pids.max", "pids.max").trim().parse::<u64>().unwrap(), PIDS);
    begin(&stage, id, "while :; do sleep 100000 & done");
    let most = eventually(LONG, "the limit to be met", async || {
        let current =
            group.find("pids", "pids.current", "pids.current").map(|text| text.trim().parse::<u64>().unwrap());
        let refused = group.find("pids", "pids.events", "pids.events").map(|text| value(&text, "max"));
        match (current, refused) {
            (Some(current), Some(refused)) if refused > 0 => Ok(current),
            // gVisor ends a pod that it cannot serve any more.
            (None, _) | (_, None) => Ok(PIDS),
            other => Err(other),
        }
    })
    .await;
    assert!(most <= PIDS, "{most}");
    stage.is_whole(neighbour, "running").await;
    let another = stage.running("another").await;
    stage.is_whole(another, "running").await;
    stage.done(id, "delete").await;
    stage.is_gone(id).await;
}
