//! One WebSocket. It keeps, for each topic, nothing but the version that its client has seen; what changed since is taken
//! from the shared state when the client can take it. So a slow client costs no memory, and sees the newest state.

mod frame;
mod subscribe;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use pinacle_bus::contract::{HostId, OperationId, PodId, pod::PodPhase, subject::EventKind};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tracing::debug;

use frame::{Seen, all, one};
use subscribe::Wanted;

use super::{
    Live, Place,
    catch_up::{self, Step},
    events::{LiveEvent, Taken},
    flow::Frames,
    protocol::{ClientMessage, Items, ServerMessage, Topic},
};
use crate::{
    identity::{Identity, Keys},
    problem::{Code, Problem},
};

/// Events taken from the log at once.
const FRAME_EVENTS: usize = 256;
/// Messages a second from one client; a person's page sends a few a minute.
const MOST_MESSAGES: u32 = 100;
/// How long the other side may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a WebSocket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client left, or its connection broke.
    Gone,
    /// The gateway stops: the client should come back, to another copy or to this one's successor.
    Shutdown,
    /// The client took nothing for too long.
    TooSlow,
    /// Nothing came from the client for too long.
    Silent,
    /// The client said too much.
    TooLoud,
    /// Their session or token has ended, or they may come in no more.
    SignedOut,
    /// What they may see is not what it was: the client should come back.
    Changed,
}

struct Session {
    socket: WebSocket,
    live: Arc<Live>,
    identity: Identity,
    topics: BTreeMap<Topic, Seen>,
    /// The next event's sequence, while events are followed.
    events: Option<u64>,
    catching_up: Option<CatchingUp>,
    /// The tasks that read what only flows by, each with its place among all. Dropping one ends it.
    flows: BTreeMap<Topic, JoinSet<()>>,
    frames: (Frames, mpsc::Receiver<(Topic, Bytes)>),
    dirty: bool,
    events_wait: bool,
    next_push: Instant,
    heard: Instant,
    budget: (Instant, u32),
    /// The task that looks again and again who this is; it ends when they are not who they were.
    watch: JoinSet<End>,
}

/// The task that reads the stream for this client. Dropping it ends the task.
struct CatchingUp {
    steps: mpsc::Receiver<Step>,
    _task: JoinSet<()>,
}

/// Serves a WebSocket until it ends.
pub async fn run(socket: WebSocket, live: Arc<Live>, keys: Arc<Keys>, identity: Identity, _place: Place) {
    let now = Instant::now();
    let mut watch = JoinSet::new();
    watch.spawn(until_another(keys, identity.clone(), Duration::from_millis(live.settings.live_recheck_ms)));
    let mut session = Session {
        socket,
        live,
        identity,
        topics: BTreeMap::new(),
        events: None,
        catching_up: None,
        flows: BTreeMap::new(),
        frames: mpsc::channel(2),
        dirty: false,
        events_wait: false,
        next_push: now,
        heard: now,
        budget: (now, 0),
        watch,
    };
    let end = match session.serve().await {
        Err(end) => end,
        Ok(never) => match never {},
    };
    let reason = match end {
        End::Gone => "gone",
        End::Shutdown => "shutdown",
        End::TooSlow => "too_slow",
        End::Silent => "silent",
        End::TooLoud => "too_loud",
        End::SignedOut => "signed_out",
        End::Changed => "changed",
    };
    metrics::counter!("pinacle_gateway_live_closed_total", "reason" => reason).increment(1);
    debug!(identity = session.identity.name(), reason, "a WebSocket ended");
    match end {
        End::Shutdown => session.close(close_code::AWAY, "the gateway stops; connect again").await,
        End::TooLoud => session.close(close_code::POLICY, "too many messages a second").await,
        End::SignedOut => session.close(close_code::POLICY, "signed out").await,
        End::Changed => session.close(close_code::AWAY, "what you may see has changed; connect again").await,
        // Whoever takes or says nothing would not hear it.
        End::Gone | End::TooSlow | End::Silent => {}
    }
}

