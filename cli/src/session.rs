//! `pinacle session …`: one's sessions in browsers.

use pinacle_bus::contract::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{Api, Whole, segment},
    args::{Global, SessionCommand},
    failure::Failure,
    figures::{ago, clean, moment},
    terminal::{Terminal, Tone},
};

#[derive(Debug, Deserialize)]
struct Session {
    session_id: String,
    created_at: Timestamp,
    seen_at: Timestamp,
    remote_address: String,
    user_agent: String,
}

/// `pinacle session …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: SessionCommand) -> Result<(), Failure> {
    let api = Api::open(global)?;
    match command {
        SessionCommand::Ls => list(&api, terminal).await,
        SessionCommand::Revoke { id: Some(id), .. } => {
            api.send(Method::DELETE, &format!("/sessions/{}", segment(&id)), &[]).await?;
            terminal.done(&json!({ "session_id": id }), &format!("{id} has ended"))
        }
        SessionCommand::Revoke { id: None, .. } => {
            api.send(Method::DELETE, "/sessions", &[]).await?;
            terminal.done(&json!({ "all": true }), "all of your sessions have ended; tokens count on")
        }
    }
}

async fn list(api: &Api, terminal: &Terminal) -> Result<(), Failure> {
    let items = match api.get("/sessions", &[]).await?.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    if terminal.json {
        return terminal.document(&items);
    }
    if items.is_empty() {
        terminal.hint("you are signed in nowhere: pinacle token ls lists the tokens of machines");
        return Ok(());
    }
    let mut table = terminal.table(&["browser", "from", "since", "last used", "id"]);
    for item in items {
        let session = Whole::<Session>::read(item)?;
        table.add_row(vec![
            Tone::Plain.cell(clean(&session.user_agent)),
            Tone::Plain.cell(clean(&session.remote_address)),
            Tone::Dim.cell(moment(session.created_at)),
            Tone::Plain.cell(format!("{} ago", ago(session.seen_at))),
            Tone::Dim.cell(&session.session_id),
        ]);
    }
    terminal.print(&mut table)
}
