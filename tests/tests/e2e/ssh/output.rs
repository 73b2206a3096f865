//! What goes in and what comes out.

use std::{fs, time::Duration};

use pinacle_bus::settings::Secret;
use pinacle_orchestrator::ssh::{Command, SshError};
use pinacle_tests::eventually;
use tokio::sync::watch;

use super::fixture::{Host, output, run};

#[tokio::test]
async fn much_output_is_read_to_its_end_but_not_kept() {
    let host = Host::start().await;
    let script = "echo first; head -c 10485760 /dev/zero | tr '\\0' x; echo; echo last; head -c 3000000 /dev/zero >&2";
    let finished = run(&host.connection(), &Command::shell(script)).await.unwrap();
    assert!(finished.is_success());
    let text = finished.stdout.text();
    assert!(text.starts_with("first\nx") && text.ends_with("x\nlast\n"));
    let left_out = finished.stdout.left_out();
    assert_eq!(left_out, 6 + 10_485_760 + 6 - 1_048_576);
    assert!(text.contains(&format!("\n[{left_out} bytes left out]\n")));
    assert!(finished.stdout.bytes().len() < 1_048_576 + 64 && finished.stderr.bytes().len() < 1_048_576 + 64);
}

#[tokio::test]
async fn binary_output_exit_codes_and_signals_come_as_they_are() {
    let host = Host::start().await;
    let connection = host.connection();
    let every_byte = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done; exit 3";
    let finished = run(&connection, &Command::shell(every_byte)).await.unwrap();
    assert_eq!(finished.stdout.bytes(), (0..=255).collect::<Vec<u8>>());
    assert_eq!(finished.exit_code, Some(3));
    let killed = run(&connection, &Command::shell("kill -KILL 0")).await.unwrap();
    assert_eq!((killed.exit_code, killed.signal.as_deref()), (None, Some("KILL")));
    let missing = run(&connection, &Command::new("no-such-program")).await.unwrap();
    assert_eq!(missing.exit_code, Some(127));
    assert!(missing.stderr.text().contains("no-such-program"));
}

#[tokio::test]
async fn arguments_reach_the_program_as_they_were_given() {
    let host = Host::start().await;
    let arguments = ["", " ", "it's", "$HOME `id` \\", "a\nb", "\u{1b}é", "*", "-n", "!x"];
    let command = Command::shell("printf '%s\\0' \"$@\"").args(arguments);
    let finished = run(&host.connection(), &command).await.unwrap();
    assert_eq!(finished.stdout.text().split_terminator('\0').collect::<Vec<_>>(), arguments);
    let too_long = Command::new("echo").arg("x".repeat(130_000));
    assert!(matches!(run(&host.connection(), &too_long).await, Err(SshError::InvalidCommand(_))));
    let longest = Command::shell("printf %s \"$1\" | wc -c").arg("x".repeat(119_000));
    assert_eq!(run(&host.connection(), &longest).await.unwrap().stdout.text(), "119000\n");
}

#[tokio::test]
async fn a_secret_is_read_by_the_command_and_seen_nowhere() {
    let host = Host::start().await;
    let connection = host.connection();
    let secret = "s3cr3t-'\"$value";
    let script = "cat >$1; echo >$1.end; sleep 1; cat $1; cat $1 >&2; for c in s 3cr3t- \\' '\"$valu' e; do printf %s \"$c\"; sleep 0.05; done";
    let command = Command::shell(script)
        .arg(host.file("read").display().to_string())
        .secret_stdin(Secret::new(secret))
        .mask(Secret::new(secret));
    let (finished, ()) = tokio::join!(run(&connection, &command), async {
        host.written("read.end").await;
        for process in fs::read_dir("/proc").unwrap().flatten() {
            for file in ["cmdline", "environ"] {
                let text = fs::read(process.path().join(file)).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&text).contains(secret), "{:?}", process.path());
            }
        }
    });
    assert_eq!(fs::read_to_string(host.file("read")).unwrap(), secret);
    let finished = finished.unwrap();
    assert_eq!((finished.stdout.text().as_ref(), finished.stderr.text().as_ref()), ("******", "***"));
    assert!(!host.sshd.log_text().contains("s3cr3t"));
}

#[tokio::test]
async fn a_large_file_arrives_whole_and_tells_how_far_it_is() {
    let host = Host::start().await;
    let connection = host.connection();
    let bytes: Vec<u8> = (0..32 * 1024 * 1024_u32).map(|index| (index ^ (index >> 11)).to_le_bytes()[0]).collect();
    let path = host.file("archive.tar");
    fs::write(&path, &bytes).unwrap();
    let expected = output(&connection, &format!("sha256sum <{}", path.display())).await;
    let (sent, progress) = watch::channel(0);
    let command = Command::new("sha256sum").stdin_file(&path, sent);
    let between = async {
        let seen = eventually(Duration::from_secs(30), "some of it to be sent", async || {
            Some(*progress.borrow()).filter(|sent| *sent > 0)
        });
        seen.await
    };
    let (finished, first) = tokio::join!(run(&connection, &command), between);
    assert_eq!(finished.unwrap().stdout.text().trim(), expected);
    assert!(first <= bytes.len() as u64);
    assert_eq!(*progress.borrow(), bytes.len() as u64);
}

#[tokio::test]
async fn a_command_that_stops_reading_does_not_hold_up_others() {
    let host = Host::start().await;
    let connection = host.connection();
    let path = host.file("archive.tar");
    fs::write(&path, vec![0; 16 * 1024 * 1024]).unwrap();
    let (sent, _) = watch::channel(0);
    let stuck = Command::shell("echo >$1; sleep 1000")
        .arg(host.file("stuck").display().to_string())
        .stdin_file(&path, sent.clone())
        .deadline(Duration::from_secs(3));
    let (outcome, ()) = tokio::join!(run(&connection, &stuck), async {
        host.written("stuck").await;
        for _ in 0..20 {
            assert_eq!(output(&connection, "echo through").await, "through");
        }
    });
    assert!(matches!(outcome, Err(SshError::TimedOut { ended: true, .. })), "{outcome:?}");
    // It ends without having read all: that is its own affair.
    let partial = Command::new("head").args(["-c", "10"]).stdin_file(&path, sent);
    assert_eq!(run(&connection, &partial).await.unwrap().exit_code, Some(0));
}
