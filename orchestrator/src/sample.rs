//! Records and heartbeats for this crate's unit tests.

use pinacle_bus::contract::{
    HostId, PodId, Timestamp,
    host::{DockerState, Evidence, Heartbeat, HostFacts, HostRecord, HostState, StateCause},
    pod::{Desired, PodPhase, PodRecord, PodSpec, RestartPolicy},
};

pub fn facts() -> HostFacts {
    HostFacts {
        agent_version: "0.1.0".into(),
        boot_id: "boot".into(),
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel: "6.1.0".into(),
        architecture: "x86_64".into(),
        cpu_model: "a CPU".into(),
        cpu_count: 2,
        memory_total_bytes: 1 << 34,
        disk_total_bytes: 1 << 40,
        docker_version: None,
        runtimes: Vec::new(),
        addresses: Vec::new(),
        ssh: None,
        lima_name: None,
    }
}

pub fn record(name: &str) -> HostRecord {
    let at: Timestamp = "2026-11-21T09:15:40.123Z".parse().unwrap();
    HostRecord {
        host_id: HostId::new(),
        name: name.into(),
        state: HostState::Unknown,
        cause: StateCause::Admitted,
        state_since: at,
        evidence: Evidence::default(),
        admitted_at: at,
        cordoned: false,
        labels: [].into(),
        allowed_owners: [].into(),
        pinned_host_keys: Vec::new(),
        facts: facts(),
        owner: None,
        notes: String::new(),
        maintenance: Vec::new(),
        disabled: false,
    }
}

pub fn heartbeat(host_id: HostId, sequence: u64) -> Heartbeat {
    Heartbeat {
        host_id,
        sent_at: "2026-11-21T09:15:40.123Z".parse().unwrap(),
        sequence,
        agent_version: "0.1.0".into(),
        boot_id: "boot".into(),
        uptime_seconds: 1000 + 5 * sequence,
        load_1: 0.1,
        load_5: 0.2,
        load_15: 0.3,
        docker: DockerState::Absent,
        stopping: false,
    }
}

/// A pod that runs on a host.
pub fn pod() -> PodRecord {
    let at: Timestamp = "2026-11-21T09:15:40.123Z".parse().unwrap();
    PodRecord {
        pod_id: PodId::new(),
        name: "web".into(),
        owner: "anna".into(),
        spec: PodSpec {
            tier: "dev.small".into(),
            image: "pinacle/base:1".into(),
            runtime: "runsc".into(),
            environment: [].into(),
            host_labels: [].into(),
            only_host: None,
            restart: RestartPolicy::Always,
        },
        desired: Desired::Running,
        phase: PodPhase::Running,
        cause: None,
        phase_since: at,
        created_at: at,
        host_id: Some(HostId::new()),
        external_port: Some(30_000),
        subnet: Some(1),
        residue: false,
        restarts: 0,
        restarted_at: None,
        restart_at: None,
        operation: None,
        cancelled_by: None,
        queue: Vec::new(),
        ended_operations: Vec::new(),
        fence: 1,
        secrets: None,
    }
}
