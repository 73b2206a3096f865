//! The audit log: each entry is appended to the chain, and the chain's end noted on the bus, outside of the database.

use std::{sync::Arc, time::Duration};

use pinacle_bus::{
    client::{Bucket, BusError, BusErrorKind, Delivered, Outcome},
    contract::{
        AuditId, Message, Timestamp,
        audit::{AUDIT_HEAD, AuditEntry, AuditHead},
        event::Event,
        topology::STATUS,
    },
};
use pinacle_store::{AuditRow, ChainHead, Database};
use tracing::error;

use super::{
    Projector,
    handlers::{reject, require, target},
};
use crate::gate::chain;

/// While the bus is away.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the end is noted anew when another copy did so in the same moment.
const MOST_CONFLICTS: usize = 16;

impl Projector {
    /// An entry of the audit log.
    pub(super) async fn audit(&self, delivered: &Delivered, event: Event) -> Result<(), Outcome> {
        target::<AuditId>(&event)?;
        let entry: AuditEntry = serde_json::from_value(event.detail)
            .map_err(|error| reject(format!("its detail is no entry of the audit log: {error}")))?;
        entry.check().map_err(|invalid| reject(format!("its entry cannot be true: {invalid}")))?;
        require(entry.audit_id.to_string() == event.target_id && entry.action == event.what, || {
            format!(
                "it is {} of {}, but its entry is {} of {}",
                event.what, event.target_id, entry.action, entry.audit_id
            )
        })?;
        let row = row(&entry, delivered.sequence).map_err(|error| reject(format!("it has no JSON form: {error}")))?;
        // The bus is where the message comes from: while it is away, it is delivered again later.
        let failed = |error: BusError| match error.kind() {
            BusErrorKind::Malformed | BusErrorKind::TooLarge => {
                Outcome::Retry { reason: format!("cannot note the audit log's end: {}", chain(&error)) }
            }
            // No fault of the message's.
            _ => Outcome::Later(PAUSE),
        };
        let bucket = self.bus.bucket::<AuditHead>(&STATUS).await.map_err(failed)?;
        let noted = bucket.get(AUDIT_HEAD).await.map_err(failed)?.map(|entry| entry.record);
        let noted = Arc::new(noted.and_then(|noted| head(&noted)));
        let appended = self
            .write(delivered, |database: Database| {
                let (row, noted) = (row.clone(), noted.clone());
                async move { database.audit_append(row, Option::as_ref(&noted)).await }
            })
            .await?;
        if appended.is_broken {
            metrics::counter!("pinacle_ingest_audit_broken_total").increment(1);
            error!("the audit log ended before its noted end, or differed from it; `pinacle audit verify` tells more");
        }
        note(&bucket, &appended.end).await.map_err(failed)
    }
}

/// Notes the chain's end, unless a later one is noted.
async fn note(bucket: &Bucket<AuditHead>, end: &ChainHead) -> Result<(), BusError> {
    let seq = u64::try_from(end.seq).unwrap_or_default();
    let record = AuditHead { seq, hash: hexadecimal(&end.hash), noted_at: Timestamp::now() };
    let mut tries = 0;
    loop {
        let written = match bucket.get(AUDIT_HEAD).await? {
            Some(noted) if noted.record.seq >= seq => return Ok(()),
            Some(noted) => bucket.update(AUDIT_HEAD, &record, noted.revision).await,
            None => bucket.create(AUDIT_HEAD, &record).await,
        };
        tries += 1;
        match written {
            Err(error) if error.kind() == BusErrorKind::Conflict && tries < MOST_CONFLICTS => {}
            written => return written.map(drop),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head(noted: &AuditHead) -> Option<ChainHead> {
    let digits = noted.hash.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    Some(ChainHead { seq: i64::try_from(noted.seq).ok()?, hash: bytes.collect::<Option<_>>()? })
}

/// `seq` and hashes are the chain's to give.
fn row(entry: &AuditEntry, sequence: u64) -> Result<AuditRow, serde_json::Error> {
    Ok(AuditRow {
        seq: 0,
        audit_id: entry.audit_id.to_string(),
        at: entry.at.as_utc(),
        actor: entry.actor.clone(),
        via: entry.via.clone(),
        credential_id: entry.credential_id.clone(),
        address: entry.address.clone(),
        action: entry.action.clone(),
        target_kind: entry.target_kind.clone(),
        target_id: entry.target_id.clone(),
        owner: entry.owner.clone(),
        outcome: entry.outcome.as_str().to_owned(),
        status: entry.status.map(i32::from),
        request_id: entry.request_id.clone(),
        bus_request_id: entry.bus_request_id.map(|id| id.to_string()),
        operation_id: entry.operation_id.map(|id| id.to_string()),
        detail: serde_json::to_string(&entry.detail)?,
        stream_sequence: i64::try_from(sequence).unwrap_or(i64::MAX),
        prev_hash: Vec::new(),
        hash: Vec::new(),
    })
}
