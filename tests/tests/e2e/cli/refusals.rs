//! Starts that cannot be: one line that says what is in the way and what to do, and nothing is left running.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pinacle_tests::{Sandbox, machine};

use super::fixture::{Installation, run};

#[tokio::test]
async fn a_taken_port_is_named_with_who_has_it() {
    let installation = Installation::new();
    for (address, option) in
        [(installation.listen.clone(), "--listen"), (format!("127.0.0.1:{}", installation.nats_port), "--nats-port")]
    {
        let holder = TcpListener::bind(&address).unwrap();
        let line = installation.up_to_the_end(&[]).refused_at_once(1);
        let port = holder.local_addr().unwrap().port().to_string();
        let pid = std::process::id().to_string();
        for part in [port.as_str(), "is taken by", pid.as_str(), option] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
    }
    installation.none_runs(&installation.pids()).await;
}

#[test]
fn a_disk_that_is_nearly_full_is_refused_before_anything_starts() {
    let installation = Installation::new().with("PINACLE__UP__MIN_FREE_MIB", "1000000000");
    let line = installation.up_to_the_end(&[]).refused_at_once(1);
    assert!(line.contains("MiB left") && line.contains("make room"), "{line}");
}

#[tokio::test]
async fn a_disk_that_runs_full_during_the_start_is_one_line() {
    if !machine::is_root() {
        // Only root mounts; the line itself is checked without a mount above.
        return;
    }
    let installation = Installation::new().with("PINACLE__UP__MIN_FREE_MIB", "1");
    let data = installation.data();
    fs::create_dir(&data).unwrap();
    mount(Some("tmpfs"), &data, Some("tmpfs"), MsFlags::empty(), Some("size=12m")).unwrap();
    let outcome = installation.up_to_the_end(&[]);
    umount2(&data, MntFlags::MNT_DETACH).unwrap();
    let line = outcome.refused(1);
    assert!(line.contains("No space left on device"), "{line}");
}

#[test]
fn a_server_that_is_not_the_pinned_one_is_not_started() {
    let installation = Installation::new();
    let folder = installation.data().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let server = folder.join("nats-server");
    fs::write(&server, "#!/bin/sh\ntouch started\n").unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    let line = installation.up_to_the_end(&[]).refused_at_once(1);
    assert!(line.contains("sha256") && line.contains("scripts/setup run"), "{line}");
}

#[tokio::test]
async fn a_server_that_does_not_start_is_told_with_its_last_words() {
    let installation = Installation::new();
    let server = installation.sandbox.path().join("server");
    fs::write(&server, "#!/bin/sh\necho '[1] 2026/11/21 09:15:40 [FTL] the moon is in the way' >&2\nexit 3\n").unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    let installation = installation.with("PINACLE__UP__NATS_SERVER", server.to_str().unwrap());
    let line = installation.up_to_the_end(&[]).refused(1);
    assert!(line.contains("nats ended with exit code 3: the moon is in the way"), "{line}");
    installation.none_runs(&installation.pids()).await;
}

#[test]
fn data_of_another_postgres_are_left_alone() {
    let installation = Installation::new();
    let postgres = installation.data().join("postgres");
    fs::create_dir_all(&postgres).unwrap();
    fs::write(postgres.join("PG_VERSION"), "7\n").unwrap();
    let line = installation.up_to_the_end(&[]).refused_at_once(1);
    assert!(line.contains("release 7") && line.contains("postgresql-7"), "{line}");
}

#[test]
fn a_missing_program_is_named() {
    let folder = Sandbox::new();
    let program = folder.path().join("pinacle");
    fs::copy(machine::service("pinacle"), &program).unwrap();
    let data = folder.path().join("data");
    let line = run(&program, &["up", "--data-dir", data.to_str().unwrap()], &[]).refused_at_once(1);
    assert!(line.contains("pinacle-orchestrator") && line.contains("cargo build"), "{line}");
}

#[tokio::test]
async fn faults_in_a_services_settings_stop_the_start_and_are_told() {
    let installation = Installation::new().with("PINACLE__INGEST__NONSENSE", "1").with("PINACLE__INGEST__FOLLY", "1");
    let line = installation.up_to_the_end(&[]).refused(1);
    for part in ["ingest", "settings", "PINACLE__INGEST__NONSENSE", "PINACLE__INGEST__FOLLY"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    installation.none_runs(&installation.pids()).await;
}
