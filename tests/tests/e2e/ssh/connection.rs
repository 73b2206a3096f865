//! One connection: made once, checked, shared, made again.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use pinacle_bus::{contract::HostId, settings::Secret};
use pinacle_orchestrator::ssh::{
    Command, ConnectError, Connections, Endpoint, HostConnection, SshError, SshSettings, fingerprint,
};
use pinacle_tests::eventually;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use super::fixture::{Host, output, refusal, run};

#[tokio::test]
async fn a_hundred_commands_at_once_share_one_connection_and_few_channels() {
    let host = Host::start().await;
    let connection = host.connection();
    let running = host.sandbox.folder("running").display().to_string();
    let script = "touch $1/$$; ls $1 | wc -l; sleep 0.05; rm $1/$$";
    let command = Command::shell(script).arg(&running);
    let outcomes = join_all((0..100).map(|_| run(&connection, &command))).await;
    let at_once: Vec<u32> =
        outcomes.into_iter().map(|outcome| outcome.unwrap().stdout.text().trim().parse().unwrap()).collect();
    let most = at_once.iter().max().copied().unwrap();
    assert!((2..=8).contains(&most), "{most} at once");
    assert_eq!((host.logins(), host.connections().len()), (1, 1));
}

#[tokio::test]
async fn a_host_that_allows_fewer_channels_is_asked_again_until_one_is_free() {
    let host = Host::start_with("MaxSessions 2").await;
    let connection = host.connection();
    let command = Command::shell("sleep 0.1; echo done");
    for outcome in join_all((0..16).map(|_| run(&connection, &command))).await {
        assert_eq!(outcome.unwrap().stdout.text(), "done\n");
    }
    assert_eq!(host.logins(), 1);
}

#[tokio::test]
async fn a_host_with_another_key_is_refused_before_we_log_in() {
    let host = Host::start().await;
    let pinned = host.public_key("stranger");
    let endpoint = Endpoint { host_keys: vec![pinned], ..host.endpoint() };
    let error = refusal(run(&host.connection_to(endpoint), &Command::new("true")).await);
    let offered = host.public_key("host_ed25519");
    assert_eq!(error, ConnectError::HostKeyChanged { fingerprint: fingerprint(&offered).unwrap(), offered });
    assert_eq!(host.logins(), 0);
    assert!(!host.sshd.log_text().contains("publickey"), "{}", host.sshd.log_text());
}

#[tokio::test]
async fn a_host_that_is_reinstalled_is_refused_from_then_on() {
    let mut host = Host::start().await;
    let connection = host.connection();
    assert_eq!(output(&connection, "echo here").await, "here");
    fs::copy(host.file("stranger"), host.file("host_ed25519")).unwrap();
    host.restart().await;
    let error = refusal(run(&connection, &Command::new("true")).await);
    assert!(
        matches!(error, ConnectError::HostKeyChanged { ref offered, .. } if *offered == host.public_key("stranger"))
    );
}

#[tokio::test]
async fn of_a_hosts_keys_the_pinned_one_is_asked_for() {
    let host = Host::start().await;
    let endpoint = Endpoint { host_keys: vec![host.public_key("host_ecdsa")], ..host.endpoint() };
    assert_eq!(output(&host.connection_to(endpoint), "echo here").await, "here");
}

#[tokio::test]
async fn without_a_pinned_key_nobody_is_talked_to() {
    let host = Host::start().await;
    let endpoint = Endpoint { host_keys: Vec::new(), ..host.endpoint() };
    let error = refusal(run(&host.connection_to(endpoint), &Command::new("true")).await);
    assert_eq!(error, ConnectError::NoPinnedKey);
    assert!(!host.sshd.log_text().contains("Connection from"));
}

#[tokio::test]
async fn a_key_that_the_host_does_not_know_is_refused_by_name_of_the_user() {
    let host = Host::start().await;
    let key = Secret::new(fs::read_to_string(host.file("stranger")).unwrap());
    let connection =
        HostConnection::new(host.endpoint(), Arc::new(SshSettings { keys: key.into(), ..host.settings() }));
    let error = refusal(run(&connection, &Command::new("true")).await);
    assert_eq!(error, ConnectError::AuthenticationRefused { user: "root".into() });
    for key in ["", "no key"] {
        let settings = SshSettings { keys: Secret::new(key).into(), ..host.settings() };
        let connection = HostConnection::new(host.endpoint(), Arc::new(settings));
        let error = refusal(run(&connection, &Command::new("true")).await);
        assert!(matches!(error, ConnectError::UnusableKey(_)), "{error}");
    }
}

#[tokio::test]
async fn a_restarted_sshd_breaks_what_runs_and_the_next_command_connects_again() {
    let mut host = Host::start().await;
    let connection = host.connection();
    let command = Command::shell("echo $$ >$1; exec sleep 3").arg(host.file("pid").display().to_string());
    let (outcome, ()) = tokio::join!(run(&connection, &command), async {
        host.written("pid").await;
        host.restart().await;
    });
    assert!(matches!(outcome, Err(SshError::ConnectionLost(_))), "{outcome:?}");
    assert_eq!(output(&connection, "echo again").await, "again");
    assert_eq!(host.connections().len(), 1);
}

#[tokio::test]
async fn a_frozen_host_is_given_up_at_the_deadline_or_when_it_answers_no_keepalive() {
    let host = Host::start().await;
    let connection = host.connection();
    output(&connection, "true").await;
    host.signal_connections(Signal::SIGSTOP);
    let began = Instant::now();
    let hasty = Command::new("true").deadline(Duration::from_secs(1));
    let patient = Command::new("true").deadline(Duration::from_secs(120));
    let (soon, late) = tokio::join!(run(&connection, &hasty), run(&connection, &patient));
    assert!(matches!(soon, Err(SshError::TimedOut { .. })), "{soon:?}");
    // The late one connects anew once the frozen connection is given up.
    assert!(late.unwrap().is_success());
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(host.logins(), 2);
    host.signal_connections(Signal::SIGCONT);
}

