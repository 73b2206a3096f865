//! Two copies of the orchestrator, one of which sleeps past its lease in the middle of an operation, is overtaken, and
//! wakes up again. What it was about to do, and what it had sent already, changes nothing any more.

use std::time::Duration;

use nix::sys::signal::Signal;
use pinacle_bus::contract::{OperationId, PodId, pod::PodPhase};
use pinacle_orchestrator::{operation::plan::Verb, record::enqueue};
use pinacle_tests::{Process, Proxy, eventually, lab::Lab};

use super::stage::{LONG, Stage, pod};

/// A host that is slow, so that a copy can be caught in the middle of something.
async fn stage() -> Stage {
    // No reconciler shall tidy up after the sleeper.
    let lab = Lab::builder()
        .hosts(1)
        .orchestrators(0)
        .set("orchestrator.lease_ms", "2000")
        .set("orchestrator.reconcile_ms", "3600000")
        .start()
        .await;
    lab.hosts()[0].slow_down(Duration::from_secs(1));
    Stage::on(lab).await
}

/// Another copy ends the sleeper's operation.
async fn overtake(stage: &Stage, id: PodId, operation: OperationId) -> Process {
    let other = stage.lab.orchestrator(&[]).await;
    let ended = stage.succeeds(operation).await;
    assert_eq!(ended.takeovers, 1);
    stage.lab.hosts()[0].full_speed();
    stage.rests(id).await;
    stage.is_whole(id, "running").await;
    other
}

/// Lets the sleeper go on until it has noticed, and then stop in order, which sends all that it has to send.
async fn wakes(mut sleeper: Process) {
    sleeper.signal(Signal::SIGCONT);
    eventually(LONG, "the sleeper to notice", async || {
        match sleeper.metric("pinacle_orchestrator_fenced_total", &[]).await {
            Some(fenced) if fenced >= 1.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    sleeper.sigterm(LONG).await;
}

#[tokio::test]
async fn a_copy_that_slept_past_its_lease_can_change_nothing_any_more() {
    let stage = stage().await;
    let sleeper = stage.lab.orchestrator(&[]).await;
    let (id, operation) = stage.create(&pod("slept")).await;
    stage.is_at(operation, "network").await;
    sleeper.signal(Signal::SIGSTOP);
    let _other = overtake(&stage, id, operation).await;
    let (record, told) = (stage.record(id).await, stage.commands(id).await.len());
    wakes(sleeper).await;
    for late in stage.commands(id).await.iter().skip(told) {
        assert_ne!(late.exit_code, Some(0), "a command of the sleeper's was carried out: {late:?}");
    }
    stage.is_whole(id, "running").await;
    assert_eq!(stage.record(id).await, record);
}

#[tokio::test]
async fn a_record_that_a_sleeping_copy_had_sent_is_refused_by_the_bus() {
    let stage = stage().await;
    let way = Proxy::start(stage.lab.bus_address()).await;
    let url = format!("nats://{}", way.address());
    let sleeper = stage.lab.orchestrator(&[("PINACLE__BUS__URL", &url), ("PINACLE__BUS__CA_FILE", "")]).await;
    let (id, operation) = stage.create(&pod("sent-a-record")).await;
    stage.is_at(operation, "network").await;
    // That the network is made is on its way, and stays there.
    way.stall_before(&format!("$KV.pods.{id}"));
    eventually(LONG, "the sleeper to send a record", async || way.is_stalled()).await;
    sleeper.signal(Signal::SIGSTOP);
    let _other = overtake(&stage, id, operation).await;
    let record = stage.record(id).await;
    // It arrives while the sleeper still sleeps.
    way.heal();
    wakes(sleeper).await;
    stage.is_whole(id, "running").await;
    assert_eq!(stage.record(id).await, record);
}

#[tokio::test]
async fn a_command_that_a_sleeping_copy_had_sent_is_refused_by_the_host() {
    let stage = stage().await;
    let host = &stage.lab.hosts()[0];
    let sleeper = stage.lab.orchestrator(&[]).await;
    let (id, operation) = stage.create(&pod("sent-a-command")).await;
    stage.is_at(operation, "image").await;
    // The next command is under way, and stays there: small packets get through, one with a command in it does not.
    let port = host.shell("ss -Htn state established '( sport = :22 )' | sed 's/.*://'");
    let rule = format!("INPUT --protocol tcp --dport 22 --sport {port} --match length --length 600:65535 --jump DROP");
    host.shell(&format!("iptables -I {rule}"));
    eventually(LONG, "the sleeper to send a command", async || {
        let dropped = host.shell("iptables -nvxL INPUT 1 | awk '{ print $1 }'");
        if dropped == "0" { Err(dropped) } else { Ok(()) }
    })
    .await;
    sleeper.signal(Signal::SIGSTOP);
    let _other = overtake(&stage, id, operation).await;
    // All is removed again, so that what the command makes would show. Not by a request: one would be waiting for the
    // sleeper, as it had asked for more before it fell asleep.
    let asked = stage.change(id, |record| assert!(enqueue(record, Verb::Delete))).await;
    stage.succeeds(asked.queue[0].operation_id).await;
    let record = stage.settles(id, PodPhase::Deleted).await;
    stage.is_gone(id).await;
    host.shell(NOTE_EXIT_CODES);
    host.shell(&format!("iptables -D {rule}"));
    // It is sent again by the machine that the sleeper is on, which does not sleep.
    eventually(LONG, "the command to be refused", async || {
        let codes = host.shell("cat /var/lib/pinacle/codes || true");
        // The successor's own commands have a higher fence.
        let sleepers: Vec<&str> = codes.lines().filter(|line| line.ends_with(" 1")).collect();
        if sleepers == ["97 1"] { Ok(()) } else { Err(codes) }
    })
    .await;
    stage.is_gone(id).await;
    wakes(sleeper).await;
    stage.is_gone(id).await;
    assert_eq!(stage.record(id).await, record);
}

/// Every command for a pod is run by `timeout`: from now on, how each ended is written down, and its fence.
const NOTE_EXIT_CODES: &str = r#"
cat >/usr/local/sbin/timeout <<'end'
#!/bin/sh
/usr/bin/timeout "$@"
code=$?
echo "$code ${9:-}" >>/var/lib/pinacle/codes
exit $code
end
chmod 755 /usr/local/sbin/timeout"#;
