//! `pinacle secrets …` and `pinacle ssh-key …`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use anyhow::Context as _;
use pinacle_bus::{
    contract::{Timestamp, key::secret_name},
    crypto::Key,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    api::{Api, Whole, segment},
    args::{Global, SecretCommand, SecretPlace, SshKeyCommand, Wait},
    dead::confirm,
    failure::Failure,
    figures::{ago, clean, count},
    host::Page,
    op::carry_out,
    people::People,
    prompt,
    terminal::{Terminal, Tone},
};

/// As the gateway has it.
const LONGEST_VALUE: u64 = 16 * 1024;

#[derive(Deserialize)]
struct Secret {
    name: String,
    owner: String,
    project: Option<String>,
    version: i64,
    updated_at: Timestamp,
    updated_by: String,
}

#[derive(Deserialize)]
struct Version {
    version: i64,
    created_at: Timestamp,
    created_by: String,
}

#[derive(Deserialize)]
struct SshKey {
    public_key: String,
    fingerprint: String,
    since: Timestamp,
    from_settings: bool,
    former: Vec<String>,
    hosts_behind: Vec<String>,
}

/// `pinacle secrets …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: SecretCommand) -> Result<(), Failure> {
    match command {
        SecretCommand::Ls(place) => list(&Api::open(global)?, terminal, place).await,
        SecretCommand::Set { name, place } => set(global, terminal, &name, place).await,
        SecretCommand::Versions { name, place } => versions(&Api::open(global)?, terminal, &name, place).await,
        SecretCommand::Transfer { name, to, place } => transfer(global, terminal, &name, &to, place).await,
        SecretCommand::Rm { name, place, yes } => {
            confirm(yes, &format!("remove the secret {} with all of its values?", clean(&name)))?;
            let answer = Api::open(global)?.send(Method::DELETE, &path(&name), &query(place)).await?;
            if terminal.json { terminal.document(&answer) } else { terminal.line(&format!("{name} is removed")) }
        }
        SecretCommand::Rotate { key_file } => rotate(&Api::open(global)?, terminal, key_file.as_deref()).await,
    }
}

fn path(name: &str) -> String {
    format!("/secrets/{}", segment(name))
}

fn query(place: SecretPlace) -> Vec<(&'static str, String)> {
    let pairs = [("owner", place.owner), ("project", place.project)];
    pairs.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect()
}

async fn list(api: &Api, terminal: &Terminal, place: SecretPlace) -> Result<(), Failure> {
    let secrets: Vec<Whole<Secret>> = api.all("/secrets", query(place), usize::MAX).await?;
    if terminal.json {
        return terminal.document(&secrets.iter().map(|secret| &secret.json).collect::<Vec<_>>());
    }
    if secrets.is_empty() {
        terminal.hint("there are no secrets: pinacle secrets set NAME makes one");
        return Ok(());
    }
    let people = People::known(api).await;
    for secret in &secrets {
        let name = terminal.paint(&secret.name, Tone::Plain);
        let place = secret.project.as_deref().map(|project| format!(" for {}", clean(project))).unwrap_or_default();
        let (owner, by) = (clean(people.name(&secret.owner)), clean(people.name(&secret.updated_by)));
        let what = format!("version {}, {} ago by {by}; of {owner}{place}", secret.version, ago(secret.updated_at));
        terminal.line(&format!("{name}  {}", terminal.paint(&what, Tone::Dim)))?;
    }
    Ok(())
}

async fn set(global: &Global, terminal: &Terminal, name: &str, place: SecretPlace) -> Result<(), Failure> {
    // Before anybody types it.
    secret_name("the name", name).map_err(|invalid| Failure::input(format!("{name:?}: {}", invalid.why)))?;
    let api = Api::open(global)?;
    let value = value(name)?;
    if value.is_empty() {
        return Err(Failure::input("a secret cannot be empty"));
    }
    let mut body = json!({ "value": *value });
    for (key, text) in query(place) {
        body.as_object_mut().map(|body| body.insert(key.into(), text.into()));
    }
    let answer = api.change(Method::PUT, &path(name), &body).await?;
    if terminal.json {
        return terminal.document(&answer);
    }
    let secret: Whole<Secret> = Whole::read(answer)?;
    terminal.line(&format!("{name} has its version {}", secret.version))
}

async fn transfer(
    global: &Global,
    terminal: &Terminal,
    name: &str,
    to: &str,
    place: SecretPlace,
) -> Result<(), Failure> {
    let place: Vec<String> = query(place).into_iter().map(|(key, text)| format!("{key}={}", segment(&text))).collect();
    let path = format!("{}/transfer?{}", path(name), place.join("&"));
    let answer = Api::open(global)?.change(Method::POST, &path, &json!({ "owner": to })).await?;
    terminal.done(&answer, &format!("{name} is {to}'s now"))
}

