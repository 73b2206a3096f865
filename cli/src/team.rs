//! `pinacle team …`.

use std::io::Read;

use pinacle_bus::contract::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{Api, Whole, segment},
    args::{Global, TeamCommand},
    failure::Failure,
    figures::{clean, moment},
    terminal::{Terminal, Tone},
};

/// An invitation is no longer than this.
const LONGEST_INVITATION: u64 = 4096;

#[derive(Debug, Deserialize)]
struct Team {
    team_id: String,
    name: String,
    role: Option<String>,
    created_at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Detail {
    #[serde(flatten)]
    team: Team,
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    user_id: String,
    email: String,
    name: String,
    role: String,
    joined_at: Timestamp,
    suspended: bool,
}

#[derive(Debug, Deserialize)]
struct Invitation {
    invitation_id: String,
    email: String,
    role: String,
    expires_at: Timestamp,
}

/// `pinacle team …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: TeamCommand) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let path = |team: &str| format!("/teams/{}", segment(team));
    match command {
        TeamCommand::Ls => list(&api, terminal).await,
        TeamCommand::Show { team } => show(&api, terminal, &path(&team)).await,
        TeamCommand::Create { name } => {
            let made = api.change(Method::POST, "/teams", &json!({ "name": name })).await?;
            terminal.done(&made, &format!("{name} is there, and yours"))
        }
        TeamCommand::Rename { team, name } => {
            api.change(Method::PUT, &path(&team), &json!({ "name": name })).await?;
            terminal.done(&json!({ "name": name }), &format!("{team} is called {name} now"))
        }
        TeamCommand::Rm { team, yes } => {
            yes.or_refuse(&format!("{team} would end, with its members, invitations and tokens"))?;
            api.send(Method::DELETE, &path(&team), &[]).await?;
            terminal.done(&json!({ "team": team }), &format!("{team} is gone"))
        }
        TeamCommand::Invite { team, email, role } => {
            let body = json!({ "email": email, "role": role.as_str() });
            let made = api.change(Method::POST, &format!("{}/invitations", path(&team)), &body).await?;
            invited(terminal, &made)
        }
        TeamCommand::Invitations { team } => invitations(&api, terminal, &path(&team)).await,
        TeamCommand::Uninvite { team, id } => {
            api.send(Method::DELETE, &format!("{}/invitations/{}", path(&team), segment(&id)), &[]).await?;
            terminal.done(&json!({ "invitation_id": id }), &format!("{id} counts no more"))
        }
        TeamCommand::Join { decline } => join(&api, terminal, decline).await,
        TeamCommand::Role { team, user, role } => {
            let path = format!("{}/members/{}", path(&team), segment(&user));
            api.change(Method::PUT, &path, &json!({ "role": role.as_str() })).await?;
            let (told, role) = (json!({ "user": user, "role": role.as_str() }), role.as_str());
            terminal.done(&told, &format!("{user} is {role} of {team} now"))
        }
        TeamCommand::Remove { team, user, yes } => {
            yes.or_refuse(&format!("{user} would lose all that {team} has"))?;
            api.send(Method::DELETE, &format!("{}/members/{}", path(&team), segment(&user)), &[]).await?;
            terminal.done(&json!({ "user": user }), &format!("{user} is no longer in {team}"))
        }
    }
}

async fn list(api: &Api, terminal: &Terminal) -> Result<(), Failure> {
    let teams: Vec<Whole<Team>> = api.all("/teams", Vec::new(), usize::MAX).await?;
    if terminal.json {
        return terminal.document(&teams.iter().map(|team| &team.json).collect::<Vec<_>>());
    }
    if teams.is_empty() {
        terminal.hint("there are no teams yet: pinacle team create NAME makes one");
        return Ok(());
    }
    let mut table = terminal.table(&["name", "your role", "since", "id"]);
    for team in &teams {
        table.add_row(vec![
            Tone::Plain.cell(clean(&team.name)),
            Tone::Plain.cell(team.role.as_deref().unwrap_or("-")),
            Tone::Dim.cell(moment(team.created_at)),
            Tone::Dim.cell(&team.team_id),
        ]);
    }
    terminal.print(&mut table)
}

async fn show(api: &Api, terminal: &Terminal, path: &str) -> Result<(), Failure> {
    let detail = Whole::<Detail>::read(api.get(path, &[]).await?)?;
    if terminal.json {
        return terminal.document(&detail.json);
    }
    terminal.line(&clean(&format!("{} ({})", detail.team.name, detail.team.team_id)))?;
    let mut table = terminal.table(&["member", "name", "role", "since", "id"]);
    for member in &detail.members {
        let tone = if member.suspended { Tone::Dim } else { Tone::Plain };
        table.add_row(vec![
            tone.cell(clean(&member.email)),
            tone.cell(clean(&member.name)),
            Tone::Plain.cell(if member.suspended { "suspended" } else { &member.role }),
            Tone::Dim.cell(moment(member.joined_at)),
            Tone::Dim.cell(&member.user_id),
        ]);
    }
    terminal.print(&mut table)
}

async fn invitations(api: &Api, terminal: &Terminal, path: &str) -> Result<(), Failure> {
    let open: Vec<Value> = match api.get(&format!("{path}/invitations"), &[]).await?.get("items") {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
    if terminal.json {
        return terminal.document(&open);
    }
    if open.is_empty() {
        terminal.hint("no invitation is open: pinacle team invite TEAM EMAIL makes one");
        return Ok(());
    }
    let mut table = terminal.table(&["invited", "as", "until", "id"]);
    for invitation in open {
        let invitation = Whole::<Invitation>::read(invitation)?;
        table.add_row(vec![
            Tone::Plain.cell(clean(&invitation.email)),
            Tone::Plain.cell(&invitation.role),
            Tone::Dim.cell(moment(invitation.expires_at)),
            Tone::Dim.cell(&invitation.invitation_id),
        ]);
    }
    terminal.print(&mut table)
}

fn invited(terminal: &Terminal, made: &Value) -> Result<(), Failure> {
    if terminal.json {
        return terminal.document(made);
    }
    match made["token"].as_str() {
        Some(token) => {
            terminal.hint("hand this on to them: pinacle team join reads it; it is told this once");
            terminal.line(token)
        }
        None => terminal.line("they were sent an e-mail"),
    }
}

async fn join(api: &Api, terminal: &Terminal, decline: bool) -> Result<(), Failure> {
    let mut token = String::new();
    std::io::stdin().lock().take(LONGEST_INVITATION).read_to_string(&mut token)?;
    let token = token.trim();
    if token.is_empty() {
        return Err(Failure::input("there is no invitation on standard input"));
    }
    let (path, done) = match decline {
        true => ("/invitations/decline", "declined the invitation into"),
        false => ("/invitations/accept", "joined"),
    };
    let answer = api.change(Method::POST, path, &json!({ "token": token })).await?;
    let team = answer.get("team_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    terminal.done(&answer, &format!("you have {done} {team}"))
}
