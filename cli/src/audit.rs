//! `pinacle audit …`: who did what.

mod trace;
mod verify;

use pinacle_bus::contract::Timestamp;
use serde::Deserialize;

use crate::{
    api::{Api, Whole},
    args::{AuditCommand, AuditFilter, AuditFormat, Global},
    failure::Failure,
    figures::{clean, moment},
    people::People,
    terminal::{Terminal, Tone},
};

const NEWEST: usize = 50;

/// An entry of the log.
#[derive(Debug, Clone, Deserialize)]
struct AuditEntry {
    audit_id: String,
    at: Timestamp,
    actor: String,
    via: String,
    address: Option<String>,
    action: String,
    target_kind: Option<String>,
    target_id: Option<String>,
    outcome: String,
    status: Option<u16>,
    request_id: String,
    bus_request_id: Option<String>,
    operation_id: Option<String>,
}

impl AuditEntry {
    fn target(&self) -> String {
        match (&self.target_kind, &self.target_id) {
            (_, Some(id)) if id.contains('_') => id.clone(),
            (Some(kind), Some(id)) => format!("{kind} {id}"),
            (None, Some(id)) => id.clone(),
            _ => String::new(),
        }
    }

    fn tone(&self) -> Tone {
        match self.outcome.as_str() {
            "refused" => Tone::Warning,
            "failed" => Tone::Bad,
            _ => Tone::Plain,
        }
    }

    fn ended(&self) -> String {
        self.status.map_or_else(|| self.outcome.clone(), |status| format!("{} ({status})", self.outcome))
    }
}

/// `pinacle audit …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Ls { filter, limit } => list(&Api::open(global)?, terminal, &filter, limit).await,
        AuditCommand::Export { format, filter } => export(&Api::open(global)?, terminal, &filter, format).await,
        AuditCommand::Verify(args) => verify::run(global, terminal, &args).await,
        AuditCommand::Trace { id } => trace::run(&Api::open(global)?, terminal, &id).await,
    }
}

async fn list(api: &Api, terminal: &Terminal, filter: &AuditFilter, limit: Option<u64>) -> Result<(), Failure> {
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let most = limit.unwrap_or(if filter.since.is_some() { usize::MAX } else { NEWEST });
    // The newest ones are wanted, and people read them downwards.
    let mut query = filter.query();
    query.push(("order", "desc".to_owned()));
    let mut entries: Vec<Whole<AuditEntry>> = api.all("/audit", query, most).await?;
    entries.reverse();
    if terminal.json {
        return entries.iter().try_for_each(|entry| terminal.object(&entry.json));
    }
    if entries.is_empty() {
        terminal.hint("the audit log has nothing like that");
        return Ok(());
    }
    let people = People::known(api).await;
    let mut table = terminal.table(&["when", "who", "from", "what", "on", "outcome", "entry"]);
    for entry in &entries {
        table.add_row(vec![
            Tone::Dim.cell(moment(entry.at)),
            Tone::Plain.cell(clean(people.name(&entry.actor))),
            Tone::Plain.cell(clean(entry.address.as_deref().unwrap_or("-"))),
            Tone::Plain.cell(clean(&entry.action)),
            Tone::Plain.cell(clean(&entry.target())),
            entry.tone().cell(entry.ended()),
            Tone::Dim.cell(clean(&entry.audit_id)),
        ]);
    }
    terminal.print(&mut table)
}

async fn export(api: &Api, terminal: &Terminal, filter: &AuditFilter, format: AuditFormat) -> Result<(), Failure> {
    let mut cursor: Option<String> = None;
    loop {
        let mut query = filter.query();
        query.push(("format", format.as_str().to_owned()));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let (text, next) = api.text("/audit/export", &query, "x-next-cursor").await?;
        terminal.text(&text)?;
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}