#[tokio::test]
async fn who_waits_for_an_attempt_takes_its_outcome() {
    let host = Host::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { port: listener.local_addr().unwrap().port(), ..host.endpoint() };
    let connection = host.connection_to(endpoint);
    let command = Command::new("true");
    let commands = join_all((0..8).map(|_| run(&connection, &command)));
    let attempts = async {
        let mut attempts = 0;
        loop {
            drop(listener.accept().await.unwrap());
            attempts += 1;
            if attempts > 1 {
                return attempts;
            }
        }
    };
    tokio::select! {
        // cancel-safe: the other arm fails the test.
        outcomes = commands => {
            for outcome in outcomes {
                assert!(matches!(refusal(outcome), ConnectError::Unreachable { .. }));
            }
        }
        // cancel-safe: as above.
        attempts = attempts => panic!("{attempts} attempts for one outage"),
    }
}

#[tokio::test]
async fn a_host_that_swallows_the_connection_is_given_up_in_time() {
    let host = Host::start().await;
    // It accepts, and then says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { port: listener.local_addr().unwrap().port(), ..host.endpoint() };
    let settings = SshSettings { connect_within: Duration::from_millis(300), ..host.settings() };
    let connection = HostConnection::new(endpoint, Arc::new(settings));
    let error = refusal(run(&connection, &Command::new("true")).await);
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_and_made_again_when_needed() {
    let host = Host::start().await;
    let settings = SshSettings { idle: Duration::from_millis(300), ..host.settings() };
    let connection = HostConnection::new(host.endpoint(), Arc::new(settings));
    // Longer than that, but in use.
    assert_eq!(output(&connection, "sleep 1; echo first").await, "first");
    eventually(Duration::from_secs(5), "the connection to close", async || host.connections().is_empty()).await;
    assert_eq!(output(&connection, "echo second").await, "second");
    assert_eq!(host.logins(), 2);
}

#[tokio::test]
async fn a_host_that_moved_is_connected_to_where_it_is_now() {
    let (host, elsewhere) = (Host::start().await, Host::start().await);
    let connections = Connections::new(host.settings());
    let id = HostId::new();
    assert_eq!(output(&connections.host(id, &host.endpoint()), "echo here").await, "here");
    assert_eq!(output(&connections.host(id, &host.endpoint()), "echo here").await, "here");
    assert_eq!(host.logins(), 1);
    fs::copy(host.file("authorized_keys"), elsewhere.file("authorized_keys")).unwrap();
    assert_eq!(output(&connections.host(id, &elsewhere.endpoint()), "echo there").await, "there");
    eventually(Duration::from_secs(5), "the old connection to close", async || host.connections().is_empty()).await;

    let last = connections.host(id, &elsewhere.endpoint());
    let begun = elsewhere.file("begun").display().to_string();
    let never_ends = Command::shell("echo >$1; sleep 1000").arg(begun);
    let (outcome, ()) = tokio::join!(run(&last, &never_ends), async {
        elsewhere.written("begun").await;
        connections.close_all().await;
    });
    assert!(matches!(outcome, Err(SshError::Cancelled { ended: true })), "{outcome:?}");
    eventually(Duration::from_secs(5), "all connections to close", async || elsewhere.connections().is_empty()).await;
    let after = last.run_unrecorded(&Command::new("true"), &CancellationToken::new()).await;
    assert!(matches!(after, Err(SshError::Cancelled { ended: true })), "{after:?}");
}

#[tokio::test]
async fn a_lima_machine_is_found_through_limactl_at_each_connect() {
    let mut host = Host::start().await;
    let fake = host.file("fake-limactl");
    let port = host.address().port();
    // As limactl 1.0 prints it, cut to what matters and a little more.
    fs::write(
        &fake,
        format!(
            "#!/bin/sh\n[ \"$*\" = \"list --json -- dev\" ] || {{ echo 'level=fatal msg=\"unmatched instances\"' >&2; exit 1; }}\n\
             echo '{{\"name\":\"dev\",\"hostname\":\"lima-dev\",\"status\":\"Running\",\"dir\":\"/x/.lima/dev\",\"vmType\":\"qemu\",\
             \"arch\":\"x86_64\",\"cpus\":4,\"sshLocalPort\":{port},\"sshConfigFile\":\"/x/.lima/dev/ssh.config\",\
             \"sshAddress\":\"127.0.0.1\",\"protected\":false}}'\necho >>{}\n",
            host.file("asked").display()
        ),
    )
    .unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = Arc::new(SshSettings { limactl: fake.display().to_string(), ..host.settings() });
    let endpoint = |name: &str| Endpoint {
        address: "192.0.2.1".into(),
        port: 22,
        lima_name: Some(name.into()),
        ..host.endpoint()
    };
    let connection = HostConnection::new(endpoint("dev"), settings.clone());
    let unknown = HostConnection::new(endpoint("other"), settings);
    assert_eq!(output(&connection, "echo here").await, "here");
    host.restart().await;
    assert_eq!(output(&connection, "echo here").await, "here");
    assert_eq!(fs::read_to_string(host.file("asked")).unwrap(), "\n\n");
    let error = refusal(run(&unknown, &Command::new("true")).await);
    assert!(matches!(error, ConnectError::Lima { ref detail, .. } if detail.contains("unmatched")), "{error}");
}
