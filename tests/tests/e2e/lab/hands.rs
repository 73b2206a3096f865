//! What people do on hosts by hand, and what pods do to themselves.

use std::time::Duration;

use pinacle_bus::contract::{
    PodId,
    event::{Event, HOST_ORPHAN, Orphan},
    pod::{CreatePod, PodPhase, PodRecord, RestartPolicy},
    reconciler::ReconcilerStatus,
    topology::{STATUS, StreamName},
};
use pinacle_tests::{eventually, lab::Lab};

use super::stage::{LONG, Stage, pod, read_all};

const GRACE: Duration = Duration::from_secs(3);

async fn stage() -> Stage {
    let lab = Lab::builder()
        .hosts(1)
        .orchestrators(1)
        .set("orchestrator.reconcile_ms", "500")
        .set("orchestrator.restart_tries", "2")
        .set("orchestrator.restart_backoff_ms", "2000")
        .set("orchestrator.orphan_grace_ms", &GRACE.as_millis().to_string());
    Stage::on(lab.start().await).await
}

async fn running(stage: &Stage, name: &str, restart: RestartPolicy) -> (PodId, String) {
    let (id, operation) = stage.create(&CreatePod { restart, ..pod(name) }).await;
    stage.succeeds(operation).await;
    stage.rests(id).await;
    (id, format!("pinacle-pod-{id}"))
}

/// Waits until a pod runs after it was started again so often in a row.
async fn runs_again(stage: &Stage, id: PodId, times: u32) -> PodRecord {
    eventually(LONG, &format!("{id} to run again"), async || match stage.rests(id).await {
        record if record.phase == PodPhase::Running && record.restarts == times => Ok(record),
        record => Err(record),
    })
    .await
}

#[tokio::test]
async fn a_container_that_is_killed_or_removed_by_hand_is_had_again_if_it_is_to_be() {
    let stage = stage().await;
    let host = &stage.lab.hosts()[0];
    let (id, container) = running(&stage, "is-to-be", RestartPolicy::Always).await;
    host.docker(&["exec", &container, "sh", "-c", "echo work > /workspace/kept"]);
    host.docker(&["kill", &container]);
    runs_again(&stage, id, 1).await;
    stage.is_whole(id, "running").await;
    host.docker(&["rm", "--force", &container]);
    runs_again(&stage, id, 2).await;
    stage.is_whole(id, "running").await;
    assert_eq!(host.docker(&["exec", &container, "cat", "/workspace/kept"]), "work");
}

#[tokio::test]
async fn a_container_that_is_killed_or_removed_by_hand_failed_if_it_is_not_to_be_started_again() {
    let stage = stage().await;
    let host = &stage.lab.hosts()[0];
    let (id, container) = running(&stage, "is-not-to-be", RestartPolicy::Never).await;
    for (by_hand, cause) in [
        (&["kill"][..], "ended by itself with exit code 137"),
        (&["rm", "--force"], "was removed from its host by hand"),
    ] {
        host.docker(&[by_hand, &[&container]].concat());
        let record = stage.settles(id, PodPhase::Failed).await;
        assert!(record.cause.as_ref().unwrap().contains(cause), "{record:#?}");
        // A person may want it all the same.
        stage.done(id, "start").await;
        stage.settles(id, PodPhase::Running).await;
        stage.is_whole(id, "running").await;
    }
}

