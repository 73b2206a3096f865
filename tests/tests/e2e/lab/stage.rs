//! A lab, and what its tests do with pods: ask for them over the bus, follow what becomes of it, and look on the hosts
//! whether that is true.

use std::time::Duration;

use pinacle_bus::{
    client::{Bucket, Bus, Change, Start, Stored},
    contract::{
        HostId, OperationId, PodId, RequestId, Subject, Timestamp,
        event::Event,
        exec::ExecRecord,
        ledger::HostLedger,
        pod::{CreatePod, PodPhase, PodRecord, RestartPolicy},
        request::{Operation, Progress, Request},
        subject::EventKind,
        topology::{LEDGER, PODS, StreamName},
    },
};
use pinacle_orchestrator::{operation::plan::Verb, record::is_idle};
use pinacle_tests::{
    eventually,
    lab::{Host, Lab},
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Longer than anything takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(120);

/// A pod's containers, networks and volumes on all hosts, and the hosts that have something reserved for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub containers: Vec<String>,
    pub networks: Vec<String>,
    pub volumes: Vec<String>,
    pub reserved_on: Vec<HostId>,
}

pub struct Stage {
    pub lab: Lab,
    pub bus: Bus,
    pods: Bucket<PodRecord>,
    ledgers: Bucket<HostLedger>,
}

/// The parameters of a creation.
pub fn pod(name: &str) -> CreatePod {
    CreatePod {
        name: name.into(),
        owner: "somebody".into(),
        tier: "dev.small".into(),
        image: None,
        runtime: None,
        environment: [].into(),
        host_labels: [].into(),
        only_host: None,
        restart: RestartPolicy::Never,
        secrets: None,
    }
}

/// The name of a pod's container.
pub fn container(pod: PodId) -> String {
    format!("pinacle-pod-{pod}")
}

impl Stage {
    pub async fn on(lab: Lab) -> Self {
        let bus = lab.bus();
        let (pods, ledgers) = (bus.bucket(&PODS).await.unwrap(), bus.bucket(&LEDGER).await.unwrap());
        Self { lab, bus, pods, ledgers }
    }

    /// A request about a pod, published.
    pub async fn ask(&self, pod: PodId, verb: &str, parameters: Value) -> OperationId {
        self.ask_of("pod", pod.to_string(), verb, parameters).await
    }

    async fn ask_of(&self, kind: &str, target_id: String, verb: &str, parameters: Value) -> OperationId {
        let request = Request {
            request_id: RequestId::new(),
            operation_id: OperationId::new(),
            kind: kind.into(),
            target_id,
            verb: verb.into(),
            requested_by: "somebody".into(),
            requested_at: Timestamp::now(),
            deadline_at: None,
            parameters,
        };
        self.publish(&request).await;
        request.operation_id
    }

    pub async fn publish(&self, request: &Request) {
        let subject =
            Subject::Request { kind: request.kind.clone(), id: request.target_id.clone(), verb: request.verb.clone() };
        self.bus.publish(&subject, &request.request_id.to_string(), request).await.unwrap();
    }

    pub async fn create(&self, pod: &CreatePod) -> (PodId, OperationId) {
        let id = PodId::new();
        let operation = self.ask(id, "create", serde_json::to_value(pod).unwrap()).await;
        (id, operation)
    }

    /// A pod that runs.
    pub async fn running(&self, name: &str) -> PodId {
        let (id, operation) = self.create(&pod(name)).await;
        self.succeeds(operation).await;
        id
    }

    /// A host by its name.
    pub fn host(&self, name: &str) -> &Host {
        self.lab.hosts().iter().find(|host| host.name() == name).expect("the lab has a host of this name")
    }

    /// The host that a pod is on.
    pub async fn host_of(&self, pod: PodId) -> &Host {
        let host = self.record(pod).await.host_id.expect("it is placed");
        self.host(&self.lab.host_of(host))
    }

    /// Asks for something without parameters, and waits until it is done.
    pub async fn done(&self, pod: PodId, verb: &str) -> Operation {
        let operation = self.ask(pod, verb, json!({})).await;
        self.succeeds(operation).await
    }

    /// Asks for an operation to be cancelled; that is one, too.
    pub async fn cancel(&self, pod: PodId, operation: OperationId) -> OperationId {
        self.ask(pod, "cancel", json!({ "operation_id": operation })).await
    }

