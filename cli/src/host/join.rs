//! How machines become hosts: a token with the line to run there, or all of it from here over SSH.

mod remote;

use std::io::{IsTerminal, Write};

use reqwest::Method;
use serde_json::{Map, Value, json};

use self::remote::Remote;
use crate::{
    api::Api,
    args::{Global, JoinTerms, Provision},
    failure::Failure,
    figures::clean,
    people::People,
    terminal::Terminal,
};

const TOKENS: &str = "/hosts/enrolment-tokens";

/// `pinacle host enrol`.
pub(super) async fn enrol(global: &Global, terminal: &Terminal, terms: JoinTerms) -> Result<(), Failure> {
    let made = token(&Api::open(global)?, terms).await?;
    if terminal.json {
        return terminal.document(&made);
    }
    terminal.hint("run this on the machine, as root; it is shown this once:");
    let command = text(&made, "command")?;
    if command.contains("://127.0.0.1:") || command.contains("://localhost:") {
        terminal.hint(
            "other machines do not reach that address: for them start with make up ARGS=\"--listen ADDRESS:PORT\", or \
             set gateway.public_url",
        );
    }
    terminal.line(command)
}

/// `pinacle host tokens`.
pub(super) async fn tokens(global: &Global, terminal: &Terminal, revoke: Option<&str>) -> Result<(), Failure> {
    let api = Api::open(global)?;
    if let Some(id) = revoke {
        api.send(Method::DELETE, &format!("{TOKENS}/{}", crate::api::segment(id)), &[]).await?;
        return terminal.line(&format!("{id} is taken back: no machine joins by it any more"));
    }
    let listed = api.get(TOKENS, &[]).await?;
    let items = listed.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    if terminal.json {
        return terminal.document(&items);
    }
    if items.is_empty() {
        terminal.hint("there are no tokens: pinacle host enrol makes one");
        return Ok(());
    }
    let people = People::known(&api).await;
    let mut table = terminal.table(&["id", "name", "owner", "used", "until", "state"]);
    for token in &items {
        let said = |key: &str| clean(token.get(key).and_then(Value::as_str).unwrap_or_default());
        let count = |key: &str| token.get(key).and_then(Value::as_i64).unwrap_or_default();
        let state = if token.get("revoked_at").is_some_and(Value::is_string) { "taken back" } else { "" };
        let used = format!("{} of {}", count("used"), count("uses"));
        table.add_row([
            said("enrolment_id"),
            said("name"),
            people.name(&said("owner")).to_owned(),
            used,
            said("expires_at"),
            state.into(),
        ]);
    }
    terminal.print(&mut table)
}

/// `pinacle host provision`.
pub(super) async fn provision(global: &Global, terminal: &Terminal, wanted: Provision) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let mut remote = Remote::find(&wanted.target, wanted.port, wanted.identity.as_deref()).await?;
    let offered = remote.offered().to_owned();
    match &wanted.host_key {
        Some(known) if remote.accept(known) => {}
        Some(known) => {
            return Err(Failure::failed(format!(
                "{} has the SSH host key {}, not {known}: nothing was done there",
                wanted.target,
                offered.join(" and ")
            )));
        }
        None => {
            terminal.hint(&format!("{} has the SSH host key {}", wanted.target, offered.join(" and ")));
            confirm()?;
        }
    }
    let script = api.download("/install.sh").await?;
    let machine = remote.run("uname -m", &[]).await?;
    let arch = if machine.trim() == "arm64" { "aarch64" } else { machine.trim() };
    let agent = api.download(&format!("/agent/{arch}")).await?;
    let made = token(&api, wanted.terms).await?;
    let folder = remote.run("mktemp -d", &[]).await?.trim().to_owned();
    if !folder.starts_with('/') || !folder.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte)) {
        return Err(Failure::failed(format!("{} makes no folder for what is brought there", wanted.target)));
    }
    let outcome = async {
        remote.run(&format!("umask 077; cat >{folder}/install.sh"), &script).await?;
        remote.run(&format!("umask 077; cat >{folder}/agent"), &agent).await?;
        // On standard input: an argument is there for everybody to read.
        remote.run(&format!("umask 077; cat >{folder}/token"), text(&made, "token")?.as_bytes()).await?;
        let docker = if wanted.with_docker { " --with-docker" } else { "" };
        let root = if remote.is_root() { "" } else { "sudo -n " };
        let command =
            format!("{root}sh {folder}/install.sh --token-file {folder}/token --agent-file {folder}/agent{docker}");
        remote.show(&command).await
    };
    let outcome = outcome.await;
    // The token is used up, or worth nothing without the rest; the folder goes in any case.
    let _ = remote.run(&format!("rm -rf {folder}"), &[]).await;
    outcome
}

fn confirm() -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::input("compare the key, and name it with --host-key SHA256:… if it is the right one"));
    }
    let ask = || -> std::io::Result<String> {
        let mut out = std::io::stderr();
        write!(out, "is that its key? (yes/no) ")?;
        out.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.trim() == "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was done there")),
    }
}

async fn token(api: &Api, terms: JoinTerms) -> Result<Value, Failure> {
    let mut body = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(key.into(), value);
        }
    };
    let labels: Map<String, Value> = terms.labels.into_iter().map(|(key, value)| (key, value.into())).collect();
    set("name", terms.name.map(Value::from));
    set("labels", (!labels.is_empty()).then(|| labels.into()));
    set("owner", terms.owner.map(Value::from));
    set("shared", terms.shared.then_some(json!(true)));
    set("host", terms.host.map(Value::from));
    set("expires_in_seconds", terms.expires.map(|expires| expires.as_secs().into()));
    set("uses", terms.uses.map(Value::from));
    api.change(Method::POST, TOKENS, &Value::Object(body)).await
}

fn text<'a>(made: &'a Value, key: &str) -> Result<&'a str, Failure> {
    let found = made.get(key).and_then(Value::as_str);
    found.ok_or_else(|| Failure::failed(format!("the gateway's answer has no {key}: is it of another release?")))
}
