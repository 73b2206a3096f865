//! Three servers instead of one: growth is configuration, and a server may die.

use std::{fs, time::Duration};

use pinacle_bus::{
    client::{Bus, Start},
    contract::{EventId, HostId, topology::StreamName},
    settings::BusSettings,
};
use pinacle_tests::{Process, Sandbox, User, eventually, machine, nats::Trust};

use super::gateway::stage::publish_event;

const LONG: Duration = Duration::from_secs(30);

/// A cluster with the limits, accounts and TLS for clients of `nats/cluster.conf`, without TLS between the servers.
async fn start(sandbox: &Sandbox, trust: &Trust) -> (Vec<Process>, Vec<u16>) {
    let ports: Vec<u16> = (0..3).map(|_| machine::free_port()).collect();
    let routes: Vec<u16> = (0..3).map(|_| machine::free_port()).collect();
    let all: Vec<String> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
    let mut servers = Vec::new();
    for (number, (port, route)) in ports.iter().zip(&routes).enumerate() {
        let name = format!("nats-{number}");
        let text = format!(
            "include \"single.conf\"\nserver_name: {name}\nhttp: \"127.0.0.1:{}\"\n\
             cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
            machine::free_port(),
            all.join(", ")
        );
        fs::write(trust.folder().join(format!("{name}.conf")), text).unwrap();
        let server = trust.server(sandbox, &name, &format!("{name}.conf"));
        servers.push(server.args(["-a", "127.0.0.1", "-p", &port.to_string()]).spawn());
    }
    (servers, ports)
}

#[tokio::test]
async fn with_three_replicas_a_server_may_die_and_nothing_that_was_acknowledged_is_missing() {
    let sandbox = Sandbox::new();
    let trust = Trust::make(&sandbox, &[]);
    let (mut servers, ports) = start(&sandbox, &trust).await;
    let urls = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let mut settings = BusSettings { replicas: 3, ..trust.settings(&urls, User::Tester) };
    let bus = Bus::connect(&settings, "cluster").await.unwrap();
    bus.await_topology(LONG).await.unwrap();
    // Whoever knows one server only is told of the others by it.
    settings.url = format!("nats://127.0.0.1:{}", ports[0]);
    let host = HostId::new();
    let mut acknowledged = Vec::new();
    for _ in 0..20 {
        acknowledged.push(publish_event(&bus, host, &EventId::new().to_string()).await.unwrap());
    }
    for victim in servers.iter_mut().take(2) {
        victim.kill9().await;
        for _ in 0..20 {
            let sequence =
                eventually(LONG, "the rest to take an event", async || publish_event(&bus, host, "counted").await)
                    .await;
            acknowledged.push(sequence);
        }
        victim.restart_unready();
        eventually(LONG, "the topology to be applied again", async || bus.apply_topology().await).await;
    }
    let late = Bus::connect(&settings, "late").await.unwrap();
    late.connected(LONG).await.unwrap();
    let mut reader = late.read(StreamName::Events, Start::Beginning, None);
    let mut held = Vec::new();
    while held.last() < acknowledged.last() {
        held.push(eventually(LONG, "an event", async || reader.next().await).await.sequence);
    }
    let missing: Vec<&u64> = acknowledged.iter().filter(|sequence| !held.contains(sequence)).collect();
    assert!(missing.is_empty(), "acknowledged and gone: {missing:?}");
}
