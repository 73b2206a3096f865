//! Three servers instead of one: growth is configuration, and a server may die.

use std::{fs, time::Duration};

use pinacle_bus::{
    client::{Bus, Start},
    contract::{EventId, HostId, topology::StreamName},
};
use pinacle_tests::{Launch, Process, Sandbox, User, eventually, machine};

use super::gateway::stage::publish_event;

const LONG: Duration = Duration::from_secs(30);

/// A cluster with the limits, accounts and permissions of `nats/single.conf`, without the TLS of `nats/cluster.conf`.
async fn start(sandbox: &Sandbox) -> (Vec<Process>, Vec<u16>) {
    let ports: Vec<u16> = (0..3).map(|_| machine::free_port()).collect();
    let routes: Vec<u16> = (0..3).map(|_| machine::free_port()).collect();
    let all: Vec<String> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
    let mut servers = Vec::new();
    for (number, (port, route)) in ports.iter().zip(&routes).enumerate() {
        let folder = sandbox.folder(&format!("nats-{number}"));
        let text = format!(
            "include \"single.conf\"\nserver_name: nats-{number}\nhttp: \"127.0.0.1:{}\"\n\
             cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
            machine::free_port(),
            all.join(", ")
        );
        fs::copy(machine::repository().join("nats/single.conf"), folder.join("single.conf")).unwrap();
        fs::write(folder.join("server.conf"), text).unwrap();
        let server = Launch::program(machine::repository().join(".pinacle/bin/nats-server"))
            .named(&format!("nats-{number}"))
            .in_sandbox(sandbox)
            .arg("-c")
            .arg(folder.join("server.conf"))
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
            .arg(folder)
            .env("PINACLE_NATS_SERVICE_PASSWORD", User::Service.password())
            .env("PINACLE_NATS_AGENT_PASSWORD", User::Agent.password())
            .spawn();
        servers.push(server);
    }
    (servers, ports)
}

#[tokio::test]
async fn with_three_replicas_a_server_may_die_and_nothing_that_was_acknowledged_is_missing() {
    let sandbox = Sandbox::new();
    let (mut servers, ports) = start(&sandbox).await;
    let mut settings = pinacle_bus::settings::BusSettings {
        url: ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect::<Vec<_>>().join(","),
        user: User::Service.name().into(),
        password: pinacle_bus::settings::Secret::new(User::Service.password()),
        ca_file: String::new(),
        replicas: 3,
        storage_bytes: 1 << 30,
        publish_timeout_ms: 5000,
        reconnect_max_ms: 500,
    };
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
