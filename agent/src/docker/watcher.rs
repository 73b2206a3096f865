//! Follows Docker: connects, lists, follows its events, and starts over whenever that ends.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerSummary, EventMessage},
    query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions},
};
use futures_util::{Stream, StreamExt};
use pinacle_bus::contract::{Timestamp, host::DockerState};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    DEADLINE, DiskSize, DockerError, Looks, Pod, View,
    entries::{self, Details, cut},
    within,
};

/// How often the whole list is read, even without an event.
const LIST_AGAIN: Duration = Duration::from_secs(60);
/// How often a quiet Docker is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Events come in bursts: a container's start alone makes four.
const GATHER: Duration = Duration::from_millis(150);
/// Pauses between attempts to reach it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What changes the inventory. Others, such as those of every `exec`, Docker need not even send.
const EVENTS: [&str; 18] = [
    "create", "start", "restart", "stop", "die", "kill", "oom", "pause", "unpause", "rename", "update", "destroy",
    "tag", "untag", "import", "load", "pull", "delete",
];

/// Keeps `view` up to date until `shutdown`.
///
/// # Errors
/// None; it tries again for ever.
pub async fn watch_docker(
    socket: PathBuf,
    view: watch::Sender<View>,
    looks: Looks,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let wishes = looks.wishes.subscribe();
    let mut watcher = Watcher { socket, view, wishes, known: HashMap::new(), seen_up: false, pause: SHORTEST_PAUSE };
    loop {
        tokio::select! {
            // cancel-safe: the process ends.
            () = shutdown.cancelled() => return Ok(()),
            // cancel-safe: as above; it holds nothing that outlives it.
            () = watcher.follow() => {}
        }
        tokio::select! {
            // cancel-safe: only observed.
            () = shutdown.cancelled() => return Ok(()),
            // cancel-safe: a timer.
            () = sleep(watcher.pause) => {}
        }
        watcher.pause = (watcher.pause * 2).min(LONGEST_PAUSE);
    }
}

struct Watcher {
    socket: PathBuf,
    view: watch::Sender<View>,
    wishes: watch::Receiver<u64>,
    known: HashMap<String, Known>,
    /// Docker that was there and whose socket is gone is down, not absent.
    seen_up: bool,
    pause: Duration,
}

/// A container as last inspected.
struct Known {
    /// As it was listed then: another one now means that it changed.
    listed: String,
    details: Details,
    disk: Arc<DiskSize>,
    stale: bool,
}

impl Watcher {
    /// Follows Docker until it is away.
    async fn follow(&mut self) {
        let Err(error) = self.try_follow().await else { return };
        let state = if !self.seen_up && !self.socket.exists() {
            DockerState::Absent
        } else {
            DockerState::Down { reason: cut(&error.chain(), 1000) }
        };
        self.view.send_if_modified(|view| {
            let changed = view.state != state;
            if changed && state != DockerState::Absent {
                warn!(reason = error.chain(), "docker is down");
            }
            if changed || !view.looked {
                view.state = state;
                view.revision += 1;
                view.looked = true;
            }
            // The containers stay in view: they may well run on without it.
            changed | view.client.take().is_some()
        });
    }

    async fn try_follow(&mut self) -> Result<(), DockerError> {
        let client = connect(&self.socket).await?;
        let information = within(DEADLINE, client.info()).await?;
        let version = cut(information.server_version.as_deref().unwrap_or("unknown"), 64);
        let mut runtimes: Vec<String> = information.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort_unstable();
        runtimes.truncate(64);
        let mut events = events(&client);
        self.refresh_all(&client).await?;
        self.pause = SHORTEST_PAUSE;
        self.seen_up = true;
        info!(version, "docker is up");
        self.view.send_modify(|view| {
            view.state = DockerState::Up { version };
            view.runtimes = Arc::new(runtimes);
            view.client = Some(client.clone());
            view.looked = true;
            view.revision += 1;
        });
        self.follow_events(&client, &mut events).await
    }