#[tokio::test]
async fn a_network_that_is_removed_by_hand_is_made_anew_and_the_pod_is_on_it() {
    let stage = stage().await;
    let host = &stage.lab.hosts()[0];
    let (id, container) = running(&stage, "cut-loose", RestartPolicy::Never).await;
    let network = format!("pinacle-net-{id}");
    let before = host.docker(&["network", "inspect", "--format", "{{.Id}}", &network]);
    host.docker(&["network", "disconnect", "--force", &network, &container]);
    host.docker(&["network", "rm", &network]);
    eventually(LONG, "another network", async || {
        match host.try_docker(&["network", "inspect", "--format", "{{.Id}}", &network]) {
            (true, now) if now != before => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let record = stage.settles(id, PodPhase::Running).await;
    stage.is_whole(id, "running").await;
    let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    let address = host.docker(&["inspect", "--format", &format, &container]);
    assert_eq!(address, format!("10.249.{}.2", record.subnet.unwrap()));
    let inside = host.docker(&["exec", &container, "ip", "-4", "address"]);
    assert!(inside.contains(&address), "{inside}");
}

#[tokio::test]
async fn a_pod_that_runs_out_of_memory_is_said_to_have_done_so() {
    let stage = stage().await;
    let host = &stage.lab.hosts()[0];
    let (id, container) = running(&stage, "eats", RestartPolicy::Never).await;
    host.docker(&["exec", "--detach", &container, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=3G count=1"]);
    let record = stage.settles(id, PodPhase::Failed).await;
    let cause = record.cause.unwrap();
    assert!(cause.contains("ran out of memory and was killed (OOM)"), "{cause}");
}

#[tokio::test]
async fn a_pod_that_keeps_ending_is_started_again_after_longer_and_longer_pauses_and_then_failed() {
    let stage = stage().await;
    // Long enough to be seen to run.
    let image = stage.image_that("falters", "sleep 5; echo a last word; exit 3");
    let falters = CreatePod { image: Some(image), restart: RestartPolicy::OnFailure, ..pod("falters") };
    let (id, operation) = stage.create(&falters).await;
    stage.succeeds(operation).await;
    let written = stage.written(id, |record| record.phase == PodPhase::Failed).await;

    let mut planned = Vec::new();
    for record in &written {
        if let Some(at) = record.restart_at.filter(|at| !planned.iter().any(|(known, _)| known == at)) {
            let cause = record.cause.as_deref().unwrap_or_default();
            assert!(cause.contains("exit code 3") && cause.contains("is started again"), "{record:#?}");
            planned.push((at, at.as_millis() - record.phase_since.as_millis()));
        }
    }
    let [(first, pause), (second, longer)] = planned[..] else { panic!("{planned:?} in {written:#?}") };
    assert!(longer > pause, "{planned:?}");
    let begins: Vec<_> = written
        .iter()
        .filter_map(|record| record.operation.as_ref().filter(|operation| operation.verb == "start"))
        .map(|operation| operation.started_at)
        .collect();
    assert!(begins.iter().all(|at| *at >= first), "{begins:?} {first:?}");
    assert!(begins.last().unwrap() >= &second, "{begins:?} {second:?}");
    let record = written.last().unwrap();
    let cause = record.cause.as_ref().unwrap();
    for part in ["exit code 3", "started again 2 times in a row", "a last word"] {
        assert!(cause.contains(part), "{cause}");
    }
    stage.is_whole(id, "exited").await;
}

#[tokio::test]
async fn what_belongs_to_no_pod_is_reported_and_removed_after_a_while_and_nothing_else_is() {
    let stage = stage().await;
    let host = &stage.lab.hosts()[0];
    let (pod, _) = running(&stage, "has-a-record", RestartPolicy::Never).await;
    let nobody = PodId::new();
    let label = format!("pinacle.pod={nobody}");
    let names =
        [format!("pinacle-pod-{nobody}"), format!("pinacle-net-{nobody}"), format!("pinacle-vol-{nobody}-workspace")];
    host.docker(&["network", "create", "--label", &label, &names[1]]);
    host.docker(&["volume", "create", "--label", &label, &names[2]]);
    host.docker(&["volume", "create", "somebodys-own"]);
    let volume = format!("{}:/workspace", names[2]);
    host.docker(&[
        "run",
        "--detach",
        "--label",
        &label,
        "--name",
        &names[0],
        "--network",
        &names[1],
        "--volume",
        &volume,
        stage.lab.image(),
    ]);

    eventually(LONG, "all three to be reported", async || {
        let statuses = stage.bus.bucket::<ReconcilerStatus>(&STATUS).await.unwrap();
        let status = statuses.get("orphans").await.unwrap().map(|entry| entry.record);
        let found = status.as_ref().map(|status| status.findings.clone()).unwrap_or_default();
        let is_reported = |name: &String| found.iter().any(|finding| finding.what.contains(name.as_str()));
        if names.iter().all(is_reported) { Ok(()) } else { Err(status) }
    })
    .await;
    eventually(LONG, "all three to be gone", async || {
        let left = stage.holdings(nobody).await;
        if left == Default::default() { Ok(()) } else { Err(left) }
    })
    .await;
    for name in &names {
        let told = eventually(LONG, "the removal to be told", async || {
            let told = orphans(&stage, name).await;
            if told.len() == 2 { Ok(told) } else { Err(told) }
        })
        .await;
        let [found, removed] = &told[..] else { unreachable!() };
        assert_eq!((found.removed_at, found.pod_id), (None, Some(nobody)), "{told:#?}");
        assert!(removed.removed_at.unwrap() >= found.found_at.plus(GRACE), "{told:#?}");
    }
    stage.is_whole(pod, "running").await;
    assert_eq!(host.docker(&["volume", "ls", "--quiet", "--filter", "name=somebodys-own"]), "somebodys-own");
}

#[tokio::test]
async fn a_host_forgets_a_pod_when_nobody_remembers_it() {
    let lab = Lab::builder()
        .hosts(1)
        .orchestrators(1)
        .set("orchestrator.reconcile_ms", "500")
        .set("orchestrator.deleted_kept_ms", "1000");
    let stage = Stage::on(lab.start().await).await;
    let host = &stage.lab.hosts()[0];
    let (kept, _) = running(&stage, "kept", RestartPolicy::Never).await;
    let (gone, _) = running(&stage, "gone", RestartPolicy::Never).await;
    stage.done(gone, "delete").await;
    let fences = || host.shell("ls /var/lib/pinacle/fence");
    assert!(fences().contains(&gone.to_string()), "no late command for it gets through");
    eventually(LONG, "its record and its fence to be gone", async || match (stage.find(gone).await, fences()) {
        (None, left) if left == kept.to_string() => Ok(()),
        other => Err(other),
    })
    .await;
    stage.is_gone(gone).await;
}

/// What was told of something that belongs to no pod, in order.
async fn orphans(stage: &Stage, name: &str) -> Vec<Orphan> {
    let events = read_all(&stage.bus, StreamName::Events).await;
    let events = events.iter().map(|stored| stored.decode::<Event>().unwrap());
    let told = events.filter(|event| event.what == HOST_ORPHAN);
    let told = told.map(|event| serde_json::from_value::<Orphan>(event.detail).unwrap());
    told.filter(|orphan| orphan.name == name).collect()
}
