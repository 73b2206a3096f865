//! On which terms a host takes part: open for new pods or not, whose, its labels, its SSH keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    api::{Accepted, Api, Whole, segment},
    args::{Global, LabelChange, Yes},
    failure::Failure,
    op::until_ended,
    progress::Console,
    terminal::Terminal,
};

/// These take no more than a message to the orchestrator.
const DEADLINE: Duration = Duration::from_secs(30);

/// `pinacle host cordon`.
pub(super) async fn cordon(global: &Global, terminal: &Terminal, host: &str) -> Result<(), Failure> {
    change(global, terminal, host, (Method::POST, "cordon"), None, "is closed for new pods; those on it stay").await
}

/// `pinacle host uncordon`.
pub(super) async fn uncordon(global: &Global, terminal: &Terminal, host: &str) -> Result<(), Failure> {
    change(global, terminal, host, (Method::POST, "uncordon"), None, "is open for new pods").await
}

/// `pinacle host transfer`.
pub(super) async fn transfer(global: &Global, terminal: &Terminal, host: &str, owner: &str) -> Result<(), Failure> {
    let body = json!({ "owner": owner });
    change(global, terminal, host, (Method::POST, "transfer"), Some(body), &format!("is {owner}'s now")).await
}

/// `pinacle host label`.
pub(super) async fn label(
    global: &Global,
    terminal: &Terminal,
    host: &str,
    labels: Vec<LabelChange>,
) -> Result<(), Failure> {
    let (mut set, mut remove) = (BTreeMap::new(), BTreeSet::new());
    for label in labels {
        match label {
            LabelChange::Set(key, value) => drop(set.insert(key, value)),
            LabelChange::Remove(key) => drop(remove.insert(key)),
        }
    }
    if let Some(both) = remove.iter().find(|key| set.contains_key(*key)) {
        return Err(Failure::input(format!("{both} is to be set and to be taken away: say one of the two")));
    }
    let body = json!({ "set": set, "remove": remove });
    change(global, terminal, host, (Method::PUT, "labels"), Some(body), "has its new labels").await
}

/// `pinacle host trust-keys`.
pub(super) async fn trust_keys(global: &Global, terminal: &Terminal, host: &str, yes: Yes) -> Result<(), Failure> {
    yes.or_refuse(&format!(
        "the SSH keys that {host} has now would be trusted from now on: compare their fingerprints first, since whoever \
         answers in its place would get all commands"
    ))?;
    change(global, terminal, host, (Method::POST, "trust-keys"), None, "is trusted with the keys that it has now").await
}

/// Asks for a change of a host, and waits until the orchestrator has made it.
pub(super) async fn change(
    global: &Global,
    terminal: &Terminal,
    host: &str,
    (method, what): (Method, &str),
    body: Option<Value>,
    done: &str,
) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let slash = if what.is_empty() || what.starts_with('?') { "" } else { "/" };
    let path = format!("/hosts/{}{slash}{what}", segment(host));
    let answer = match body {
        Some(body) => api.change(method, &path, &body).await?,
        None => api.send(method, &path, &[]).await?,
    };
    let id = Whole::<Accepted>::read(answer)?.view.operation_id;
    let console = Console::hidden();
    let Ok(operation) = timeout(DEADLINE, until_ended(&api, &console, &id)).await else {
        return Err(Failure::failed(format!(
            "the orchestrator has not answered within {} s: pinacle op show {id} tells when it has",
            DEADLINE.as_secs()
        )));
    };
    let operation = operation?;
    if terminal.json {
        terminal.object(&operation.json)?;
    }
    match (operation.progress.as_str(), &operation.cause) {
        ("succeeded", _) if terminal.json => Ok(()),
        ("succeeded", _) => terminal.line(&format!("{host} {done}")),
        (progress, cause) => Err(Failure::failed(cause.clone().unwrap_or_else(|| format!("it {progress}")))),
    }
}
