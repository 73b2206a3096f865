//! Recent operations as they are now, from the bus alone: what was asked for (the stream of requests), what is under way
//! (pods' live records) and how it ended (events). An operation is therefore known before its row is in Postgres, and in
//! every copy of the gateway.
//!
//! Only the newest are kept; the history has the rest.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pinacle_bus::contract::{
    HostId, OperationId,
    pod::PodRecord,
    request::{Operation, Progress, Request},
};

use super::{
    board::{Board, Next, Owned},
    fleet::json,
};
use crate::api::operations::{OperationBrief, OperationView};

/// How many are kept.
const MOST: usize = 4096;

/// An operation.
#[derive(Clone)]
pub struct OperationLive {
    /// How far it is known.
    pub known: Known,
    /// Whose pod or host it works on, where that is known.
    pub owner: Option<String>,
    brief: OnceLock<Bytes>,
    full: OnceLock<Bytes>,
}

/// How far an operation is known.
#[derive(Debug, Clone)]
pub enum Known {
    /// It was asked for, or waits for its turn.
    Asked(Arc<Request>),
    /// It was taken up.
    TakenUp(Arc<Operation>),
}

impl Known {
    /// The kind of thing that it works on.
    pub fn kind(&self) -> &str {
        match self {
            Self::Asked(request) => &request.kind,
            Self::TakenUp(operation) => &operation.kind,
        }
    }

    /// The thing's id.
    pub fn target_id(&self) -> &str {
        match self {
            Self::Asked(request) => &request.target_id,
            Self::TakenUp(operation) => &operation.target_id,
        }
    }

    /// The host that it works on, once known.
    pub fn host_id(&self) -> Option<HostId> {
        match self {
            Self::Asked(_) => None,
            Self::TakenUp(operation) => operation.host_id,
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        match self {
            Self::Asked(_) => Progress::Waiting,
            Self::TakenUp(operation) => operation.progress,
        }
    }
}

impl Owned for OperationLive {
    fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }
}

impl OperationLive {
    /// How it ended, and why not well; `None` while it goes on.
    pub fn ended(&self) -> Option<(Progress, Option<String>)> {
        match &self.known {
            Known::TakenUp(operation) if operation.ended_at.is_some() => {
                Some((operation.progress, operation.cause.clone()))
            }
            _ => None,
        }
    }

    fn new(known: Known, owner: Option<String>) -> Self {
        Self { known, owner, brief: OnceLock::new(), full: OnceLock::new() }
    }

    /// As in lists and the topic `operations`.
    pub fn brief(&self) -> Bytes {
        json(&self.brief, || OperationBrief::from(&self.known))
    }

    /// With its steps.
    pub fn full(&self) -> Bytes {
        json(&self.full, || OperationView::from(&self.known))
    }

    /// Only grows while an operation goes on, so that what comes late never sets it back: a record and an event of the
    /// same operation take different ways.
    fn stage(&self) -> (bool, bool, u32, usize, usize, usize) {
        let Known::TakenUp(operation) = &self.known else { return (false, false, 0, 0, 0, 0) };
        let begun = operation.steps.iter().filter(|step| step.started_at.is_some()).count();
        let ended = operation.steps.iter().filter(|step| step.ended_at.is_some()).count();
        (true, operation.ended_at.is_some(), operation.takeovers, operation.steps.len(), ended, begun)
    }
}

/// See the module.
#[derive(Default)]
pub struct Operations {
    /// By id, that is by age.
    pub board: Board<OperationId, OperationLive>,
}

impl Operations {
    /// Somebody asked for something about a thing of this owner's.
    pub fn asked(&self, request: Request, owner: Option<String>) {
        self.put(request.operation_id, OperationLive::new(Known::Asked(Arc::new(request)), owner));
    }

