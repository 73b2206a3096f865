//! Whether a host takes part at all, and what people say of it.

use pinacle_bus::contract::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::terms::change;
use crate::{
    api::{Api, segment},
    args::{Global, MaintenanceWindow, Yes},
    failure::Failure,
    terminal::Terminal,
};

/// `pinacle host disable`.
pub(super) async fn disable(global: &Global, terminal: &Terminal, host: &str) -> Result<(), Failure> {
    change(global, terminal, host, (Method::POST, "disable"), None, "is disabled; pods on it go on, unwatched").await
}

/// `pinacle host enable`.
pub(super) async fn enable(global: &Global, terminal: &Terminal, host: &str) -> Result<(), Failure> {
    change(global, terminal, host, (Method::POST, "enable"), None, "is enabled; its agent connects within a minute")
        .await
}

/// `pinacle host rotate-key`.
pub(super) async fn rotate_key(global: &Global, terminal: &Terminal, host: &str) -> Result<(), Failure> {
    let path = format!("/hosts/{}/rotate-key", segment(host));
    let rotated = Api::open(global)?.send(Method::POST, &path, &[]).await?;
    if terminal.json {
        return terminal.document(&rotated);
    }
    terminal.line(&format!("{host} has another key; the one before is good for nothing"))
}

/// `pinacle host rm`.
pub(super) async fn remove(
    global: &Global,
    terminal: &Terminal,
    host: &str,
    delete_data: bool,
    yes: Yes,
) -> Result<(), Failure> {
    let data = if delete_data { "its history and its pods' records are deleted" } else { "its pods fail" };
    yes.or_refuse(&format!("{host} would be no host any more, {data}, and it could only come back by a new token"))?;
    let what = if delete_data { "?data=delete" } else { "" };
    let done = "is removed; install.sh --uninstall takes the agent off the machine";
    change(global, terminal, host, (Method::DELETE, what), None, done).await
}

/// `pinacle host note`.
pub(super) async fn note(global: &Global, terminal: &Terminal, host: &str, text: &[String]) -> Result<(), Failure> {
    let body = json!({ "notes": text.join(" ") });
    change(global, terminal, host, (Method::PUT, "notes"), Some(body), "has its note").await
}

/// `pinacle host owners`.
pub(super) async fn owners(
    global: &Global,
    terminal: &Terminal,
    host: &str,
    owners: Vec<String>,
    everybody: bool,
) -> Result<(), Failure> {
    if owners.is_empty() && !everybody {
        return Err(Failure::input("name the owners whose pods it takes, or say --everybody"));
    }
    let body = json!({ "owners": owners });
    change(global, terminal, host, (Method::PUT, "owners"), Some(body), "takes pods of these owners").await
}

/// `pinacle host maintenance`.
pub(super) async fn maintenance(
    global: &Global,
    terminal: &Terminal,
    host: &str,
    wanted: MaintenanceWindow,
) -> Result<(), Failure> {
    let mut windows: Vec<Value> = Vec::new();
    if !wanted.clear {
        let now = Timestamp::now();
        let shown = Api::open(global)?.host(host).await?;
        let known = shown.json.get("maintenance").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_over = |window: &Value| {
            let until = window.get("until").and_then(Value::as_str).and_then(|until| until.parse::<Timestamp>().ok());
            until.is_none_or(|until| until <= now)
        };
        windows.extend(known.into_iter().filter(|window| !is_over(window)));
        let Some(duration) = wanted.duration else {
            return Err(Failure::input("say how long with --for, such as --for 2h, or --clear to end it"));
        };
        let from = now.plus(wanted.after.unwrap_or_default());
        windows
            .push(json!({ "from": from, "until": from.plus(duration), "reason": wanted.reason.unwrap_or_default() }));
    }
    let done = if wanted.clear { "is under no maintenance" } else { "takes no new pods during its maintenance" };
    let body = json!({ "windows": windows });
    change(global, terminal, host, (Method::PUT, "maintenance"), Some(body), done).await
}
