//! A copy that was overtaken can change nothing.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use pinacle_orchestrator::ssh::{Command, Fence, HostConnection, SshError, fence_file};
use pinacle_tests::eventually;

use super::fixture::{Fenced, Host, is_alive, run};

fn fenced(pod: &Fenced, number: u64, script: &str) -> Command {
    Command::shell(script).fence(Fence { pod_id: pod.0, number })
}

async fn is_refused(connection: &HostConnection, command: &Command) -> bool {
    match run(connection, command).await {
        Ok(finished) => {
            assert!(finished.is_success(), "{finished:?}");
            false
        }
        Err(SshError::Fenced(_)) => true,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_lower_number_than_the_highest_seen_is_refused() {
    let host = Host::start().await;
    let connection = host.connection();
    let (pod, other) = (Fenced::new(), Fenced::new());
    for (pod, number, refused) in [
        (&pod, 3, false),
        (&pod, 3, false),
        (&pod, 2, true),
        (&pod, 10, false),
        (&pod, 9, true),
        (&pod, 3, true),
        (&pod, 1 << 60, false),
        (&pod, 10, true),
        (&other, 1, false),
    ] {
        assert_eq!(is_refused(&connection, &fenced(pod, number, "true")).await, refused, "{number}");
    }
    // A pod that is gone and forgotten begins anew.
    let forget = Command::new("rm").arg("-f").arg(fence_file(pod.0));
    assert!(run(&connection, &forget).await.unwrap().is_success());
    assert!(!is_refused(&connection, &fenced(&pod, 1, "true")).await);
}

#[tokio::test]
async fn a_refused_command_has_not_run_and_one_that_only_looks_refused_has() {
    let host = Host::start().await;
    let connection = host.connection();
    let pod = Fenced::new();
    let touched = host.file("touched");
    assert!(!is_refused(&connection, &fenced(&pod, 2, "true")).await);
    assert!(is_refused(&connection, &fenced(&pod, 1, "touch $1").arg(touched.display().to_string())).await);
    assert!(!touched.exists());
    let finished = run(&connection, &fenced(&pod, 2, "echo no >&2; exit 97")).await.unwrap();
    assert_eq!((finished.exit_code, finished.stderr.text().as_ref()), (Some(97), "no\n"));
}

#[tokio::test]
async fn a_successor_waits_for_the_command_that_runs() {
    let host = Host::start().await;
    let connection = host.connection();
    let pod = Fenced::new();
    let log = host.file("log").display().to_string();
    let first = fenced(&pod, 5, "echo begun >$1.pid; sleep 1; echo first >>$1").arg(&log);
    let second = fenced(&pod, 6, "echo second >>$1").arg(&log);
    let (first, second) = tokio::join!(run(&connection, &first), async {
        host.written("log.pid").await;
        run(&connection, &second).await
    });
    assert!(first.unwrap().is_success());
    let second = second.unwrap();
    assert!(second.is_success() && second.stderr.text().contains("waiting for the command of an earlier copy"));
    assert_eq!(fs::read_to_string(log).unwrap(), "first\nsecond\n");
    assert!(is_refused(&connection, &fenced(&pod, 5, "true")).await);
}

#[tokio::test]
async fn a_successor_waits_no_longer_than_it_may_and_goes_on_once_the_first_is_killed() {
    let host = Host::start().await;
    let connection = host.connection();
    let pod = Fenced::new();
    let pid = host.file("pid").display().to_string();
    // Its child holds the lock as well.
    let first = fenced(&pod, 1, "sleep 1000 & echo $! >$1; wait").arg(pid).deadline(Duration::from_secs(4));
    let (first, ()) = tokio::join!(run(&connection, &first), async {
        let pid = host.written("pid").await;
        let hasty = fenced(&pod, 2, "true").deadline(Duration::from_secs(1));
        let outcome = run(&connection, &hasty).await;
        assert!(matches!(outcome, Err(SshError::TimedOut { ended: true, .. })), "{outcome:?}");
        let patient = fenced(&pod, 2, "true").deadline(Duration::from_secs(20));
        assert!(run(&connection, &patient).await.unwrap().is_success());
        assert!(!is_alive(&pid));
    });
    assert!(matches!(first, Err(SshError::TimedOut { ended: true, .. })), "{first:?}");
}

#[tokio::test]
async fn whatever_the_order_of_many_copies_the_host_never_goes_back() {
    let host = Host::start().await;
    let connection = host.connection();
    let pod = Fenced::new();
    let log = host.file("log").display().to_string();
    // Not in order, and some twice.
    let numbers = (0..48).map(|index| index * 29 % 31 + 1);
    let commands: Vec<Command> =
        numbers.map(|number| fenced(&pod, number, "echo $1 >>$2").arg(number.to_string()).arg(&log)).collect();
    let refused = join_all(commands.iter().map(|command| is_refused(&connection, command))).await;
    let ran = fs::read_to_string(&log).unwrap();
    let ran: Vec<u64> = ran.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(ran.len() + refused.iter().filter(|refused| **refused).count(), commands.len());
    assert!(ran.is_sorted(), "{ran:?}");
    assert_eq!(ran.last(), Some(&31));
}

#[tokio::test]
async fn a_fence_that_is_removed_while_copies_wait_lets_only_one_in_at_a_time() {
    let host = Host::start().await;
    let connection = host.connection();
    let pod = Fenced::new();
    let log = host.file("log").display().to_string();
    let exclusive = "mkdir $1.lock || echo two at once >>$1; sleep 0.2; rmdir $1.lock; echo ran >>$1";
    let holder = fenced(&pod, 1, "echo begun >$1.pid; sleep 1").arg(&log);
    let waiter = fenced(&pod, 1, exclusive).arg(&log);
    let (_, outcomes) = tokio::join!(run(&connection, &holder), async {
        host.written("log.pid").await;
        let removal = async {
            eventually(Duration::from_secs(5), "copies to wait", async || waiting(&fence_file(pod.0)) >= 2).await;
            fs::remove_file(fence_file(pod.0)).unwrap();
            // Comes only now, to the new file.
            run(&connection, &waiter).await
        };
        let (first, second, third) = tokio::join!(run(&connection, &waiter), run(&connection, &waiter), removal);
        [first, second, third]
    });
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().is_success()));
    assert_eq!(fs::read_to_string(log).unwrap(), "ran\nran\nran\n");
}

/// How many wait for the lock of a file.
fn waiting(file: &str) -> usize {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", fs::metadata(file).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().filter(|line| line.contains("-> ") && line.contains(&inode)).count()
}

#[tokio::test]
async fn a_host_that_cannot_keep_fences_runs_nothing() {
    let host = Host::start().await;
    let connection = host.connection();
    let pod = Fenced::new();
    fs::create_dir_all(fence_file(pod.0)).unwrap();
    let touched = host.file("touched");
    let outcome = run(&connection, &fenced(&pod, 1, "touch $1").arg(touched.display().to_string())).await;
    fs::remove_dir(fence_file(pod.0)).unwrap();
    assert!(matches!(outcome, Err(SshError::FenceUnusable(_))), "{outcome:?}");
    assert!(!touched.exists());
}
