//! `pinacle audit verify`: the chain in the database, against itself and against what the bus has noted.

use std::time::Duration;

use anyhow::Context as _;
use pinacle_bus::{
    client::Bus,
    contract::{
        audit::{AUDIT_HEAD, AuditHead},
        grant::Role,
        topology::STATUS,
    },
};
use pinacle_store::{ChainCheck, ChainFault, ChainHead, Database, Timeouts};
use serde_json::{Value, json};

use crate::{
    args::{Global, VerifyArgs},
    failure::Failure,
    figures::count,
    local,
    terminal::{Terminal, Tone},
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// `pinacle audit verify`.
pub(super) async fn run(global: &Global, terminal: &Terminal, args: &VerifyArgs) -> Result<(), Failure> {
    // What the bus has noted comes first: the chain is there before it is noted.
    let noted = noted(global, args).await?;
    let url = local::database(global, args.database.as_deref())?;
    let database =
        Database::connect(url.expose(), 1, Timeouts::default()).context("cannot read the database's address")?;
    let check = database.audit_verify(noted.clone()).await.context("cannot read the audit log")?;
    if terminal.json {
        terminal.document(&json!({
            "entries": check.entries(),
            "end": check.end().seq,
            "noted": noted.as_ref().map(|noted| noted.seq),
            "fault_count": check.fault_count(),
            "faults": check.faults().iter().map(as_json).collect::<Vec<_>>(),
        }))?;
    } else {
        tell(terminal, &check, noted.as_ref())?;
    }
    if check.fault_count() == 0 {
        return Ok(());
    }
    let faults = usize::try_from(check.fault_count()).unwrap_or(usize::MAX);
    Err(Failure::failed(format!("the audit log is not as it was written: {}", count(faults, "fault"))))
}

async fn noted(global: &Global, args: &VerifyArgs) -> Result<Option<ChainHead>, Failure> {
    let settings = local::bus(global, args.nats.as_deref(), args.nats_credentials_file.as_deref(), Role::Operator)?;
    let bus = Bus::connect(&settings, "pinacle audit").await.map_err(|error| Failure::input(error.to_string()))?;
    if bus.connected(CONNECT_DEADLINE).await.is_err() {
        return Err(Failure::failed(format!(
            "NATS at {} cannot be reached, or refuses the login: without it nobody knows where the log must have come to",
            settings.url
        )));
    }
    let bucket = bus.bucket::<AuditHead>(&STATUS).await.map_err(anyhow::Error::new)?;
    let Some(noted) = bucket.get(AUDIT_HEAD).await.map_err(anyhow::Error::new)? else { return Ok(None) };
    let pairs =
        noted.record.hash.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    let hash = pairs.collect::<Option<Vec<u8>>>().context("the noted end is no hash")?;
    Ok(Some(ChainHead { seq: i64::try_from(noted.record.seq).unwrap_or(i64::MAX), hash }))
}

fn tell(terminal: &Terminal, check: &ChainCheck, noted: Option<&ChainHead>) -> Result<(), Failure> {
    for fault in check.faults() {
        terminal.line(&terminal.paint(&in_words(fault), Tone::Bad))?;
    }
    let entries = match check.entries() {
        1 => "1 entry".to_owned(),
        number => format!("{number} entries"),
    };
    match (check.fault_count(), noted) {
        (0, Some(noted)) => terminal
            .line(&format!("{entries}, each as it was written; the end noted on the bus is entry {}", noted.seq)),
        (0, None) => {
            terminal.line(&format!("{entries}, each as it was written"))?;
            terminal.hint("the bus has noted no end: an end that was cut off would not be seen");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn in_words(fault: &ChainFault) -> String {
    match fault {
        ChainFault::Missing { from, to } if from == to => format!("entry {from} is missing"),
        ChainFault::Missing { from, to } => format!("entries {from} to {to} are missing"),
        ChainFault::Altered { seq, audit_id } => format!("entry {seq} ({audit_id}) was altered"),
        ChainFault::Moved { seq, audit_id, from } => {
            format!("entry {seq} ({audit_id}) is out of its order: it was entry {from}")
        }
        ChainFault::Unlinked { seq, audit_id } => {
            format!("entry {seq} ({audit_id}) does not follow the one before it: one of the two was replaced")
        }
        ChainFault::Rewritten { seq } => {
            format!(
                "entry {seq} is not the one that the bus has noted: the log was written anew from somewhere before it on"
            )
        }
    }
}

fn as_json(fault: &ChainFault) -> Value {
    match fault {
        ChainFault::Missing { from, to } => json!({ "fault": "missing", "from": from, "to": to }),
        ChainFault::Altered { seq, audit_id } => json!({ "fault": "altered", "seq": seq, "audit_id": audit_id }),
        ChainFault::Moved { seq, audit_id, from } => {
            json!({ "fault": "moved", "seq": seq, "audit_id": audit_id, "from": from })
        }
        ChainFault::Unlinked { seq, audit_id } => json!({ "fault": "unlinked", "seq": seq, "audit_id": audit_id }),
        ChainFault::Rewritten { seq } => json!({ "fault": "rewritten", "seq": seq }),
    }
}