/// The value out of standard input, or asked for without being shown.
fn value(name: &str) -> Result<Zeroizing<String>, Failure> {
    if prompt::is_possible() {
        return prompt::ask_hidden(&format!("the value of {name}"));
    }
    let mut value = Zeroizing::new(String::new());
    let read = io::stdin().lock().take(LONGEST_VALUE + 2).read_to_string(&mut value);
    read.map_err(|error| Failure::input(format!("standard input is no text: {error}")))?;
    let length = prompt::without_end(&value).len();
    value.truncate(length);
    Ok(value)
}

async fn versions(api: &Api, terminal: &Terminal, name: &str, place: SecretPlace) -> Result<(), Failure> {
    let answer = api.get(&format!("{}/versions", path(name)), &query(place)).await?;
    if terminal.json {
        return terminal.document(&answer.get("items"));
    }
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    for item in items {
        let version: Whole<Version> = Whole::read(item)?;
        let when = format!("{} ago by {}", ago(version.created_at), clean(&version.created_by));
        terminal.line(&format!("{}  {}", version.version, terminal.paint(&when, Tone::Dim)))?;
    }
    Ok(())
}

async fn rotate(api: &Api, terminal: &Terminal, key_file: Option<&Path>) -> Result<(), Failure> {
    if let Some(file) = key_file {
        let made = put_in_front(file).with_context(|| format!("cannot put a new key into {}", file.display()))?;
        terminal.hint(&format!("the new master key {made} is in {}: keep a copy elsewhere", file.display()));
    }
    let answer = api.send(Method::POST, "/secrets/rotate", &[]).await?;
    if terminal.json {
        return terminal.document(&answer);
    }
    let number = |key: &str| answer.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let key = answer.get("master_key_id").and_then(Value::as_str).unwrap_or_default();
    let (moved, all) = (count(number("rewrapped"), "data key"), number("all"));
    terminal.line(&format!("{moved} put under the master key {}; {all} in all", clean(key)))?;
    match number("unreadable") {
        0 => Ok(()),
        left => Err(Failure::failed(format!(
            "{} under master keys that the gateway does not have: put them into gateway.master_key, behind the first",
            count(left, "data key")
        ))),
    }
}

/// Makes a master key and writes it before those that are in the file, whole or not at all. Returns its id.
fn put_in_front(file: &Path) -> anyhow::Result<String> {
    let former = Zeroizing::new(fs::read_to_string(file)?);
    let whose = fs::metadata(file)?;
    let key = Key::random();
    let beside = file.with_extension("new");
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    new.set_permissions(fs::Permissions::from_mode(0o600))?;
    // The gateway may run as somebody else than who does this.
    fchown(&new, Some(whose.uid()), Some(whose.gid()))?;
    new.write_all(format!("{}\n{}\n", *key.to_hex(), former.trim()).as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    Ok(key.id())
}

/// `pinacle ssh-key …`.
pub(crate) async fn ssh_key(global: &Global, terminal: &Terminal, command: SshKeyCommand) -> Result<(), Failure> {
    let api = Api::open(global)?;
    if let SshKeyCommand::Rotate = command {
        let answer = api.send(Method::POST, "/ssh-key/rotate", &[]).await?;
        return carry_out(&api, terminal, answer, Wait { no_wait: false }).await;
    }
    let answer = api.get("/ssh-key", &[]).await?;
    if terminal.json {
        return terminal.document(&answer);
    }
    let key: Whole<SshKey> = Whole::read(answer)?;
    let mut page = Page { terminal, text: String::new() };
    page.line("public key", clean(&key.public_key));
    page.line("fingerprint", clean(&key.fingerprint));
    page.line("since", format!("{} ago", ago(key.since)));
    if key.from_settings {
        page.line("from", "the setting orchestrator.ssh_key");
    }
    if !key.former.is_empty() {
        page.line("former keys", clean(&key.former.join(", ")));
    }
    if !key.hosts_behind.is_empty() {
        page.line("hosts behind", clean(&key.hosts_behind.join(", ")));
    }
    terminal.text(&page.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_comes_before_the_former_ones_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master_key");
        fs::write(&file, "aa\n\nbb\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let id = put_in_front(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(Key::from_hex(first).unwrap().id(), id);
        assert_eq!(rest, "aa\n\nbb\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(put_in_front(&folder.path().join("missing")).is_err());
    }
}
