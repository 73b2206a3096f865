//! Many pods at once.

use std::collections::BTreeSet;

use pinacle_bus::contract::{ledger::HostLedger, pod::PodPhase, pod::Tier, topology::LEDGER};
use pinacle_orchestrator::operation::plan::Verb;
use pinacle_tests::lab::Lab;

use super::stage::{Stage, pod};

#[tokio::test]
async fn thirty_pods_at_once_over_three_hosts_with_two_orchestrators() {
    let lab = Lab::builder()
        .hosts(3)
        .orchestrators(2)
        // Thirty small pods take ten cores a host.
        .set("orchestrator.cpu_overcommit", "8")
        .start()
        .await;
    let stage = Stage::on(lab).await;
    let mut asked = Vec::new();
    for number in 0..30 {
        asked.push(stage.create(&pod(&format!("one-of-{number}"))).await);
    }
    let mut endpoints = BTreeSet::new();
    let mut subnets = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    for (id, operation) in asked {
        let ended = stage.succeeds(operation).await;
        let record = stage.settles(id, PodPhase::Running).await;
        let host = record.host_id.unwrap();
        assert!(endpoints.insert((host, record.external_port.unwrap())), "a port twice: {record:?}");
        assert!(subnets.insert((host, record.subnet.unwrap())), "a subnet twice: {record:?}");
        hosts.insert(host);
        stage.is_whole(id, "running").await;

        // Every command is on record, with what it wrote and how it ended, and belongs to a step.
        let commands = stage.commands(id).await;
        let labels: BTreeSet<&str> = Verb::Create.steps().into_iter().map(|step| step.label()).collect();
        assert!(commands.len() >= 6, "{commands:#?}");
        for command in &commands {
            assert_eq!((command.operation_id, command.host_id, command.pod_id), (operation, host, Some(id)));
            assert!(command.duration_ms.is_some() && command.exit_code.is_some(), "{command:?}");
            assert!(labels.contains(command.step.as_str()), "{command:?}");
        }
        assert!(commands.iter().any(|command| command.command.contains("docker create")), "{commands:#?}");
        assert!(commands.iter().any(|command| command.container_command.is_some()), "{commands:#?}");
        assert_eq!(ended.steps.len(), Verb::Create.steps().len());
    }
    assert_eq!(hosts.len(), 3, "spread over all hosts");
    let ledgers = stage.bus.bucket::<HostLedger>(&LEDGER).await.unwrap();
    let tier = Tier::find("dev.small").unwrap();
    let mut reserved = 0;
    for host in stage.lab.hosts() {
        let ledger = ledgers.get(&host.host_id().await.to_string()).await.unwrap().unwrap().record;
        let count = ledger.reservations.len();
        reserved += count;
        let record = stage.lab.host_record(host.name()).await;
        assert!(count as u64 * tier.memory_bytes <= record.facts.memory_total_bytes, "{ledger:?}");
        assert!(count as f64 * f64::from(tier.cpu_millis) <= f64::from(record.facts.cpu_count) * 8000.0, "{ledger:?}");
    }
    assert_eq!(reserved, 30);
}
