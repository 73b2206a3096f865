//! A lab, and what its tests do with pods: ask for them over the bus, follow what becomes of it, and look on the hosts
//! whether that is true.

use std::time::Duration;

use pinacle_bus::{
    client::{Bucket, Bus, Start, Stored},
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
use pinacle_tests::{
    eventually,
    lab::{Host, Lab},
};
use serde_json::{Value, json};

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

    /// A request, published.
    pub async fn ask(&self, pod: PodId, verb: &str, parameters: Value) -> OperationId {
        let request = Request {
            request_id: RequestId::new(),
            operation_id: OperationId::new(),
            kind: "pod".into(),
            target_id: pod.to_string(),
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

    pub async fn cancel(&self, pod: PodId, operation: OperationId) {
        self.ask(pod, "cancel", json!({ "operation_id": operation })).await;
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
            Some(record) if record.phase == phase && record.operation.is_none() && record.queue.is_empty() => {
                Ok(record)
            }
            other => Err(other),
        })
        .await
    }

    /// An image on every host whose containers end at once, with exit code 3 and a last word.
    pub fn image_that_ends(&self) -> String {
        let image = "pinacle-test/ends:1";
        for host in self.lab.hosts() {
            if host.docker(&["images", "--quiet", image]).is_empty() {
                let container = host.docker(&["create", self.lab.image()]);
                let command = r#"CMD ["/bin/sh", "-c", "echo a last word; exit 3"]"#;
                host.docker(&["commit", "--change", command, &container, image]);
                host.docker(&["rm", &container]);
            }
        }
        image.into()
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

    /// Nothing of it anywhere.
    pub async fn is_gone(&self, pod: PodId) {
        assert_eq!(self.holdings(pod).await, Holdings::default());
    }

    /// The commands of a pod's operations, as they were last told, in order.
    pub async fn commands(&self, pod: PodId) -> Vec<ExecRecord> {
        let filter = format!("pinacle.v1.exec.{pod}.*");
        let stored = read_all(&self.bus, StreamName::Exec, filter).await;
        let mut records: Vec<ExecRecord> = Vec::new();
        for message in stored {
            let record: ExecRecord = message.decode().unwrap();
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

/// All that a stream holds for a filter.
pub async fn read_all(bus: &Bus, stream: StreamName, filter: String) -> Vec<Stored> {
    let mut reader = bus.read(stream, Start::Beginning, Some(filter));
    let mut all = Vec::new();
    while let Ok(stored) = tokio::time::timeout(Duration::from_secs(1), reader.next()).await {
        all.push(stored.unwrap());
    }
    all
}