impl Session {
    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let shutdown = self.live.shutdown.clone();
        let mut hosts = self.live.fleet.hosts.newest();
        let mut pods = self.live.fleet.pods.newest();
        let mut operations = self.live.operations.board.newest();
        let mut events = self.live.events.follow();
        let mut ping = self.ping_timer();
        loop {
            tokio::select! {
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Err(End::Shutdown),
                // cancel-safe: the socket keeps a frame that is half read.
                message = self.socket.recv() => self.hear(message).await?,
                // cancel-safe: a task that has ended stays in the set until it is taken.
                Some(end) = self.watch.join_next() => return Err(end.unwrap_or(End::Changed)),
                // cancel-safe: a timer.
                _ = ping.tick() => self.ping().await?,
                // cancel-safe: a watch keeps its value. A sender that is gone cannot be: the fleet is ours.
                _ = hosts.changed(), if self.follows(|topic| matches!(topic, Topic::Hosts | Topic::Host(_))) => {
                    self.dirty = true;
                }
                // cancel-safe: as above.
                _ = pods.changed(), if self.follows(|topic| matches!(topic, Topic::Pods | Topic::Pod(_))) => {
                    self.dirty = true;
                }
                // cancel-safe: as above.
                _ = operations.changed(), if self.follows(|topic| matches!(topic, Topic::Operations | Topic::Operation(_))) => {
                    self.dirty = true;
                }
                // cancel-safe: as above.
                _ = events.changed(), if self.events.is_some() => self.events_wait = true,
                // cancel-safe: a channel keeps what was not received.
                step = next_step(&mut self.catching_up) => self.step(step).await?,
                // cancel-safe: a channel keeps what was not received.
                Some((topic, frame)) = self.frames.1.recv() => {
                    // What was under way when the client had enough is dropped.
                    if !self.may_go_on(topic) {
                        self.flows.remove(&topic);
                    } else if self.flows.contains_key(&topic) {
                        self.send_json(frame).await?;
                    }
                }
                // cancel-safe: a timer.
                () = sleep_until(self.next_push), if self.dirty => self.push_state().await?,
                // cancel-safe: nothing is awaited.
                () = std::future::ready(()), if self.events_wait && self.catching_up.is_none() => {
                    self.push_events().await?;
                }
            }
        }
    }

    fn ping_timer(&self) -> Interval {
        let mut timer = interval(Duration::from_millis(self.live.settings.live_ping_ms));
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer
    }

    fn follows(&self, wanted: impl Fn(&Topic) -> bool) -> bool {
        self.topics.keys().any(wanted)
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > Duration::from_millis(self.live.settings.live_ping_ms) * 2 {
            return Err(End::Silent);
        }
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let Some(Ok(message)) = message else { return Err(End::Gone) };
        self.heard = Instant::now();
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) => return self.count(),
            Message::Binary(_) => {
                self.count()?;
                return self.complain(&Problem::new(Code::InvalidBody, "messages must be texts, not binary")).await;
            }
        };
        self.count()?;
        let most = self.live.settings.live_message_bytes;
        if text.len() > most {
            let problem = Problem::new(Code::BodyTooLarge, format!("a message may have at most {most} bytes"));
            return self.complain(&problem).await;
        }
        match serde_json::from_str(text.as_str()) {
            Ok(ClientMessage::Ping {}) => self.send_json(ServerMessage::Pong.text()).await,
            Ok(ClientMessage::Subscribe { topic, after, tail, since }) => {
                let after = after.map(|after| self.live.positions.read(&self.identity, "after", &after)).transpose();
                match after {
                    Ok(after) => self.subscribe(Wanted { topic, after, tail, since }).await,
                    Err(problem) => self.complain(&problem).await,
                }
            }
            Ok(ClientMessage::Unsubscribe { topic }) => {
                self.topics.remove(&topic);
                self.flows.remove(&topic);
                if topic == Topic::Events {
                    self.events = None;
                    self.catching_up = None;
                }
                self.send_json(ServerMessage::Unsubscribed { topic }.text()).await
            }
            Err(error) => {
                // serde's words name our own fields and quote the client's text.
                self.complain(&Problem::new(Code::InvalidBody, error.to_string())).await
            }
        }
    }

    fn count(&mut self) -> Result<(), End> {
        let (since, count) = &mut self.budget;
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count > MOST_MESSAGES { Err(End::TooLoud) } else { Ok(()) }
    }

    /// At most one frame a topic; what is left goes next, after the socket had its turn.
    async fn push_state(&mut self) -> Result<(), End> {
        self.dirty = false;
        let mut more = false;
        let topics: Vec<(Topic, Seen)> = self.topics.iter().map(|(topic, seen)| (*topic, *seen)).collect();
        for (topic, seen) in topics {
            let Some((frame, now, left)) = self.news(topic, seen) else { continue };
            more |= left;
            self.topics.insert(topic, now);
            if let Some(frame) = frame {
                self.send_json(frame).await?;
            }
        }
        self.dirty |= more;
        let pause = if more { 0 } else { self.live.settings.live_push_interval_ms };
        self.next_push = Instant::now() + Duration::from_millis(pause);
        Ok(())
    }

    /// What is new in a topic of state.
    fn news(&self, topic: Topic, seen: Seen) -> Option<(Option<Bytes>, Seen, bool)> {
        let identity = &self.identity;
        Some(match topic {
            Topic::Hosts => all((topic, seen), identity, &self.live.fleet.hosts, |host| Some(host.brief())),
            Topic::Pods => all((topic, seen), identity, &self.live.fleet.pods, |pod| {
                (pod.phase() != Some(PodPhase::Deleted)).then(|| pod.json())
            }),
            Topic::Operations => {
                all((topic, seen), identity, &self.live.operations.board, |operation| Some(operation.brief()))
            }
            Topic::Host(host) => self.one_host(topic, seen, host),
            Topic::Pod(pod) => self.one_pod(topic, seen, pod),
            Topic::Operation(operation) => self.one_operation(topic, seen, operation),
            Topic::Events | Topic::Exec(_) | Topic::Logs(_) => return None,
        })
    }

    fn one_operation(&self, topic: Topic, seen: Seen, operation: OperationId) -> (Option<Bytes>, Seen, bool) {
        let newest = self.live.operations.board.newest_of(&operation);
        let newest = newest.filter(|(_, operation)| self.identity.may_see(&**operation));
        one(topic, seen, newest.map(|(version, operation)| (version, operation.full())), &operation.to_string())
    }

    fn one_host(&self, topic: Topic, seen: Seen, host: HostId) -> (Option<Bytes>, Seen, bool) {
        let newest = self.live.fleet.hosts.newest_of(&host).filter(|(_, host)| self.identity.may_see(&**host));
        one(topic, seen, newest.map(|(version, host)| (version, host.detail())), &host.to_string())
    }

    fn one_pod(&self, topic: Topic, seen: Seen, pod: PodId) -> (Option<Bytes>, Seen, bool) {
        let newest = self.live.fleet.pods.newest_of(&pod).filter(|(_, pod)| self.identity.may_see(&**pod));
        one(topic, seen, newest.map(|(version, pod)| (version, pod.json())), &pod.to_string())
    }

    async fn push_events(&mut self) -> Result<(), End> {
        self.events_wait = false;
        let Some(from) = self.events else { return Ok(()) };
        match self.live.events.take(from, FRAME_EVENTS) {
            Taken::Events(events, next) => {
                self.events = Some(next);
                // There may be more than one batch; if not, the next look finds nothing.
                self.events_wait = next > from;
                self.send_events(events).await
            }
            Taken::Elsewhere => {
                let (sender, steps) = mpsc::channel(2);
                let mut task = JoinSet::new();
                task.spawn(catch_up::run(self.live.clone(), from, sender));
                self.catching_up = Some(CatchingUp { steps, _task: task });
                Ok(())
            }
        }
    }

    async fn step(&mut self, step: Option<Step>) -> Result<(), End> {
        match step {
            Some(Step::Events(events, next)) => {
                self.events = Some(next);
                self.send_events(events).await
            }
            Some(Step::Reset(first)) => {
                self.events = Some(first);
                let after = self.position(first.saturating_sub(1));
                self.send_json(ServerMessage::Reset { topic: Topic::Events, after }.text()).await
            }
            None => {
                // It is there, or as far as it could get: the log says which.
                self.catching_up = None;
                self.events_wait = true;
                Ok(())
            }
        }
    }

    async fn send_events(&mut self, events: Vec<LiveEvent>) -> Result<(), End> {
        let mut events =
            events.into_iter().filter(|event| self.may_see_event(event)).collect::<Vec<_>>().into_iter().peekable();
        while events.peek().is_some() {
            let mut items = Items::events();
            while !items.is_full()
                && let Some(event) = events.next()
            {
                items.add(&event.item(&self.position(event.sequence)));
            }
            self.send_json(items.into_events()).await?;
        }
        Ok(())
    }

    /// As this client knows the place of an event.
    fn position(&self, sequence: u64) -> String {
        self.live.positions.write(&self.identity, sequence)
    }

    /// Whether what happened is this client's to know.
    fn may_see_event(&self, event: &LiveEvent) -> bool {
        let (live, identity) = (&self.live, &self.identity);
        if identity.is_admin() {
            return true;
        }
        match event.kind {
            EventKind::Pod => {
                let pod = event.target_id.parse().ok().and_then(|pod| live.fleet.pods.get(&pod));
                pod.is_some_and(|pod| identity.may_see(&*pod))
            }
            EventKind::Op => {
                let operation = event.target_id.parse().ok().and_then(|id| live.operations.board.get(&id));
                operation.is_some_and(|operation| identity.may_see(&*operation))
            }
            EventKind::Host => {
                let host = event.target_id.parse().ok().and_then(|host| live.fleet.hosts.get(&host));
                host.is_some_and(|host| identity.may_see(&*host))
            }
            EventKind::Dead | EventKind::Audit => false,
        }
    }

    /// Whether a flow's pod is still this client's to see: it may have been given to somebody else.
    fn may_go_on(&self, topic: Topic) -> bool {
        let (Topic::Exec(pod) | Topic::Logs(pod)) = topic else { return true };
        self.live.fleet.pods.get(&pod).is_none_or(|pod| self.identity.may_see(&*pod))
    }

    async fn complain(&mut self, problem: &Problem) -> Result<(), End> {
        self.send_json(ServerMessage::error(problem)).await
    }

    async fn send_json(&mut self, json: Bytes) -> Result<(), End> {
        // Our own JSON is UTF-8; the check costs little beside the socket.
        let text = Utf8Bytes::try_from(json).map_err(|_| End::Gone)?;
        self.send(Message::Text(text)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        let most = Duration::from_millis(self.live.settings.live_write_timeout_ms);
        let stop = async {
            self.live.shutdown.cancelled().await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            // cancel-safe: the WebSocket ends with it.
            sent = timeout(most, self.socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(End::Gone),
                Err(_) => Err(End::TooSlow),
            },
            // cancel-safe: only observed. A stop does not wait for who takes nothing.
            () = stop => Err(End::Gone),
        }
    }

    async fn close(mut self, code: u16, reason: &'static str) {
        let farewell = async {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                // Until the other side has answered, so that it reads ours before the connection goes.
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        // Past that the connection just goes.
        let _ = timeout(FAREWELL, farewell).await;
    }
}

/// Waits until somebody is not who they were. While that cannot be told they are.
async fn until_another(keys: Arc<Keys>, identity: Identity, every: Duration) -> End {
    loop {
        sleep(every).await;
        match keys.again(&identity).await {
            Ok(None) => return End::SignedOut,
            Ok(Some(now)) if now != identity => return End::Changed,
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

async fn next_step(catching_up: &mut Option<CatchingUp>) -> Option<Step> {
    match catching_up {
        Some(catching_up) => catching_up.steps.recv().await,
        None => std::future::pending().await,
    }
}
