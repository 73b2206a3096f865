//! One exec record a command, while it runs and when it has ended.

use std::time::Duration;

use pinacle_bus::{
    client::{Bus, Start},
    contract::{HostId, OperationId, PodId, exec::ExecRecord, topology::StreamName},
    settings::Secret,
};
use pinacle_orchestrator::ssh::{Command, ExecSink, SshError};
use pinacle_tests::{Nats, eventually};
use tokio_util::sync::CancellationToken;

use super::fixture::Host;

struct Operation {
    id: OperationId,
    host: HostId,
    pod: PodId,
    bus: Bus,
}

impl Operation {
    fn on(bus: &Bus) -> Self {
        Self { id: OperationId::new(), host: HostId::new(), pod: PodId::new(), bus: bus.clone() }
    }

    fn sink(&self, pod: Option<PodId>) -> ExecSink {
        ExecSink::new(&self.bus, self.id, self.host, pod, 1001).at("network", self.host)
    }

    /// Every record so far, in order.
    async fn records(&self) -> Vec<ExecRecord> {
        let (first, last) = self.bus.stream_bounds(StreamName::Exec).await.unwrap();
        let mut reader = self.bus.read(StreamName::Exec, Start::Beginning, None);
        let mut records = Vec::new();
        for _ in first..=last {
            let stored = reader.next().await.unwrap();
            let record: ExecRecord = stored.decode().unwrap();
            let target = record.pod_id.map_or_else(|| self.host.to_string(), |pod| pod.to_string());
            assert_eq!(stored.subject, format!("pinacle.v1.exec.{target}.{}", self.id));
            records.push(record);
        }
        records
    }
}

#[tokio::test]
async fn a_command_is_on_record_when_it_begins_while_it_prints_and_when_it_ends() {
    let (host, nats) = (Host::start().await, Nats::start().await);
    let (connection, bus) = (host.connection(), nats.bus_with_topology().await);
    let operation = Operation::on(&bus);
    let sink = operation.sink(Some(operation.pod));
    let script = "echo so far; until [ -e $1 ]; do sleep 0.1; done; printf 'tok%s' en-9; printf '\\0\\377' >&2; exit 4";
    let go = host.file("go");
    let command = Command::shell(script)
        .arg(go.display().to_string())
        .arg("token-9")
        .mask(Secret::new("token-9"))
        .label("Create network")
        .container_command(Some("login token-9"));
    let cancel = CancellationToken::new();
    let (finished, ()) = tokio::join!(connection.run(&command, &sink, &cancel), async {
        eventually(Duration::from_secs(10), "people to see what it has printed", async || {
            operation.records().await.last().is_some_and(|record| record.stdout == "so far\n")
        })
        .await;
        std::fs::write(go, "").unwrap();
    });
    assert_eq!(finished.unwrap().exit_code, Some(4));
    let records = operation.records().await;
    let (begin, so_far, end) = (&records[0], &records[1], records.last().unwrap());
    assert_eq!((begin.stdout.as_str(), begin.exit_code, begin.duration_ms), ("", None, None));
    assert_eq!((so_far.stdout.as_str(), so_far.exit_code, so_far.duration_ms), ("so far\n", None, None));
    assert_eq!((end.stdout.as_str(), end.stderr.as_str()), ("so far\n***", "\u{fffd}\u{fffd}"));
    assert_eq!((end.exit_code, end.step.as_str(), end.label.as_str()), (Some(4), "network", "Create network"));
    assert!(end.duration_ms.is_some_and(|duration| duration > 900));
    assert_eq!(end.container_command.as_deref(), Some("login ***"));
    assert!(end.command.starts_with("sh -c ") && end.command.ends_with(" '***'"), "{}", end.command);
    for record in &records {
        assert_eq!((record.sequence, record.operation_id, record.host_id), (1001, operation.id, operation.host));
        assert_eq!((record.pod_id, record.started_at), (Some(operation.pod), begin.started_at));
        assert!(!format!("{record:?}").contains("token-9"));
    }

    let next = Command::new("true");
    connection.run(&next, &sink.at("volume", operation.host), &cancel).await.unwrap();
    let last = operation.records().await.pop().unwrap();
    assert_eq!((last.sequence, last.step.as_str(), last.exit_code), (1002, "volume", Some(0)));
}