    async fn follow_events(
        &mut self,
        client: &Docker,
        events: &mut (impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin),
    ) -> Result<(), DockerError> {
        let mut list = interval(LIST_AGAIN);
        list.set_missed_tick_behavior(MissedTickBehavior::Delay);
        list.reset();
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let mut due: Option<Instant> = None;
        loop {
            tokio::select! {
                // cancel-safe: an event not yet taken stays in the stream.
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        self.note(&event);
                        due.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                    Some(Err(error)) => return Err(DockerError::Failed(error)),
                    None => return Err(DockerError::Away),
                },
                // cancel-safe: a timer.
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    self.refresh(client).await?;
                }
                // cancel-safe: a watch keeps its value.
                Ok(()) = self.wishes.changed() => self.refresh_all(client).await?,
                // cancel-safe: a timer.
                _ = list.tick() => self.refresh(client).await?,
                // cancel-safe: a timer.
                _ = ping.tick() => { within(DEADLINE, client.ping()).await?; }
            }
        }
    }

    fn note(&mut self, event: &EventMessage) {
        let id = event.actor.as_ref().and_then(|actor| actor.id.as_deref()).unwrap_or_default();
        debug!(action = event.action, id, "docker event");
        if let Some(known) = self.known.get_mut(id) {
            known.stale = true;
        } else {
            // Images and networks are read when an inventory is taken.
            self.view.send_if_modified(|view| {
                view.revision += 1;
                true
            });
        }
    }

    /// Reads the list, and inspects everything.
    async fn refresh_all(&mut self, client: &Docker) -> Result<(), DockerError> {
        let wish = *self.wishes.borrow_and_update();
        self.known.values_mut().for_each(|known| known.stale = true);
        self.refresh(client).await?;
        self.view.send_modify(|view| view.wish = wish);
        Ok(())
    }

    /// Reads the list, and inspects what is new or has changed.
    async fn refresh(&mut self, client: &Docker) -> Result<(), DockerError> {
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let listed = within(DEADLINE, client.list_containers(Some(options))).await?;
        let ids: HashSet<&str> = listed.iter().filter_map(|summary| summary.id.as_deref()).collect();
        self.known.retain(|id, _| ids.contains(id.as_str()));
        for summary in &listed {
            self.inspect(client, summary).await?;
        }
        let mut containers = Vec::with_capacity(listed.len());
        let mut pods: HashMap<_, (Option<Timestamp>, Pod)> = HashMap::new();
        for summary in &listed {
            let Some(id) = summary.id.as_deref() else { continue };
            let Some(known) = self.known.get(id) else { continue };
            let entry = entries::container(summary, &known.details);
            if let Some(pod_id) = entry.pod_id
                && known.details.pid != 0
            {
                let pod = Pod { pod_id, container_id: id.into(), pid: known.details.pid, disk: known.disk.clone() };
                let newest = pods.get(&pod_id).is_none_or(|(started_at, _)| *started_at < entry.started_at);
                if newest && let Some((_, other)) = pods.insert(pod_id, (entry.started_at, pod)) {
                    // A pod has one container; a second one is an orphan, which the inventory shows.
                    warn!(%pod_id, container_id = %other.container_id, "two containers run for one pod; the newer counts");
                }
            }
            containers.push(entry);
        }
        let mut pods: Vec<Pod> = pods.into_values().map(|(_, pod)| pod).collect();
        pods.sort_unstable_by_key(|pod| pod.pod_id);
        self.view.send_if_modified(|view| {
            let changed = *view.containers != containers;
            if changed {
                view.containers = Arc::new(containers);
                view.revision += 1;
            }
            view.pods = Arc::new(pods);
            changed
        });
        Ok(())
    }

    async fn inspect(&mut self, client: &Docker, summary: &ContainerSummary) -> Result<(), DockerError> {
        let Some(id) = summary.id.as_deref() else { return Ok(()) };
        let listed = entries::listed_state(summary);
        if self.known.get(id).is_some_and(|known| !known.stale && known.listed == listed) {
            return Ok(());
        }
        match within(DEADLINE, client.inspect_container(id, None::<InspectContainerOptions>)).await {
            Ok(inspected) => {
                let disk = self.known.get(id).map(|known| known.disk.clone()).unwrap_or_default();
                let details = Details::new(inspected);
                self.known.insert(id.to_owned(), Known { listed, details, disk, stale: false });
            }
            // It was removed since it was listed.
            Err(error) if error.is_not_found() => {
                self.known.remove(id);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

async fn connect(socket: &Path) -> Result<Docker, DockerError> {
    let path = socket.to_string_lossy();
    // Our own deadlines come first, and say more.
    let latest = 2 * DEADLINE.as_secs();
    let client = Docker::connect_with_unix(&path, latest, API_DEFAULT_VERSION).map_err(DockerError::Failed)?;
    within(DEADLINE, client.negotiate_version()).await
}

/// The stream asks Docker for events only once it is read, so it starts a little in the past: what happens while the list
/// is read is then told twice rather than not at all.
fn events(client: &Docker) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin + use<> {
    let since = Timestamp::now().as_millis() / 1000 - 2;
    let filters = HashMap::from([
        ("type".to_owned(), ["container", "image", "network"].map(str::to_owned).to_vec()),
        ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
    ]);
    let options = EventsOptions { since: Some(since.to_string()), until: None, filters: Some(filters) };
    Box::pin(client.events(Some(options)))
}
