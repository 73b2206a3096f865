use clap::{CommandFactory, Parser};

use super::*;

/// Every command with what is typed to reach it.
fn commands() -> Vec<(String, clap::Command)> {
    let mut root = Cli::command();
    root.build();
    let mut found = Vec::new();
    let mut open = vec![("pinacle".to_owned(), root)];
    while let Some((path, command)) = open.pop() {
        for inner in command.get_subcommands() {
            open.push((format!("{path} {}", inner.get_name()), inner.clone()));
        }
        found.push((path, command));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn the_definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_commands_help() {
    let pages: Vec<String> = commands()
        .into_iter()
        .map(|(path, command)| format!("$ {path} --help\n{}", command.term_width(100).render_help()))
        .collect();
    insta::assert_snapshot!(pages.join("\n\n"));
}

#[test]
fn every_command_has_examples_that_can_be_typed() {
    for (path, command) in commands() {
        if command.has_subcommands() && path != "pinacle" {
            continue;
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  pinacle ")).collect();
        assert!(!examples.is_empty(), "{path} has no examples");
        for example in examples {
            // What stands behind two spaces, a bar or a redirection is not for us.
            let typed = example.trim().split("  ").next().unwrap().split(['|', '>']).next().unwrap().replace('\'', "");
            let words: Vec<&str> = typed.split_whitespace().collect();
            assert!(Cli::try_parse_from(&words).is_ok(), "{path}: {typed:?} is refused");
        }
    }
}

#[test]
fn a_time_is_given_by_age_or_by_date() {
    for text in ["90s", "2h", "1day", "2026-11-21T09:15:40Z"] {
        assert!(Cli::try_parse_from(["pinacle", "events", "--since", text]).is_ok(), "{text}");
    }
    for text in ["yesterday", "-5", ""] {
        assert!(Cli::try_parse_from(["pinacle", "events", "--since", text]).is_err(), "{text:?}");
    }
}
