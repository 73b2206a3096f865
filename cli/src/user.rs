//! `pinacle user …`.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{Api, Whole, segment},
    args::{Global, QuotaArgs, Switch, UserCommand},
    failure::Failure,
    figures::{bytes, clean, moment},
    terminal::{Terminal, Tone, number},
};
use pinacle_bus::contract::Timestamp;

const GIB: u64 = 1 << 30;

#[derive(Debug, Deserialize)]
struct User {
    user_id: String,
    email: String,
    name: String,
    is_admin: bool,
    suspended_at: Option<Timestamp>,
    created_at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Quota {
    limits: Limits,
    used: Used,
}

#[derive(Debug, Deserialize)]
struct Limits {
    pods: Option<u64>,
    cpu_millis: Option<u64>,
    memory_bytes: Option<u64>,
    disk_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Used {
    pods: u64,
    cpu_millis: u64,
    memory_bytes: u64,
    disk_bytes: u64,
}

/// `pinacle user …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: UserCommand) -> Result<(), Failure> {
    let api = Api::open(global)?;
    let path = |user: &str, what: &str| format!("/users/{}/{what}", segment(user));
    match command {
        UserCommand::Ls { suspended, admins } => list(&api, terminal, suspended, admins).await,
        UserCommand::Invite { email, name, admin } => {
            let body = json!({ "email": email, "name": name, "is_admin": admin });
            invited(terminal, &api.change(Method::POST, "/users", &body).await?)
        }
        UserCommand::Suspend { user, yes } => {
            yes.or_refuse(&format!("{user} could do nothing any more"))?;
            api.send(Method::POST, &path(&user, "suspend"), &[]).await?;
            terminal.done(&json!({ "user": user }), &format!("{user} is suspended"))
        }
        UserCommand::Unsuspend { user } => {
            api.send(Method::POST, &path(&user, "unsuspend"), &[]).await?;
            terminal.done(&json!({ "user": user }), &format!("{user} may come in again"))
        }
        UserCommand::Admin { user, change } => {
            let (method, is) = match change {
                Switch::On => (Method::PUT, "admin now"),
                Switch::Off => (Method::DELETE, "no longer admin"),
            };
            api.send(method, &path(&user, "admin"), &[]).await?;
            terminal.done(&json!({ "user": user }), &format!("{user} is {is}"))
        }
        UserCommand::Quota(args) => quota(&api, terminal, args).await,
    }
}

async fn list(api: &Api, terminal: &Terminal, suspended: bool, admins: bool) -> Result<(), Failure> {
    let filters = [("suspended", suspended), ("admin", admins)];
    let query = filters.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true".to_owned())).collect();
    let users: Vec<Whole<User>> = api.all("/users", query, usize::MAX).await?;
    if terminal.json {
        return terminal.document(&users.iter().map(|user| &user.json).collect::<Vec<_>>());
    }
    if users.is_empty() {
        terminal.hint("there is nobody like that");
        return Ok(());
    }
    let mut table = terminal.table(&["e-mail", "name", "is", "since", "id"]);
    for user in &users {
        let (is, tone) = match (user.suspended_at, user.is_admin) {
            (Some(_), _) => ("suspended", Tone::Bad),
            (None, true) => ("admin", Tone::Plain),
            (None, false) => ("-", Tone::Dim),
        };
        table.add_row(vec![
            Tone::Plain.cell(clean(&user.email)),
            Tone::Plain.cell(clean(&user.name)),
            tone.cell(is),
            Tone::Dim.cell(moment(user.created_at)),
            Tone::Dim.cell(&user.user_id),
        ]);
    }
    terminal.print(&mut table)
}

fn invited(terminal: &Terminal, made: &Value) -> Result<(), Failure> {
    if terminal.json {
        return terminal.document(made);
    }
    match made["link"].as_str() {
        Some(link) => {
            terminal.hint("hand this on to them: it sets their password, and is told this once");
            terminal.line(link)
        }
        None => terminal.line("they were sent an e-mail"),
    }
}

async fn quota(api: &Api, terminal: &Terminal, args: QuotaArgs) -> Result<(), Failure> {
    let path = format!("/quotas/{}", segment(&args.owner));
    let sets = args.reset || [args.pods, args.cores, args.memory_gib, args.disk_gib].iter().any(Option::is_some);
    let told = match sets {
        true => api.change(Method::PUT, &path, &body(&args)).await?,
        false => api.get(&path, &[]).await?,
    };
    let quota = Whole::<Quota>::read(told)?;
    if terminal.json {
        return terminal.document(&quota.json);
    }
    let (used, limits) = (&quota.used, &quota.limits);
    let mut table = terminal.table(&["of", "used", "at most"]);
    let cores = |millis: u64| format!("{:.1}", millis as f64 / 1000.0);
    let rows = [
        ("pods", used.pods.to_string(), limits.pods.map(|pods| pods.to_string())),
        ("cores", cores(used.cpu_millis), limits.cpu_millis.map(cores)),
        ("memory", bytes(used.memory_bytes), limits.memory_bytes.map(bytes)),
        ("disk", bytes(used.disk_bytes), limits.disk_bytes.map(bytes)),
    ];
    for (what, used, limit) in rows {
        let limit = limit.unwrap_or_else(|| "-".to_owned());
        table.add_row(vec![Tone::Plain.cell(what), number(used), number(limit)]);
    }
    terminal.print(&mut table)
}

fn body(args: &QuotaArgs) -> Value {
    json!({
        "pods": args.pods,
        "cpu_millis": args.cores.map(|cores| cores * 1000),
        "memory_bytes": args.memory_gib.map(|gib| gib * GIB),
        "disk_bytes": args.disk_gib.map(|gib| gib * GIB),
    })
}
