//! An agent as the bus sees it: heartbeats, inventories and samples over the real contract.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pinacle_bus::{
    client::Bus,
    contract::{
        HostId, Subject, Timestamp, encode,
        host::{DockerState, Heartbeat, HostFacts},
        inventory::Inventory,
        metrics::{HostSample, Metrics},
    },
};
use pinacle_tests::{Nats, User};
use tokio::{task::JoinSet, time::Instant};

const INTERVAL: Duration = Duration::from_secs(5);

pub struct Agent {
    pub id: HostId,
    bus: Bus,
    hostname: String,
    cpus: u32,
    shared: Arc<Mutex<Shared>>,
    beating: JoinSet<()>,
}

struct Shared {
    next: Heartbeat,
    last: Option<Heartbeat>,
    last_at: Instant,
    clock_ms: i64,
    booted: Instant,
}

impl Shared {
    fn clock(&self) -> Timestamp {
        Timestamp::from_millis(Timestamp::now().as_millis() + self.clock_ms).unwrap()
    }

    fn heartbeat(&mut self) -> Heartbeat {
        self.next.sequence += 1;
        Heartbeat { sent_at: self.clock(), uptime_seconds: 1000 + self.booted.elapsed().as_secs(), ..self.next.clone() }
    }
}

async fn beat(bus: &Bus, shared: &Mutex<Shared>) {
    let heartbeat = shared.lock().heartbeat();
    // While the bus is away there is nobody to tell.
    if bus.publish_unacked(&Subject::Heartbeat(heartbeat.host_id), &heartbeat).await.is_ok() {
        let mut shared = shared.lock();
        shared.last = Some(heartbeat);
        shared.last_at = Instant::now();
    }
}

impl Agent {
    pub async fn connect(nats: &Nats, hostname: &str) -> Self {
        Self::connect_as(nats, HostId::new(), hostname).await
    }

    pub async fn connect_as(nats: &Nats, id: HostId, hostname: &str) -> Self {
        let bus = nats.bus(User::Host(id), &format!("agent {id}")).await;
        let next = Heartbeat {
            host_id: id,
            sent_at: Timestamp::now(),
            sequence: 0,
            agent_version: "0.1.0".into(),
            boot_id: format!("boot {}", HostId::new()),
            uptime_seconds: 0,
            load_1: 0.1,
            load_5: 0.2,
            load_15: 0.3,
            docker: DockerState::Up { version: "20.10.24".into() },
            stopping: false,
        };
        let now = Instant::now();
        let shared = Shared { next, last: None, last_at: now, clock_ms: 0, booted: now };
        Self {
            id,
            bus,
            hostname: hostname.into(),
            cpus: 2,
            shared: Arc::new(Mutex::new(shared)),
            beating: JoinSet::new(),
        }
    }

    pub fn beat_from_now_on(&mut self) {
        let (bus, shared) = (self.bus.clone(), self.shared.clone());
        self.beating.spawn(async move {
            let mut timer = tokio::time::interval(INTERVAL);
            loop {
                timer.tick().await;
                beat(&bus, &shared).await;
            }
        });
    }

    /// Beats no more; the connection stays. Returns when the last heartbeat was sent.
    pub async fn fall_silent(&mut self) -> Instant {
        self.beating.shutdown().await;
        self.shared.lock().last_at
    }

    pub async fn farewell(&mut self) {
        self.beating.shutdown().await;
        self.shared.lock().next.stopping = true;
        beat(&self.bus, &self.shared).await;
        self.bus.flush(Duration::from_secs(5)).await.unwrap();
    }

    pub async fn repeat_last_heartbeat(&self) {
        let last = self.shared.lock().last.clone().unwrap();
        self.bus.publish_unacked(&Subject::Heartbeat(self.id), &last).await.unwrap();
    }

    pub async fn late_sample(&self) {
        let sampled_at = Timestamp::now().minus(Duration::from_secs(3600));
        let sample =
            Metrics { host_id: self.id, sampled_at, interval_ms: 5000, late: true, host: sample(), pods: vec![] };
        self.bus.publish(&Subject::Metrics(self.id), &sample.message_id(), &sample).await.unwrap();
    }

    pub fn sequence(&self) -> u64 {
        self.shared.lock().last.as_ref().unwrap().sequence
    }

    pub fn clock_ms(&mut self, ms: i64) {
        self.shared.lock().clock_ms = ms;
    }

    pub fn docker(&mut self, docker: DockerState) {
        self.shared.lock().next.docker = docker;
    }

    pub fn cpus(&mut self, cpus: u32) {
        self.cpus = cpus;
    }

    pub async fn inventory(&self) {
        let inventory = self.taken();
        let id = format!("{}.{}", self.id, HostId::new());
        self.bus.publish(&Subject::Inventory(self.id), &id, &inventory).await.unwrap();
    }

    pub fn inventory_bytes(&self) -> Vec<u8> {
        encode(&self.taken()).unwrap()
    }

    fn taken(&self) -> Inventory {
        let shared = self.shared.lock();
        Inventory {
            host_id: self.id,
            taken_at: shared.clock(),
            hostname: self.hostname.clone(),
            facts: HostFacts {
                agent_version: shared.next.agent_version.clone(),
                boot_id: shared.next.boot_id.clone(),
                os: "Debian GNU/Linux 12 (bookworm)".into(),
                kernel: "6.1.0-18-amd64".into(),
                architecture: "x86_64".into(),
                cpu_model: "a CPU".into(),
                cpu_count: self.cpus,
                memory_total_bytes: 1 << 34,
                disk_total_bytes: 1 << 40,
                docker_version: Some("20.10.24".into()),
                runtimes: vec!["runc".into(), "runsc".into()],
                addresses: vec!["10.77.0.11".into()],
                ssh: None,
                lima_name: None,
            },
            containers: vec![],
            images: vec![],
            networks: vec![],
            ports: vec![],
            truncated: false,
        }
    }
}

fn sample() -> HostSample {
    HostSample {
        cpu_percent: 12.5,
        cpu_cores_percent: vec![10.0, 15.0],
        load_1: 0.1,
        load_5: 0.2,
        load_15: 0.3,
        memory_total_bytes: 1 << 34,
        memory_used_bytes: 1 << 32,
        memory_available_bytes: 1 << 33,
        memory_cached_bytes: 1 << 31,
        swap_total_bytes: 0,
        swap_used_bytes: 0,
        disk_read_bytes: 0,
        disk_write_bytes: 0,
        disk_read_bytes_per_second: 0.0,
        disk_write_bytes_per_second: 0.0,
        network_rx_bytes: 0,
        network_tx_bytes: 0,
        network_rx_bytes_per_second: 0.0,
        network_tx_bytes_per_second: 0.0,
        disks: vec![],
        networks: vec![],
        pressure: None,
        temperatures: vec![],
    }
}