    /// A pod's record was written.
    pub fn recorded(&self, record: &PodRecord) {
        let owner = || Some(record.owner.clone());
        for request in &record.queue {
            self.put(request.operation_id, OperationLive::new(Known::Asked(Arc::new(request.clone())), owner()));
        }
        if let Some(operation) = &record.operation {
            self.put(operation.operation_id, OperationLive::new(Known::TakenUp(Arc::new(operation.clone())), owner()));
        }
    }

    /// An operation on a thing of this owner's told how far it is.
    pub fn told(&self, operation: Operation, owner: Option<String>) {
        self.put(operation.operation_id, OperationLive::new(Known::TakenUp(Arc::new(operation)), owner));
    }

    /// A pod or a host has another owner: what is done to it is theirs to see.
    pub fn passed_on(&self, target_id: &str, owner: Option<&str>) {
        let on_it = self.board.page(None, MOST, |operation| operation.known.target_id() == target_id);
        self.board.change(on_it.into_iter().map(|(id, _)| id), |_, before| match before {
            Some(before) => Next::Put(OperationLive { owner: owner.map(str::to_owned), ..before.clone() }),
            None => Next::Keep,
        });
    }

    fn put(&self, id: OperationId, mut operation: OperationLive) {
        self.board.change([id], |_, before| {
            if let Some(before) = before {
                let asked_twice = matches!((&before.known, &operation.known), (Known::Asked(_), Known::Asked(_)));
                if before.stage() > operation.stage() || (asked_twice && before.owner.is_some()) {
                    return Next::Keep;
                }
                operation.owner = operation.owner.take().or_else(|| before.owner.clone());
            }
            Next::Put(operation.clone())
        });
        self.board.hold_to(MOST);
    }
}

#[cfg(test)]
mod tests {
    use pinacle_bus::contract::{PodId, RequestId, Timestamp};
    use serde_json::json;

    use super::*;

    fn request(verb: &str, parameters: serde_json::Value) -> Request {
        Request {
            request_id: RequestId::new(),
            operation_id: OperationId::new(),
            kind: "pod".into(),
            target_id: PodId::new().to_string(),
            verb: verb.into(),
            requested_by: "ann".into(),
            requested_at: Timestamp::now(),
            deadline_at: None,
            parameters,
        }
    }

    fn taken_up(request: &Request, progress: Progress) -> Operation {
        let now = Timestamp::now();
        Operation {
            operation_id: request.operation_id,
            request_id: request.request_id,
            kind: request.kind.clone(),
            target_id: request.target_id.clone(),
            verb: request.verb.clone(),
            requested_by: request.requested_by.clone(),
            host_id: None,
            takeovers: 0,
            progress,
            cause: None,
            started_at: now,
            deadline_at: now,
            ended_at: (progress == Progress::Succeeded).then_some(now),
            steps: Vec::new(),
        }
    }

    #[test]
    fn what_comes_late_does_not_set_an_operation_back() {
        let operations = Operations::default();
        let request = request("stop", json!({}));
        let progress = || operations.board.get(&request.operation_id).unwrap().known.progress();
        operations.asked(request.clone(), Some("ann".into()));
        assert_eq!(progress(), Progress::Waiting);
        operations.told(taken_up(&request, Progress::Running), None);
        operations.asked(request.clone(), Some("ann".into()));
        assert_eq!(progress(), Progress::Running);
        operations.told(taken_up(&request, Progress::Succeeded), None);
        operations.told(taken_up(&request, Progress::Running), None);
        assert_eq!(progress(), Progress::Succeeded);
        let owner = operations.board.get(&request.operation_id).unwrap().owner.clone();
        assert_eq!(owner.as_deref(), Some("ann"), "what is told without its owner is still the same operation");
    }

    #[test]
    fn only_the_newest_are_kept() {
        let operations = Operations::default();
        for _ in 0..MOST + 50 {
            operations.asked(request("stop", json!({})), None);
        }
        assert_eq!(operations.board.count(), MOST);
    }
}