#[tokio::test]
async fn a_command_that_does_not_end_well_says_so_on_record_and_one_that_never_began_has_none() {
    let (host, nats) = (Host::start().await, Nats::start().await);
    let (connection, bus) = (host.connection(), nats.bus_with_topology().await);
    let operation = Operation::on(&bus);
    let sink = operation.sink(None);
    let cancel = CancellationToken::new();
    let command = Command::shell("printf partly; sleep 1000").deadline(Duration::from_millis(500));
    let outcome = connection.run(&command, &sink, &cancel).await;
    assert!(matches!(outcome, Err(SshError::TimedOut { ended: true, .. })), "{outcome:?}");
    let records = operation.records().await;
    let end = records.last().unwrap();
    assert_eq!((records.len(), end.stdout.as_str(), end.exit_code), (2, "partly", None));
    assert!(end.stderr.starts_with("pinacle: timed out after 500ms") && end.duration_ms.is_some());

    cancel.cancel();
    let outcome = connection.run(&command, &sink, &cancel).await;
    assert!(matches!(outcome, Err(SshError::Cancelled { ended: true })), "{outcome:?}");
    assert_eq!(operation.records().await.len(), 2);
}

#[tokio::test]
async fn output_of_any_kind_and_size_fits_a_record() {
    let (host, nats) = (Host::start().await, Nats::start().await);
    let (connection, bus) = (host.connection(), nats.bus_with_topology().await);
    let operation = Operation::on(&bus);
    let script = "head -c 900000 /dev/urandom; head -c 900000 /dev/zero | tr '\\0' '\\033' >&2";
    let command = Command::shell(script).arg("\u{1b}".repeat(60_000));
    connection.run(&command, &operation.sink(None), &CancellationToken::new()).await.unwrap();
    let end = operation.records().await.pop().unwrap();
    assert_eq!(end.exit_code, Some(0));
    for text in [end.stdout, end.stderr, end.command] {
        assert!(text.contains(" bytes left out]\n"), "{} bytes", text.len());
    }
}

#[tokio::test]
async fn a_bus_that_restarts_meanwhile_has_the_record_all_the_same() {
    let (host, mut nats) = (Host::start().await, Nats::start().await);
    let (connection, bus) = (host.connection(), nats.bus_with_topology().await);
    let operation = Operation::on(&bus);
    let command = Command::shell("echo >$1; sleep 0.5; echo done").arg(host.file("begun").display().to_string());
    let (sink, cancel) = (operation.sink(None), CancellationToken::new());
    let (finished, ()) = tokio::join!(connection.run(&command, &sink, &cancel), async {
        host.written("begun").await;
        nats.kill9().await;
        nats.restart().await;
    });
    assert_eq!(finished.unwrap().stdout.text(), "done\n");
    let end = operation.records().await.pop().unwrap();
    assert_eq!((end.stdout.as_str(), end.exit_code), ("done\n", Some(0)));
}

#[tokio::test]
async fn a_bus_that_stays_away_is_told_as_such_and_does_not_hold_a_command_for_ever() {
    let (host, mut nats) = (Host::start().await, Nats::start().await);
    let (connection, bus) = (host.connection(), nats.bus_with_topology().await);
    let operation = Operation::on(&bus);
    nats.kill9().await;
    let outcome = connection.run(&Command::new("true"), &operation.sink(None), &CancellationToken::new()).await;
    assert!(matches!(outcome, Err(SshError::Unrecorded(_))), "{outcome:?}");
}
