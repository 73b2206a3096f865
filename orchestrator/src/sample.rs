//! Records and heartbeats for this crate's unit tests.

use pinacle_bus::contract::{
    HostId, Timestamp,
    host::{DockerState, Evidence, Heartbeat, HostFacts, HostRecord, HostState, StateCause},
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
