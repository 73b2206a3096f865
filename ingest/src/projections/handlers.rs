//! One function a consumer: from a message to its row, or to the reason why there is none.

use std::{str::FromStr, time::Duration};

use pinacle_bus::{
    client::{Delivered, Outcome},
    contract::{
        HostId, Message, PodId, Subject,
        dead::DeadLetter,
        event::{DEAD_LETTER_DROPPED, DEAD_LETTER_RESENT, Event, OPERATION_CHANGED},
        exec::ExecRecord,
        host::HostRecord,
        pod::PodRecord,
        request::{Operation, RemoveHost, Request, RequestCommitted},
        subject::EventKind,
    },
};
use pinacle_store::{Applied, Database, Mark};
use serde::Deserialize;
use tracing::{debug, error};

use super::{Projector, rows};
use crate::gate::chain;

/// How long a mark waits for its dead letter before it counts as a failed try.
const MARK_TRIES: u32 = 10;
const MARK_PAUSE: Duration = Duration::from_millis(300);

pub(super) fn reject(reason: impl Into<String>) -> Outcome {
    Outcome::Reject { reason: reason.into() }
}

fn decoded<M: Message>(delivered: &Delivered) -> Result<M, Outcome> {
    delivered.decode().map_err(|error| reject(chain(&error)))
}

/// A bucket's key, which must be the id of the record under it.
fn key<K: FromStr<Err: std::fmt::Display>>(delivered: &Delivered) -> Result<K, Outcome> {
    delivered.key().parse().map_err(|error: K::Err| reject(format!("its key is no id: {error}")))
}

pub(super) fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<(), Outcome> {
    if holds { Ok(()) } else { Err(reject(reason())) }
}

fn settled(result: Result<(), Outcome>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(outcome) => outcome,
    }
}

impl Projector {
    /// The change feed of the bucket `hosts`.
    pub(super) async fn host(&self, delivered: &Delivered) -> Outcome {
        settled(self.try_host(delivered).await)
    }

    async fn try_host(&self, delivered: &Delivered) -> Result<(), Outcome> {
        let host: HostId = key(delivered)?;
        let sequence = delivered.sequence;
        if delivered.deleted {
            let (id, at) = (host.to_string(), delivered.published_at.as_utc());
            let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
            self.write(delivered, |database| {
                let id = id.clone();
                async move { database.host_delete(&id, at, sequence).await }
            })
            .await?;
            return Ok(());
        }
        let record: HostRecord = decoded(delivered)?;
        require(record.host_id == host, || format!("it is under the key {host}, but it is of {}", record.host_id))?;
        let row = rows::host(&record, sequence);
        self.write(delivered, |database| {
            let row = row.clone();
            async move { database.host_project(row).await }
        })
        .await?;
        Ok(())
    }

    /// The change feed of the bucket `pods`.
    pub(super) async fn pod(&self, delivered: &Delivered) -> Outcome {
        settled(self.try_pod(delivered).await)
    }

    async fn try_pod(&self, delivered: &Delivered) -> Result<(), Outcome> {
        let pod: PodId = key(delivered)?;
        let sequence = delivered.sequence;
        if delivered.deleted {
            let (id, at) = (pod.to_string(), delivered.published_at.as_utc());
            let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
            self.write(delivered, |database| {
                let id = id.clone();
                async move { database.pod_delete(&id, at, sequence).await }
            })
            .await?;
            return Ok(());
        }
        let record: PodRecord = decoded(delivered)?;
        require(record.pod_id == pod, || format!("it is under the key {pod}, but it is of {}", record.pod_id))?;
        let row = rows::pod(&record, sequence);
        self.write(delivered, |database| {
            let row = row.clone();
            async move { database.pod_project(row).await }
        })
        .await?;
        Ok(())
    }

    /// Requests. Whoever asked is told when the row is there.
    pub(super) async fn request(&self, delivered: &Delivered) -> Outcome {
        settled(self.try_request(delivered).await)
    }

    async fn try_request(&self, delivered: &Delivered) -> Result<(), Outcome> {
        let request: Request = decoded(delivered)?;
        let subject =
            Subject::Request { kind: request.kind.clone(), id: request.target_id.clone(), verb: request.verb.clone() };
        belongs_on(delivered, &subject)?;
        let row = rows::request(&request, delivered.sequence);
        self.write(delivered, |database| {
            let row = row.clone();
            async move { database.request_project(row).await }
        })
        .await?;
        if let Some(host) = forgotten(&request) {
            self.write(delivered, |database| {
                let host = host.clone();
                async move { database.host_history_delete(&host).await }
            })
            .await?;
        }
        let committed = RequestCommitted {
            request_id: request.request_id,
            operation_id: request.operation_id,
            stream_sequence: delivered.sequence,
        };
        // The asker gives up waiting after a while and answers with the operation's id, so losing this loses nothing.
        if let Err(error) = self.bus.publish_unacked(&Subject::Committed(request.request_id), &committed).await {
            debug!(%error, "cannot tell that a request is committed");
        }
        Ok(())
    }

    /// Events, and in them operations and what became of dead letters.
    pub(super) async fn event(&self, delivered: &Delivered) -> Outcome {
        settled(self.try_event(delivered).await)
    }

