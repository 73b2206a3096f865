//! A bus with copies of the orchestrator on it, and what can be seen from outside.

use std::time::Duration;

use pinacle_bus::{
    client::{Bus, Start, Stored, Subscription},
    contract::{
        HostId, Subject,
        event::{Event, HOST_STATE_CHANGED, HostStateChange},
        host::{HostRecord, HostState, StateCause},
        subject::EventKind,
        topology::{HOSTS, StreamName},
    },
};
use pinacle_tests::{Launch, Nats, Process, User, eventually, stack::ORCHESTRATOR_KEY};
use tokio::time::timeout;

use super::agent::Agent;

const SOON: Duration = Duration::from_secs(20);

pub struct Stage {
    pub copies: Vec<Process>,
    pub bus: Bus,
    pub nats: Nats,
}

impl Stage {
    pub async fn with_copies(copies: usize) -> Self {
        let nats = Nats::start().await;
        let bus = nats.bus_with_topology().await;
        let mut started = Vec::new();
        for copy in 0..copies {
            let launch = Self::launch(&nats).named(&format!("orchestrator-{copy}"));
            started.push(launch.ready_on_admin_port().start().await);
        }
        Self { copies: started, bus, nats }
    }

    pub fn launch(nats: &Nats) -> Launch {
        Launch::service("pinacle-orchestrator")
            .in_sandbox(nats.sandbox())
            .envs(nats.env(User::ORCHESTRATOR))
            .env("PINACLE__ORCHESTRATOR__KEY", ORCHESTRATOR_KEY)
    }

    /// A host that is online.
    pub async fn online(&self, hostname: &str) -> Agent {
        let mut agent = Agent::connect(&self.nats, hostname).await;
        agent.inventory().await;
        agent.beat_from_now_on();
        self.becomes(agent.id, HostState::Online, StateCause::Heartbeat, SOON).await;
        eventually(SOON, "the event that it is online", async || match self.changes(agent.id).await {
            changes if changes.len() == 1 => Ok(()),
            changes => Err(changes),
        })
        .await;
        agent
    }

    pub async fn record(&self, id: HostId) -> Option<HostRecord> {
        let records = self.bus.bucket::<HostRecord>(&HOSTS).await.ok()?;
        records.get(&id.to_string()).await.ok()?.map(|entry| entry.record)
    }

    pub async fn becomes(&self, id: HostId, state: HostState, cause: StateCause, deadline: Duration) {
        eventually(deadline, &format!("{id} to be {} because of {}", state.as_str(), cause.as_str()), async || {
            match self.record(id).await {
                Some(record) if (record.state, record.cause) == (state, cause) => Ok(()),
                other => Err(other.map(|record| (record.state, record.cause, record.evidence))),
            }
        })
        .await;
    }

    /// All events, as the stream holds them.
    pub async fn events(&self) -> Vec<Event> {
        read_all(&self.bus, StreamName::Events).await.iter().map(|stored| stored.decode().unwrap()).collect()
    }

    /// A host's changes of state, as the stream holds them.
    pub async fn changes(&self, id: HostId) -> Vec<HostStateChange> {
        self.events()
            .await
            .into_iter()
            .filter(|event| event.target_id == id.to_string() && event.what == HOST_STATE_CHANGED)
            .map(|event| serde_json::from_value(event.detail).unwrap())
            .collect()
    }

    /// A host's changes of state from now on, as they are published.
    pub async fn changes_of(&self, id: HostId) -> Changes {
        let subject = Subject::Event { kind: EventKind::Host, id: id.to_string(), what: HOST_STATE_CHANGED.into() };
        let subscription = self.bus.subscribe(subject.to_string()).await.unwrap();
        self.bus.flush(SOON).await.unwrap();
        Changes { subscription, seen: Vec::new() }
    }

    pub fn all_run(&mut self) -> Result<(), String> {
        match self.copies.iter_mut().find_map(|copy| copy.poll()) {
            None => Ok(()),
            Some(status) => Err(format!("one ended: {status}")),
        }
    }
}

pub struct Changes {
    subscription: Subscription,
    /// Two copies may publish the same event; the stream keeps one, a core subscription sees both.
    seen: Vec<String>,
}

impl Changes {
    async fn fresh(&mut self) -> Event {
        loop {
            let event: Event = self.subscription.next().await.unwrap().decode().unwrap();
            let id = event.event_id.to_string();
            if !self.seen.contains(&id) {
                self.seen.push(id);
                return event;
            }
        }
    }

    pub async fn next(&mut self, deadline: Duration) -> HostStateChange {
        let event = timeout(deadline, self.fresh()).await.expect("a change of state in time");
        serde_json::from_value(event.detail).unwrap()
    }

    pub async fn none_for(&mut self, period: Duration) {
        if let Ok(event) = timeout(period, self.fresh()).await {
            panic!("there was a change: {event:?}");
        }
    }
}

/// All that a stream holds.
pub async fn read_all(bus: &Bus, stream: StreamName) -> Vec<Stored> {
    let (first, last) = bus.stream_bounds(stream).await.unwrap();
    let mut reader = bus.read(stream, Start::Beginning, None);
    let mut all = Vec::new();
    while first <= last && all.last().is_none_or(|stored: &Stored| stored.sequence < last) {
        all.push(timeout(SOON, reader.next()).await.unwrap().unwrap());
    }
    all
}
