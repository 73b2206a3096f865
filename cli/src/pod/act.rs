//! What is done to pods: made, started, stopped, removed.

use std::{collections::BTreeMap, fs, path::Path};

use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{Api, segment},
    args::{CreateArgs, Global, PodAction, Yes},
    failure::Failure,
    op::carry_out,
    terminal::Terminal,
};

/// `pinacle pod create`.
pub(super) async fn create(global: &Global, terminal: &Terminal, args: CreateArgs) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let body = body(&args)?;
    let key = args.idempotency_key.clone().unwrap_or_else(new_key);
    let answer = api.post_once("/pods", &body, &key).await?;
    carry_out(&api, terminal, answer, args.wait).await
}

/// A key that nobody else has.
pub(crate) fn new_key() -> String {
    format!("cli-{:032x}", rand::rng().random::<u128>())
}

fn body(args: &CreateArgs) -> Result<Value, Failure> {
    let mut environment = args.env_file.as_deref().map(variables).transpose()?.unwrap_or_default();
    environment.extend(args.environment.iter().cloned());
    let labels: BTreeMap<_, _> = args.labels.iter().cloned().collect();
    let mut body = json!({ "name": args.name, "tier": args.tier, "restart": args.restart.as_str() });
    let mut set = |key: &str, value: Value| body.as_object_mut().map(|body| body.insert(key.into(), value));
    let given = [
        ("image", &args.image),
        ("runtime", &args.runtime),
        ("owner", &args.owner),
        ("host", &args.host),
        ("project", &args.project),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            set(key, json!(value));
        }
    }
    if !environment.is_empty() {
        set("environment", json!(environment));
    }
    if !args.secrets.is_empty() {
        set("secrets", json!(args.secrets));
    }
    if !labels.is_empty() {
        set("host_labels", json!(labels));
    }
    Ok(body)
}

/// `NAME=VALUE`, one a line, as Docker's `--env-file` has them.
fn variables(file: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::input(format!("--env-file: cannot read {}: {error}", file.display())))?;
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim_start()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| match line.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(Failure::input(format!("--env-file: line {number} of {} is not NAME=VALUE", file.display()))),
        })
        .collect()
}

/// `pinacle pod start` and its like.
pub(super) async fn act(global: &Global, terminal: &Terminal, verb: &str, action: PodAction) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let answer = api.send(Method::POST, &format!("/pods/{}/{verb}", segment(&action.pod)), &[]).await?;
    carry_out(&api, terminal, answer, action.wait).await
}

/// `pinacle pod transfer`.
pub(super) async fn transfer(
    global: &Global,
    terminal: &Terminal,
    action: PodAction,
    owner: &str,
) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let path = format!("/pods/{}/transfer", segment(&action.pod));
    let answer = api.change(Method::POST, &path, &json!({ "owner": owner })).await?;
    carry_out(&api, terminal, answer, action.wait).await
}

/// `pinacle pod rm`.
pub(super) async fn remove(global: &Global, terminal: &Terminal, action: PodAction, yes: Yes) -> Result<(), Failure> {
    yes.or_refuse(&format!(
        "{} would be stopped and removed for good, with its volumes and all that is in them",
        action.pod
    ))?;
    let api = Api::open(global)?;
    let answer = api.send(Method::DELETE, &format!("/pods/{}", segment(&action.pod)), &[]).await?;
    carry_out(&api, terminal, answer, action.wait).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, PodCommand};

    fn args(words: &[&str]) -> CreateArgs {
        match Cli::try_parse_from([&["pinacle", "pod", "create"], words].concat()).unwrap().command {
            Command::Pod(PodCommand::Create(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_is_left_to_the_installation() {
        let body = body(&args(&["web"])).unwrap();
        assert_eq!(body, json!({ "name": "web", "tier": "dev.small", "restart": "always" }));
    }

    #[test]
    fn everything_that_is_said_is_asked_for_and_an_option_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        fs::write(&file, "# mine\n\nA=1\nB=x=y z\n").unwrap();
        let file = file.to_str().unwrap();
        let words = [
            "web",
            "--tier",
            "dev.large",
            "--image",
            "debian:12",
            "--runtime",
            "runc",
            "--env-file",
            file,
            "-e",
            "A=2",
        ];
        let more = ["--host", "alpha", "--label", "zone=north", "--restart", "on-failure"];
        assert_eq!(
            body(&args(&[&words[..], &more].concat())).unwrap(),
            json!({ "name": "web", "tier": "dev.large", "image": "debian:12", "runtime": "runc", "host": "alpha",
                    "environment": { "A": "2", "B": "x=y z" }, "host_labels": { "zone": "north" }, "restart": "on_failure" })
        );
        fs::write(file, "A=1\nnonsense\n").unwrap();
        let line = body(&args(&["web", "--env-file", file])).unwrap_err().line();
        assert!(line.contains("line 2") && line.contains(file), "{line}");
    }

    #[test]
    fn every_request_has_a_key_of_its_own() {
        assert_ne!(new_key(), new_key());
    }
}