    async fn try_event(&self, delivered: &Delivered) -> Result<(), Outcome> {
        let event: Event = decoded(delivered)?;
        let subject = Subject::Event { kind: event.kind, id: event.target_id.clone(), what: event.what.clone() };
        belongs_on(delivered, &subject)?;
        match event.kind {
            EventKind::Host => {
                target::<HostId>(&event)?;
                let row = rows::host_event(&event, delivered.sequence);
                self.write(delivered, |database| {
                    let row = row.clone();
                    async move { database.host_event_project(row).await }
                })
                .await?;
            }
            EventKind::Pod => {
                target::<PodId>(&event)?;
                let row = rows::pod_event(&event, delivered.sequence);
                self.write(delivered, |database| {
                    let row = row.clone();
                    async move { database.pod_event_project(row).await }
                })
                .await?;
            }
            EventKind::Op if event.what == OPERATION_CHANGED => self.operation(delivered, event).await?,
            EventKind::Dead => self.mark(delivered, &event).await?,
            EventKind::Audit => self.audit(delivered, event).await?,
            EventKind::Op => debug!(what = event.what, "an event of an operation that has no table"),
        }
        Ok(())
    }

    async fn operation(&self, delivered: &Delivered, event: Event) -> Result<(), Outcome> {
        let operation: Operation = serde_json::from_value(event.detail)
            .map_err(|error| reject(format!("its detail is not a valid operation: {error}")))?;
        operation.check().map_err(|invalid| reject(format!("its operation cannot be true: {invalid}")))?;
        require(operation.operation_id.to_string() == event.target_id, || {
            format!("it is of {}, but its operation is {}", event.target_id, operation.operation_id)
        })?;
        let (row, steps) = rows::operation(&operation, delivered.sequence);
        self.write(delivered, |database| {
            let (row, steps) = (row.clone(), steps.clone());
            async move { database.operation_project(row, steps).await }
        })
        .await?;
        Ok(())
    }

    async fn mark(&self, delivered: &Delivered, event: &Event) -> Result<(), Outcome> {
        let mark = match event.what.as_str() {
            DEAD_LETTER_RESENT => Mark::Resent,
            DEAD_LETTER_DROPPED => Mark::Dropped,
            _ => return Ok(()),
        };
        let (id, at) = (&event.target_id, event.at.as_utc());
        let write = |database: Database| {
            let id = id.clone();
            async move { database.dead_letter_mark(&id, mark, at).await }
        };
        // The dead letter comes by another stream and may be behind.
        for _ in 0..MARK_TRIES {
            if self.write(delivered, write).await? != Applied::Missing {
                return Ok(());
            }
            tokio::time::sleep(MARK_PAUSE).await;
        }
        Err(Outcome::Retry { reason: format!("there is no dead letter {id}") })
    }

    /// Commands' results.
    pub(super) async fn exec(&self, delivered: &Delivered) -> Outcome {
        settled(self.try_exec(delivered).await)
    }

    async fn try_exec(&self, delivered: &Delivered) -> Result<(), Outcome> {
        let record: ExecRecord = decoded(delivered)?;
        let target = record.pod_id.map_or_else(|| record.host_id.to_string(), |pod| pod.to_string());
        belongs_on(delivered, &Subject::Exec { target, operation: record.operation_id })?;
        let row = rows::exec(&record, delivered.sequence);
        self.write(delivered, |database| {
            let row = row.clone();
            async move { database.exec_project(row).await }
        })
        .await?;
        Ok(())
    }

    /// Dead letters. One of a dead letter is written like any other; but a dead letter of such a one would be made
    /// without end, so there the chain is cut.
    pub(super) async fn dead_letter(&self, delivered: &Delivered) -> Outcome {
        match settled(self.try_dead_letter(delivered).await) {
            Outcome::Reject { reason } if delivered.subject == own_dead_letters() => {
                error!(
                    sequence = delivered.sequence,
                    reason, "a dead letter of a dead letter cannot be stored; leaving it on the bus"
                );
                Outcome::Done
            }
            outcome => outcome,
        }
    }

    async fn try_dead_letter(&self, delivered: &Delivered) -> Result<(), Outcome> {
        let letter: DeadLetter = decoded(delivered)?;
        belongs_on(delivered, &Subject::Dead { stream: letter.stream.clone(), consumer: letter.consumer.clone() })?;
        let row = rows::dead_letter(&letter, delivered.sequence)
            .map_err(|error| reject(format!("its payload is not base64: {error}")))?;
        self.write(delivered, |database| {
            let row = row.clone();
            async move { database.dead_letter_project(row).await }
        })
        .await?;
        Ok(())
    }
}

fn own_dead_letters() -> String {
    use pinacle_bus::contract::topology::INGEST_DEAD;

    Subject::Dead { stream: INGEST_DEAD.stream.as_str().into(), consumer: INGEST_DEAD.name.into() }.to_string()
}

fn belongs_on(delivered: &Delivered, subject: &Subject) -> Result<(), Outcome> {
    require(delivered.subject.parse().as_ref() == Ok(subject), || {
        format!("its subject is {}, but it belongs on {subject}", delivered.subject)
    })
}

pub(super) fn target<K: FromStr<Err: std::fmt::Display>>(event: &Event) -> Result<(), Outcome> {
    event.target_id.parse::<K>().map(drop).map_err(|error| reject(format!("its target is no id: {error}")))
}

/// The host whose history is to be deleted, if a request says so.
fn forgotten(request: &Request) -> Option<String> {
    let is_removal = request.kind == "host" && request.verb == "remove";
    let wanted = is_removal.then(|| RemoveHost::deserialize(&request.parameters).ok())??;
    wanted.delete_data.then(|| request.target_id.clone())
}
