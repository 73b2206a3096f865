//! Commands that need no installation, or only a database.

use std::process::Command;

use pinacle_tests::{Postgres, Sandbox, machine};

use super::fixture::pinacle;

#[test]
fn what_makes_no_sense_is_one_line_and_exit_code_2() {
    for arguments in [
        &["hots"][..],
        &[],
        &["host"],
        &["host", "show"],
        &["host", "ls", "--state", "asleep"],
        &["host", "ls", "--gateway", "localhost:8080"],
        &["events", "--since", "soon"],
        &["events", "--limit", "0"],
        &["pod", "create"],
        &["pod", "create", "web", "--env", "nothing"],
        &["pod", "create", "web", "--env-file", "/nonexistent"],
        &["pod", "create", "web", "--restart", "sometimes"],
        &["pod", "rm", "web"],
        &["pod", "logs", "web", "--tail", "-1"],
        &["op", "show", "pod_1"],
        &["op", "cancel", "web"],
        &["op", "ls", "--progress", "good"],
        &["host", "label", "box"],
        &["host", "label", "box", "zone"],
        &["host", "label", "box", "zone=a", "zone-"],
        &["host", "trust-keys", "box"],
        &["dead", "show", "host_1"],
        &["dead", "drop", "dead_2NxnYz0Gk2pVq8uVb3oZcX7fFqD"],
        &["replay", "nonsense"],
        &["replay", "metrics", "--speed=-1"],
        &["replay", "metrics", "--subject", "a..b"],
        &["replay", "metrics", "--since", "1m", "--until", "1h"],
        &["replay", "metrics", "--until", "1h", "--follow"],
        &["migrate", "down"],
        &["migrate", "up", "--database", "mysql://x"],
        &["up", "--nats-port", "70000"],
        &["up", "--nats-port", "0"],
        &["up", "--listen", "here"],
        &["up", "--nats", "http://x"],
        &["completions", "tcsh"],
        &["host", "ls", "--config", "/nonexistent.toml", "--nonsense"],
    ] {
        let folder = Sandbox::new();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join("secrets/admin_token"), "t".repeat(40)).unwrap();
        let data = folder.path().to_str().unwrap();
        let line = pinacle(arguments, &[("PINACLE_DATA_DIR", data)]).refused_at_once(2);
        assert!(line.len() < 300, "{arguments:?}: {line}");
    }
}

#[test]
fn all_faults_in_settings_are_told_in_one_line() {
    let environment = [("PINACLE__UP__NONSENSE", "1"), ("PINACLE__UP__LISTEN", "here"), ("PINACLE__PU__AGENT", "1")];
    let line = pinacle(&["up", "--data-dir", "/nonexistent/data"], &environment).refused_at_once(2);
    for part in ["PINACLE__UP__NONSENSE", "up.listen", "PINACLE__PU__AGENT"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
}

#[test]
fn whoever_cannot_be_reached_is_named_with_what_to_do() {
    let folder = Sandbox::new();
    let data = folder.path().to_str().unwrap();
    let ask = |arguments: &[&str]| pinacle(arguments, &[("PINACLE_DATA_DIR", data)]).refused_at_once(1);
    let line = ask(&["host", "ls"]);
    assert!(line.contains("there is no token") && line.contains("make up"), "{line}");

    let token = folder.path().join("token");
    std::fs::write(&token, "t".repeat(40)).unwrap();
    let token = token.to_str().unwrap();
    let nobody = machine::free_address().to_string();
    for command in [
        &["host", "ls"][..],
        &["watch"],
        &["pod", "ls"],
        &["pod", "create", "web"],
        &["pod", "rm", "web", "--yes"],
        &["op", "ls"],
        &["status"],
        &["events"],
        &["dead", "ls"],
        &["host", "top"],
    ] {
        let gateway = format!("http://{nobody}");
        let arguments = [command, &["--gateway", &gateway, "--token-file", token]].concat();
        let line = ask(&arguments);
        assert!(line.contains(&nobody) && line.contains("--gateway"), "{line}");
    }
    let line = ask(&["replay", "events", "--nats", &format!("nats://{nobody}")]);
    assert!(line.contains(&nobody) && line.contains("--nats"), "{line}");
    let line = ask(&["migrate", "status", "--database", &format!("postgres://u:hunter2@{nobody}/x")]);
    assert!(line.contains("database") && !line.contains("hunter2"), "{line}");
}

#[test]
fn what_destroys_says_what_it_would_do_and_asks_nobody() {
    let line = pinacle(&["pod", "rm", "web"], &[]).refused_at_once(2);
    assert!(line.contains("web would be stopped and removed for good") && line.contains("--yes"), "{line}");
    let line = pinacle(&["host", "trust-keys", "box"], &[]).refused_at_once(2);
    assert!(line.contains("fingerprints") && line.contains("--yes"), "{line}");
}

#[test]
fn completions_are_scripts_for_their_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = pinacle(&["completions", shell], &[]).ok();
        for word in ["replay", "speed", "resend", "token-file"] {
            assert!(script.contains(word), "{shell}: {word} is missing");
        }
        // Others are not on every machine.
        if shell == "bash" {
            let folder = Sandbox::new();
            let file = folder.path().join("script");
            std::fs::write(&file, script).unwrap();
            assert!(Command::new("bash").arg("-n").arg(&file).status().unwrap().success());
        }
    }
}

