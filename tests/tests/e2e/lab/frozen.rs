//! Two copies of the orchestrator, one of which sleeps too long.

use std::time::Duration;

use nix::sys::signal::Signal;
use pinacle_bus::contract::{pod::PodPhase, request::Progress};
use pinacle_tests::{eventually, lab::Lab};

use super::stage::{LONG, Stage, pod};

#[tokio::test]
async fn a_copy_that_slept_past_its_lease_can_change_nothing_any_more() {
    let lab = Lab::builder().hosts(1).orchestrators(0).set("orchestrator.lease_ms", "2000").start().await;
    let stage = Stage::on(lab).await;
    let host = &stage.lab.hosts()[0];
    host.slow_down(Duration::from_millis(200));
    let sleeper = stage.lab.orchestrator(&[]).await;
    let (id, operation) = stage.create(&pod("slept")).await;
    eventually(LONG, "the operation to be in the middle", async || match stage.operation(operation).await {
        Some(told) if told.steps.iter().any(|step| step.label == "network" && step.progress == Progress::Running) => {
            Ok(())
        }
        other => Err(other),
    })
    .await;
    sleeper.signal(Signal::SIGSTOP);
    let other = stage.lab.orchestrator(&[]).await;
    let ended = stage.succeeds(operation).await;
    assert_eq!(ended.takeovers, 1);
    host.full_speed();
    // What the successor made is removed again, so that anything the sleeper still did would show.
    stage.done(id, "delete").await;
    stage.is_gone(id).await;
    let (record, told) = (stage.record(id).await, stage.commands(id).await.len());
    sleeper.signal(Signal::SIGCONT);
    eventually(LONG, "the sleeper to notice", async || {
        match sleeper.metric("pinacle_orchestrator_fenced_total", &[]).await {
            Some(fenced) if fenced >= 1.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(stage.record(id).await, record);
    assert_eq!(record.phase, PodPhase::Deleted);
    let commands = stage.commands(id).await;
    for late in commands.iter().skip(told) {
        assert_ne!(late.exit_code, Some(0), "a command of the sleeper's was carried out: {late:?}");
    }
    stage.is_gone(id).await;
    drop(other);
}
