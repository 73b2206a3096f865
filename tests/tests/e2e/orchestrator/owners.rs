//! What the orchestrator does when a host or a pod is given away, whatever the gateway has looked at before.

use pinacle_bus::contract::{
    HostId, OperationId, PodId, RequestId, Subject, Timestamp,
    event::HOST_TERMS_CHANGED,
    host::HostRecord,
    key::PodSecrets,
    pod::{Desired, PodPhase, PodRecord},
    request::{Operation, OwnersSecrets, Progress, Request, StartPod, TransferHost, TransferPod},
    subject::EventKind,
    topology::{HOSTS, PODS},
};
use pinacle_tests::eventually;
use serde::{Deserialize, Serialize};

use super::{SOON, stage::Stage};
use crate::gateway::stage::golden;

impl Stage {
    /// Asks for something.
    async fn ask(&self, kind: &str, id: &str, verb: &str, parameters: &impl Serialize) -> OperationId {
        let operation_id = OperationId::new();
        let request = Request {
            request_id: RequestId::new(),
            operation_id,
            kind: kind.into(),
            target_id: id.into(),
            verb: verb.into(),
            requested_by: "ann".into(),
            requested_at: Timestamp::now(),
            deadline_at: None,
            parameters: serde_json::to_value(parameters).unwrap(),
        };
        let subject = Subject::Request { kind: kind.into(), id: id.into(), verb: verb.into() };
        self.bus.publish(&subject, &request.request_id.to_string(), &request).await.unwrap();
        operation_id
    }

    /// Asks for a transfer, and waits for how it ends.
    async fn transfer(&self, kind: &str, id: &str, parameters: &impl Serialize) -> (Progress, String) {
        let operation_id = self.ask(kind, id, "transfer", parameters).await;
        eventually(SOON, "the transfer's end", async || {
            let events = self.events().await;
            let end = events.iter().find(|event| event.target_id == operation_id.to_string()).ok_or("no event")?;
            let operation = Operation::deserialize(&end.detail).unwrap();
            Ok::<_, &str>((operation.progress, operation.cause.unwrap_or_default()))
        })
        .await
    }
}

fn secrets(sealed: &str) -> Option<PodSecrets> {
    Some(PodSecrets { names: ["TOKEN".to_owned()].into(), project: None, sealed: sealed.into() })
}

#[tokio::test]
async fn a_pod_that_is_given_away_keeps_nothing_of_the_secrets_that_it_had() {
    let stage = Stage::with_copies(1).await;
    let bucket = stage.bus.bucket::<PodRecord>(&PODS).await.unwrap();
    let pod_id = PodId::new();
    let id = pod_id.to_string();
    let record = PodRecord {
        pod_id,
        owner: "ann".into(),
        desired: Desired::Stopped,
        phase: PodPhase::Stopped,
        operation: None,
        queue: Vec::new(),
        secrets: secrets("anns-marker"),
        ..golden("pod_record")
    };
    bucket.create(&id, &record).await.unwrap();
    let to_bob = |secrets| TransferPod { owner: "bob".into(), secrets };
    let owner = async || bucket.get(&id).await.unwrap().unwrap().record.owner;

    // Whoever asks without bob's would leave it ann's.
    let (progress, why) = stage.transfer("pod", &id, &to_bob(None)).await;
    assert_eq!((progress, owner().await.as_str()), (Progress::Failed, "ann"));
    assert!(why.contains("would not be its new owner's"), "{why}");

    let (progress, why) = stage.transfer("pod", &id, &to_bob(secrets("bobs-marker"))).await;
    assert_eq!(progress, Progress::Succeeded, "{why}");
    let given = bucket.get(&id).await.unwrap().unwrap().record;
    assert_eq!((given.owner.as_str(), given.secrets.as_ref()), ("bob", secrets("bobs-marker").as_ref()));
    assert!(!serde_json::to_string(&given).unwrap().contains("anns-marker"));

    // One that runs has them in memory.
    let running = PodRecord { pod_id: PodId::new(), phase: PodPhase::Running, name: "runs".into(), ..record };
    let id = running.pod_id.to_string();
    bucket.create(&id, &running).await.unwrap();
    let (progress, why) = stage.transfer("pod", &id, &to_bob(secrets("bobs-marker"))).await;
    assert_eq!(progress, Progress::Failed);
    assert!(why.contains("stop it before"), "{why}");
    let kept = bucket.get(&id).await.unwrap().unwrap().record;
    assert_eq!((kept.owner.as_str(), kept.secrets), ("ann", secrets("anns-marker")));
}

#[tokio::test]
async fn a_start_brings_the_owners_newest_secrets_and_nobody_elses() {
    let stage = Stage::with_copies(1).await;
    let bucket = stage.bus.bucket::<PodRecord>(&PODS).await.unwrap();
    let pod_id = PodId::new();
    let id = pod_id.to_string();
    let record = PodRecord {
        pod_id,
        owner: "bob".into(),
        desired: Desired::Stopped,
        phase: PodPhase::Stopped,
        host_id: None,
        operation: None,
        queue: Vec::new(),
        secrets: secrets("bobs-first"),
        ..golden("pod_record")
    };
    bucket.create(&id, &record).await.unwrap();
    // The first was asked for while the pod was still ann's.
    for (owner, sealed, then) in [("ann", "anns", "bobs-first"), ("bob", "bobs-second", "bobs-second")] {
        let start = StartPod { secrets: secrets(sealed).map(|secrets| OwnersSecrets { owner: owner.into(), secrets }) };
        let operation_id = stage.ask("pod", &id, "restart", &start).await;
        let record = eventually(SOON, "the request to be taken in", async || {
            let record = bucket.get(&id).await.unwrap().unwrap().record;
            let text = serde_json::to_string(&record).unwrap();
            if text.contains(&operation_id.to_string()) { Ok(record) } else { Err(text) }
        })
        .await;
        assert_eq!(record.secrets, secrets(then));
        assert!(record.queue.iter().all(|request| request.parameters.get("secrets").is_none()), "{record:?}");
    }
}

#[tokio::test]
async fn a_host_that_is_given_away_takes_its_new_owners_pods_alone() {
    let stage = Stage::with_copies(1).await;
    let bucket = stage.bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
    let host_id = HostId::new();
    let id = host_id.to_string();
    let record = HostRecord {
        host_id,
        owner: Some("ann".into()),
        allowed_owners: ["ann".to_owned(), "carl".to_owned()].into(),
        ..golden("host_record")
    };
    bucket.create(&id, &record).await.unwrap();
    let record = async || bucket.get(&id).await.unwrap().unwrap().record;
    for owner in [Some("bob".to_owned()), None] {
        let (progress, why) = stage.transfer("host", &id, &TransferHost { owner: owner.clone() }).await;
        assert_eq!(progress, Progress::Succeeded, "{why}");
        let given = record().await;
        assert_eq!((&given.owner, &given.allowed_owners), (&owner, &owner.iter().cloned().collect()));
    }
    let told = stage.events().await.into_iter().filter(|event| event.kind == EventKind::Host);
    let owners: Vec<_> = told
        .filter(|event| event.what == HOST_TERMS_CHANGED && event.target_id == id)
        .map(|event| HostRecord::deserialize(&event.detail).unwrap().owner)
        .collect();
    assert_eq!(owners, [Some("bob".to_owned()), None]);
}
