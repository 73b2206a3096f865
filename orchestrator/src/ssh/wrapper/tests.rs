use std::{path::Path, process::Command};

use super::*;

/// The exit code of a command behind the fence, as each shell there is runs it.
fn fenced(shell: &[&str], file: &Path, number: u64, command: &[&str]) -> Option<i32> {
    let status = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", FENCE, "pinacle"])
        .arg(file)
        .arg(number.to_string())
        .args(command)
        .status();
    status.unwrap().code()
}

#[test]
fn every_shell_keeps_the_fence() {
    let folder = std::env::temp_dir().join(format!("pinacle-fence-{}", PodId::new()));
    for (index, shell) in [&["sh"][..], &["bash"], &["busybox", "sh"]].into_iter().enumerate() {
        if Command::new(shell[0]).args(&shell[1..]).args(["-c", ":"]).output().is_err() {
            continue;
        }
        let file = folder.join(index.to_string());
        let outcome = |number, command: &[&str]| fenced(shell, &file, number, command);
        assert_eq!(outcome(8, &["sh", "-c", "exit 5"]), Some(5), "{shell:?}");
        assert_eq!(outcome(7, &["true"]), Some(FENCED), "{shell:?}");
        assert_eq!(outcome(8, &["true"]), Some(0), "{shell:?}");
        assert_eq!(outcome(10, &["true"]), Some(0), "{shell:?}");
        assert_eq!(outcome(9, &["true"]), Some(FENCED), "{shell:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "00000000000000000010\n", "{shell:?}");
        // A process was killed between making the file and writing to it.
        std::fs::write(&file, "").unwrap();
        assert_eq!(outcome(1, &["true"]), Some(0), "{shell:?}");
    }
    assert!(folder.join("1").exists(), "bash took no part");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_group_is_found_among_what_start_up_files_say() {
    assert_eq!(group(b"motd\npinacle-group 42\nrest"), Some((&b"motd\n"[..], 42, &b"rest"[..])));
    assert_eq!(group(b"pinacle-group 42\n"), Some((&b""[..], 42, &b""[..])));
    for untold in [&b""[..], b"motd\n", b"pinacle-group 4", b"pinacle-group x\n"] {
        assert_eq!(group(untold), None);
    }
}

#[test]
fn only_what_the_fence_says_is_a_refusal() {
    let fence = Some(Fence { pod_id: PodId::new(), number: 1 });
    let said = "other\npinacle: fence 1 is below 2\n";
    assert!(matches!(refusal(fence, FENCED, said), Some(SshError::Fenced(_))));
    assert!(matches!(refusal(fence, UNUSABLE, "pinacle: cannot lock x\n"), Some(SshError::FenceUnusable(_))));
    assert!(refusal(None, FENCED, said).is_none());
    assert!(refusal(fence, 1, said).is_none());
    assert!(refusal(fence, FENCED, "other\n").is_none());
}

#[test]
fn the_host_ends_a_command_a_little_later_than_we_do_and_never_at_once() {
    assert!(wrapped("true", None, Duration::from_millis(1500)).ends_with("exec timeout -s KILL 2 true"));
    assert!(wrapped("true", None, Duration::ZERO).ends_with("exec timeout -s KILL 1 true"));
}