#[test]
fn the_page_of_subjects_is_what_the_repository_has() {
    let printed = pinacle(&["subjects"], &[]).ok();
    let kept = std::fs::read_to_string(machine::repository().join("docs/SUBJECTS.md")).unwrap();
    assert!(printed == kept, "print it anew: pinacle subjects > docs/SUBJECTS.md");
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let program = machine::service("pinacle");
    let script = format!("set -o pipefail; {} subjects | head -n 1", program.display());
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn colour_comes_only_where_it_is_wanted() {
    let folder = Sandbox::new();
    let data = folder.path().to_str().unwrap();
    for (arguments, environment) in [
        (&["host", "ls"][..], ("NO_COLOR", "1")),
        (&["host", "ls", "--color", "never"], ("CLICOLOR_FORCE", "1")),
        (&["host", "ls"], ("TERM", "dumb")),
    ] {
        let outcome = pinacle(arguments, &[("PINACLE_DATA_DIR", data), environment]);
        assert!(!outcome.stderr.contains('\u{1b}') && !outcome.stdout.contains('\u{1b}'), "{outcome:?}");
    }
}

#[tokio::test]
async fn the_schema_goes_up_and_down_and_says_where_it_is() {
    let postgres = Postgres::start().await;
    let url = postgres.empty_database().await;
    let environment = [("PINACLE__DATABASE__URL", url.as_str()), ("PINACLE_DATA_DIR", "/nonexistent")];
    let applied = || {
        let changes = pinacle(&["migrate", "status", "--json"], &environment).json();
        let changes = changes.as_array().unwrap().clone();
        (changes.iter().filter(|change| change["applied"] == true).count(), changes.len())
    };
    let (none, all) = applied();
    assert!(none == 0 && all > 10, "{none} of {all}");
    assert!(pinacle(&["migrate", "status"], &environment).ok().contains("pending"));
    assert_eq!(pinacle(&["migrate", "up", "--json"], &environment).json()["applied"], all);
    assert_eq!(pinacle(&["migrate"], &environment).ok(), "the schema is up to date already\n");
    assert_eq!(applied(), (all, all));
    let line = pinacle(&["migrate", "down", "--steps", "2"], &environment).refused_at_once(2);
    assert!(line.contains("--yes"), "{line}");
    let taken = pinacle(&["migrate", "down", "--steps", "2", "--yes", "--json"], &environment).json();
    assert_eq!((taken["reverted"].as_u64(), applied().0), (Some(2), all - 2));
    assert!(pinacle(&["migrate", "up"], &environment).ok().contains("2 changes applied"));
}
