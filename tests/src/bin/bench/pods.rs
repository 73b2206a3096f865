//! Pods of a lab: asked for over the bus, followed by their live records, and removed again.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use pinacle_bus::{
    client::{Bus, Change, Start, Watch},
    contract::{
        OperationId, PodId, RequestId, Subject, Timestamp,
        exec::ExecRecord,
        pod::{CreatePod, PodPhase, PodRecord, RestartPolicy},
        request::Request,
        topology::{PODS, StreamName},
    },
};
use pinacle_tests::lab::Lab;
use serde_json::json;
use tokio::time::Instant;

/// The pods of a lab.
pub struct Pods {
    bus: Bus,
    watch: Watch<PodRecord>,
    creations: BTreeMap<PodId, OperationId>,
}

/// A pod that is as was waited for.
pub struct Reached {
    pub record: PodRecord,
    /// When this client heard of it.
    pub at: Instant,
}

impl Pods {
    /// Follows the records of all pods from now on.
    pub async fn of(lab: &Lab) -> Self {
        let bus = lab.bus();
        let mut watch = bus.bucket::<PodRecord>(&PODS).await.unwrap().watch();
        while !matches!(watch.next().await.unwrap(), Change::Current) {}
        Self { bus, watch, creations: BTreeMap::new() }
    }

    /// Asks for small pods of these names, all at once; of the lab's own image unless told another.
    pub async fn create(&mut self, names: &[String], image: Option<&str>) -> Vec<PodId> {
        let asked = join_all(names.iter().map(|name| self.ask_for(name, image))).await;
        self.creations.extend(asked.iter().copied());
        asked.into_iter().map(|(pod, _)| pod).collect()
    }

    async fn ask_for(&self, name: &str, image: Option<&str>) -> (PodId, OperationId) {
        let wanted = CreatePod {
            name: name.into(),
            owner: "bench".into(),
            tier: "dev.small".into(),
            image: image.map(Into::into),
            runtime: None,
            environment: [].into(),
            host_labels: [].into(),
            only_host: None,
            restart: RestartPolicy::Never,
            secrets: None,
        };
        let pod = PodId::new();
        (pod, self.ask(pod, "create", serde_json::to_value(wanted).unwrap()).await)
    }

    /// Asks for the end of pods, and waits until they are gone.
    pub async fn remove(&mut self, pods: &[PodId]) {
        for pod in pods {
            self.ask(*pod, "delete", json!({})).await;
        }
        self.until(pods, |record| record.phase == PodPhase::Deleted && record.operation.is_none()).await;
    }

    /// Waits until each of these pods runs.
    pub async fn run(&mut self, pods: &[PodId]) -> BTreeMap<PodId, Reached> {
        self.until(pods, |record| record.phase == PodPhase::Running).await
    }

    async fn ask(&self, pod: PodId, verb: &str, parameters: serde_json::Value) -> OperationId {
        let request = Request {
            request_id: RequestId::new(),
            operation_id: OperationId::new(),
            kind: "pod".into(),
            target_id: pod.to_string(),
            verb: verb.into(),
            requested_by: "bench".into(),
            requested_at: Timestamp::now(),
            deadline_at: None,
            parameters,
        };
        let subject = Subject::Request { kind: "pod".into(), id: pod.to_string(), verb: verb.into() };
        self.bus.publish(&subject, &request.request_id.to_string(), &request).await.unwrap();
        request.operation_id
    }

    async fn until(&mut self, pods: &[PodId], is_there: fn(&PodRecord) -> bool) -> BTreeMap<PodId, Reached> {
        let mut reached = BTreeMap::new();
        while reached.len() < pods.len() {
            let Change::Put { entry, .. } = self.watch.next().await.unwrap() else { continue };
            let (record, at) = (entry.record, Instant::now());
            assert_ne!(record.phase, PodPhase::Failed, "{record:#?}");
            if pods.contains(&record.pod_id) && is_there(&record) {
                reached.entry(record.pod_id).or_insert(Reached { record, at });
            }
        }
        reached
    }

    /// The commands that made a pod, in order, each as it ended.
    pub async fn commands(&self, pod: PodId) -> Vec<ExecRecord> {
        let operation = self.creations[&pod];
        let filter = Subject::Exec { target: pod.to_string(), operation }.to_string();
        let mut reader = self.bus.read(StreamName::Exec, Start::Beginning, Some(filter));
        let mut commands = BTreeMap::new();
        loop {
            let stored = reader.next().await.unwrap();
            let command: ExecRecord = stored.decode().unwrap();
            if command.duration_ms.is_some() {
                commands.insert(command.sequence, command);
            }
            if stored.pending == 0 {
                return commands.into_values().collect();
            }
        }
    }
}