    /// Changes a host's terms.
    pub async fn done_to_host(&self, host: HostId, verb: &str) {
        let operation = self.ask_of("host", host.to_string(), verb, json!({})).await;
        self.succeeds(operation).await;
    }

    /// Brings a pod to where an operation of this verb begins.
    pub async fn prepare(&self, pod: PodId, verb: Verb) {
        let ask = match (verb, self.record(pod).await.phase) {
            (Verb::Start, PodPhase::Running) => "stop",
            (Verb::Resume, PodPhase::Running) => "pause",
            (Verb::Start | Verb::Resume, PodPhase::Stopped | PodPhase::Paused) => return,
            (_, PodPhase::Stopped) => "start",
            (_, PodPhase::Paused) => "resume",
            _ => return,
        };
        self.done(pod, ask).await;
        self.rests(pod).await;
    }

    /// The operation as it was last told.
    pub async fn operation(&self, operation: OperationId) -> Option<Operation> {
        let subject = Subject::Event { kind: EventKind::Op, id: operation.to_string(), what: "changed".into() };
        let event: Event = self.bus.last(StreamName::Events, &subject).await.ok()??.decode().unwrap();
        Some(serde_json::from_value(event.detail).unwrap())
    }

    pub async fn ends(&self, operation: OperationId) -> Operation {
        eventually(LONG, "the operation to end", async || match self.operation(operation).await {
            Some(operation) if operation.ended_at.is_some() => Ok(operation),
            other => Err(other),
        })
        .await
    }

    pub async fn succeeds(&self, operation: OperationId) -> Operation {
        let operation = self.ends(operation).await;
        assert_eq!(operation.progress, Progress::Succeeded, "{operation:#?}");
        operation
    }

    pub async fn record(&self, pod: PodId) -> PodRecord {
        self.pods.get(&pod.to_string()).await.unwrap().expect("the pod has a record").record
    }

    pub async fn find(&self, pod: PodId) -> Option<PodRecord> {
        self.pods.get(&pod.to_string()).await.unwrap().map(|entry| entry.record)
    }

    /// Waits until the pod is in this phase and nothing is under way.
    pub async fn settles(&self, pod: PodId, phase: PodPhase) -> PodRecord {
        eventually(LONG, &format!("{pod} to be {}", phase.as_str()), async || match self.find(pod).await {
            Some(record) if record.phase == phase && is_idle(&record) => Ok(record),
            other => Err(other),
        })
        .await
    }

    /// Waits until nothing is under way for the pod.
    pub async fn rests(&self, pod: PodId) -> PodRecord {
        eventually(LONG, &format!("{pod} to be at rest"), async || match self.find(pod).await {
            Some(record) if is_idle(&record) => Ok(record),
            other => Err(other),
        })
        .await
    }

    /// Waits until the operation is at this step.
    pub async fn is_at(&self, operation: OperationId, step: &str) {
        eventually(LONG, &format!("the operation to be at {step}"), async || {
            let told = self.operation(operation).await;
            let is_there = |told: &Operation| {
                told.steps.iter().any(|known| known.label == step && known.progress == Progress::Running)
            };
            if told.as_ref().is_some_and(is_there) { Ok(()) } else { Err(told) }
        })
        .await;
    }

    /// Changes a pod's record as a copy of the orchestrator does; returns it as written.
    pub async fn change(&self, pod: PodId, change: impl FnOnce(&mut PodRecord)) -> PodRecord {
        let key = pod.to_string();
        let mut entry = self.pods.get(&key).await.unwrap().expect("the pod has a record");
        change(&mut entry.record);
        self.pods.update(&key, &entry.record, entry.revision).await.unwrap();
        entry.record
    }

    /// The pod's records as they are written from now on, up to one that is as wanted.
    pub async fn written(&self, pod: PodId, is_wanted: impl Fn(&PodRecord) -> bool) -> Vec<PodRecord> {
        let (mut watch, mut all) = (self.pods.watch(), Vec::new());
        let reading = async {
            while !all.last().is_some_and(&is_wanted) {
                if let Change::Put { entry, .. } = watch.next().await.unwrap()
                    && entry.record.pod_id == pod
                {
                    all.push(entry.record);
                }
            }
        };
        let is_in_time = timeout(LONG, reading).await.is_ok();
        assert!(is_in_time, "no record of {pod} is as wanted: {all:#?}");
        all
    }

