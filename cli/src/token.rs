//! `pinacle token …`.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    api::{Api, Whole, segment},
    args::{Global, TokenArgs, TokenCommand},
    failure::Failure,
    figures::{ago, clean, moment},
    terminal::{Terminal, Tone},
};
use pinacle_bus::contract::Timestamp;

#[derive(Debug, Deserialize)]
struct Token {
    token_id: String,
    name: String,
    grants: Vec<String>,
    team_id: Option<String>,
    expires_at: Option<Timestamp>,
    used_at: Option<Timestamp>,
}

/// `pinacle token …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: TokenCommand) -> Result<(), Failure> {
    let api = Api::open(global)?;
    match command {
        TokenCommand::Ls { user } => list(&api, terminal, user).await,
        TokenCommand::Create(args) => create(&api, terminal, args).await,
        TokenCommand::Revoke { id, user } => {
            let query: Vec<_> = user.map(|user| ("user", user)).into_iter().collect();
            api.send(Method::DELETE, &format!("/tokens/{}", segment(&id)), &query).await?;
            terminal.done(&json!({ "token_id": id }), &format!("{id} counts no more"))
        }
    }
}

async fn list(api: &Api, terminal: &Terminal, user: Option<String>) -> Result<(), Failure> {
    let query = user.map(|user| ("user", user)).into_iter().collect();
    let tokens: Vec<Whole<Token>> = api.all("/tokens", query, usize::MAX).await?;
    if terminal.json {
        return terminal.document(&tokens.iter().map(|token| &token.json).collect::<Vec<_>>());
    }
    if tokens.is_empty() {
        terminal.hint("there are no tokens yet: pinacle token create NAME --grant read makes one");
        return Ok(());
    }
    let mut table = terminal.table(&["name", "may", "team", "ends", "last used", "id"]);
    for token in &tokens {
        table.add_row(vec![
            Tone::Plain.cell(clean(&token.name)),
            Tone::Plain.cell(token.grants.join(" ")),
            Tone::Dim.cell(token.team_id.as_deref().unwrap_or("-")),
            Tone::Plain.cell(token.expires_at.map_or_else(|| "never".into(), moment)),
            Tone::Plain.cell(token.used_at.map_or_else(|| "never".into(), |at| format!("{} ago", ago(at)))),
            Tone::Dim.cell(&token.token_id),
        ]);
    }
    terminal.print(&mut table)
}

async fn create(api: &Api, terminal: &Terminal, args: TokenArgs) -> Result<(), Failure> {
    let grants: Vec<&str> = args.grants.iter().map(|grant| grant.as_str()).collect();
    let mut body = Map::new();
    body.insert("name".into(), args.name.into());
    body.insert("grants".into(), grants.into());
    body.insert("days".into(), args.days.into());
    for (key, value) in [("team", args.team), ("user", args.user)] {
        body.extend(value.map(|value| (key.into(), Value::from(value))));
    }
    let made = api.change(Method::POST, "/tokens", &Value::Object(body)).await?;
    if terminal.json {
        return terminal.document(&made);
    }
    terminal.hint("keep it as a password: it is told this once");
    terminal.line(made.get("token").and_then(Value::as_str).unwrap_or_default())
}
