//! Every command ends: at its deadline, when it is cancelled, and when nobody is left to tell it.

use std::time::Duration;

use futures_util::future::join_all;
use pinacle_orchestrator::ssh::{Command, Endpoint, SshError};
use pinacle_tests::Proxy;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fixture::{Host, gone, is_alive, output, run};

/// Never ends, ignores what can be ignored, and has a child in the background that does the same.
fn stubborn(host: &Host) -> Command {
    let script = "trap '' TERM HUP INT PIPE
        sh -c 'echo $$ >$1.child; exec sleep 1000' sh $1 &
        echo $$ >$1
        while :; do sleep 1000; done";
    Command::shell(script).arg(host.file("pid").display().to_string())
}

#[tokio::test]
async fn a_deadline_kills_the_whole_process_group() {
    let host = Host::start().await;
    let connection = host.connection();
    let outcome = run(&connection, &stubborn(&host).deadline(Duration::from_secs(1))).await;
    assert!(matches!(outcome, Err(SshError::TimedOut { ended: true, .. })), "{outcome:?}");
    for file in ["pid", "pid.child"] {
        gone(&host.written(file).await, Duration::from_secs(5)).await;
    }
    assert_eq!(output(&connection, "echo next").await, "next");
    assert_eq!(host.logins(), 1);
}

#[tokio::test]
async fn deadlines_that_pass_at_once_end_all_of_them_although_each_kill_takes_a_channel() {
    let host = Host::start().await;
    let connection = host.connection();
    let command = Command::shell("sleep 1000").deadline(Duration::from_secs(1));
    let outcomes = join_all((0..8).map(|_| run(&connection, &command))).await;
    for outcome in outcomes {
        assert!(matches!(outcome, Err(SshError::TimedOut { ended: true, .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn the_host_keeps_the_deadline_when_the_connection_is_cut() {
    let host = Host::start().await;
    let proxy = Proxy::start(host.address()).await;
    let connection = host.connection_to(Endpoint { port: proxy.address().port(), ..host.endpoint() });
    let command = stubborn(&host).deadline(Duration::from_secs(4));
    let (outcome, pids) = tokio::join!(run(&connection, &command), async {
        let pids = [host.written("pid").await, host.written("pid.child").await];
        proxy.cut();
        pids
    });
    assert!(matches!(outcome, Err(SshError::ConnectionLost(_))), "{outcome:?}");
    assert!(pids.iter().all(|pid| is_alive(pid)), "the cut ended it, not the deadline");
    for pid in pids {
        gone(&pid, Duration::from_secs(15)).await;
    }
}

#[tokio::test]
async fn a_cancelled_command_is_killed_at_once() {
    let host = Host::start().await;
    let connection = host.connection();
    let cancel = CancellationToken::new();
    let command = stubborn(&host);
    let (outcome, pid) = tokio::join!(connection.run_unrecorded(&command, &cancel), async {
        let pid = host.written("pid.child").await;
        cancel.cancel();
        pid
    });
    assert!(matches!(outcome, Err(SshError::Cancelled { ended: true })), "{outcome:?}");
    gone(&pid, Duration::from_secs(5)).await;
    let after = connection.run_unrecorded(&command, &cancel).await;
    assert!(matches!(after, Err(SshError::Cancelled { ended: true })), "{after:?}");
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_killed() {
    let host = Host::start().await;
    let connection = host.connection();
    let command = stubborn(&host);
    let pid = tokio::select! {
        // cancel-safe: it is dropped on purpose.
        outcome = run(&connection, &command) => panic!("{outcome:?}"),
        // cancel-safe: as above.
        pid = host.written("pid.child") => pid,
    };
    gone(&pid, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn waiting_for_a_turn_counts_towards_the_deadline() {
    let host = Host::start_with("MaxSessions 1").await;
    let connection = host.connection();
    let long = stubborn(&host).deadline(Duration::from_secs(5));
    let began = Instant::now();
    let (first, second) = tokio::join!(run(&connection, &long), async {
        host.written("pid").await;
        run(&connection, &Command::new("true").deadline(Duration::from_secs(1))).await
    });
    assert!(matches!(second, Err(SshError::TimedOut { ended: true, .. })), "{second:?}");
    assert!(matches!(first, Err(SshError::TimedOut { ended: true, .. })), "{first:?}");
    assert!(began.elapsed() < Duration::from_secs(15));
    // The channel that nobody waited for in the end takes no session of the host.
    assert_eq!(output(&connection, "echo next").await, "next");
}

#[tokio::test]
async fn what_a_command_leaves_in_the_background_does_not_hold_it_up() {
    let host = Host::start().await;
    let connection = host.connection();
    let script = "sleep 1000 & echo $! >$1; echo done";
    let command = Command::shell(script).arg(host.file("pid").display().to_string());
    let finished = run(&connection, &command).await.unwrap();
    assert_eq!((finished.exit_code, finished.stdout.text().as_ref()), (Some(0), "done\n"));
    assert!(finished.duration < Duration::from_secs(10), "{:?}", finished.duration);
    output(&connection, &format!("kill {}", host.written("pid").await)).await;
}

#[tokio::test]
async fn a_missing_input_ends_the_command_that_would_read_it() {
    let host = Host::start().await;
    let connection = host.connection();
    let (sent, _) = tokio::sync::watch::channel(0);
    let script = "echo $$ >$1; cat >/dev/null; echo whole >$1.end";
    let command =
        Command::shell(script).arg(host.file("pid").display().to_string()).stdin_file(host.file("missing.tar"), sent);
    let outcome = run(&connection, &command).await;
    assert!(matches!(outcome, Err(SshError::Input(_))), "{outcome:?}");
    // It was not told that the input ended; so it is killed, or has not read to an end.
    assert!(!host.file("pid.end").exists());
    assert_eq!(output(&connection, "echo next").await, "next");
}