    /// An image on every host whose containers run this script.
    pub fn image_that(&self, name: &str, script: &str) -> String {
        let image = format!("pinacle-test/{name}:1");
        for host in self.lab.hosts() {
            let container = host.docker(&["create", self.lab.image()]);
            let command = format!("CMD {}", json!(["/bin/sh", "-c", script]));
            host.docker(&["commit", "--change", &command, &container, &image]);
            host.docker(&["rm", &container]);
        }
        image
    }

    /// What there is of a pod, wherever it is.
    pub async fn holdings(&self, pod: PodId) -> Holdings {
        let label = format!("label=pinacle.pod={pod}");
        let mut found = Holdings::default();
        for host in self.lab.hosts() {
            let list = |arguments: &[&str], format: &str| -> Vec<String> {
                let mut all = arguments.to_vec();
                all.extend(["--filter", &label, "--format", format]);
                let name = host.name();
                host.docker(&all).lines().map(|line| format!("{name}: {line}")).collect()
            };
            found.containers.extend(list(&["ps", "--all", "--no-trunc"], "{{.Names}} {{.State}}"));
            found.networks.extend(list(&["network", "ls", "--no-trunc"], "{{.Name}}"));
            found.volumes.extend(list(&["volume", "ls"], "{{.Name}}"));
        }
        for key in self.ledgers.keys().await.unwrap() {
            let ledger = self.ledgers.get(&key).await.unwrap().unwrap().record;
            if ledger.reservations.contains_key(&pod) {
                found.reserved_on.push(ledger.host_id);
            }
        }
        found
    }

    /// Exactly one of everything, on the host that its record names, in this state.
    pub async fn is_whole(&self, pod: PodId, state: &str) {
        let record = self.record(pod).await;
        let host_id = record.host_id.expect("it is placed");
        let host = self.lab.host_of(host_id);
        let expected = Holdings {
            containers: vec![format!("{host}: pinacle-pod-{pod} {state}")],
            networks: vec![format!("{host}: pinacle-net-{pod}")],
            volumes: vec![format!("{host}: pinacle-vol-{pod}-workspace")],
            reserved_on: vec![host_id],
        };
        assert_eq!(self.holdings(pod).await, expected, "{record:#?}");
        let ledger = self.ledgers.get(&host_id.to_string()).await.unwrap().unwrap().record;
        let reserved = &ledger.reservations[&pod];
        assert_eq!((record.external_port, record.subnet), (Some(reserved.external_port), Some(reserved.subnet)));
    }

    /// Exactly one of everything, in the state that its record says.
    pub async fn is_as_recorded(&self, pod: PodId) {
        let phase = self.record(pod).await.phase;
        let state = match phase {
            PodPhase::Running => "running",
            PodPhase::Paused => "paused",
            PodPhase::Stopped => "exited",
            other => panic!("{pod} is {}", other.as_str()),
        };
        self.is_whole(pod, state).await;
    }

    /// Nothing of it anywhere.
    pub async fn is_gone(&self, pod: PodId) {
        assert_eq!(self.holdings(pod).await, Holdings::default());
    }

    /// The commands of a pod's operations, as they were last told, in order.
    pub async fn commands(&self, pod: PodId) -> Vec<ExecRecord> {
        let stored = read_all(&self.bus, StreamName::Exec).await;
        let mut records: Vec<ExecRecord> = Vec::new();
        for message in stored {
            let record: ExecRecord = message.decode().unwrap();
            if record.pod_id != Some(pod) {
                continue;
            }
            match records
                .iter_mut()
                .find(|known| (known.operation_id, known.sequence) == (record.operation_id, record.sequence))
            {
                Some(known) => *known = record,
                None => records.push(record),
            }
        }
        records
    }
}

/// All that a stream holds now.
pub async fn read_all(bus: &Bus, stream: StreamName) -> Vec<Stored> {
    let (first, last) = bus.stream_bounds(stream).await.unwrap();
    let mut reader = bus.read(stream, Start::Beginning, None);
    let mut all: Vec<Stored> = Vec::new();
    while first <= last && all.last().is_none_or(|stored| stored.sequence < last) {
        all.push(reader.next().await.unwrap());
    }
    all
}
