//! What has no state of its own and only flows by: a pod's output, and what commands for it print. Each is read by a task of
//! the client that follows it, which hands over through a channel of few places: what the client does not take is not read.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pinacle_bus::{
    client::{AskError, Start},
    contract::{
        HostId, PodId, Timestamp,
        command::{LogPosition, Logs, Ping},
        exec::ExecRecord,
        subject::filter,
        topology::StreamName,
    },
};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::debug;

use super::{
    Live, feed,
    protocol::{Items, Topic},
};

/// Where frames go, each with its topic.
pub type Frames = mpsc::Sender<(Topic, Bytes)>;

/// A history that was read so long ago is joined without a gap.
const OVERLAP: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(1);
/// How long an agent is asked to follow a log at a time, since it does not see that nobody listens any more; and how much
/// longer its last answer may take.
const FOLLOW_SECONDS: u32 = 20;
const GRACE: Duration = Duration::from_secs(15);
/// Most lines that an agent gives at once: as many as may come while nobody asks.
pub const MOST_LINES: u32 = 10_000;

/// Sends what commands for a pod print, until nobody listens any more.
pub async fn exec(live: Arc<Live>, pod: PodId, frames: Frames) {
    let topic = Topic::Exec(pod);
    let from = Start::Time(Timestamp::now().minus(OVERLAP));
    let mut reader = live.bus.read(StreamName::Exec, from, Some(filter::exec_of(pod)));
    let mut reset = true;
    loop {
        match reader.next().await {
            Ok(stored) => match stored.decode::<ExecRecord>() {
                Ok(record) => {
                    if frames.send((topic, frame(topic, reset, &[record]))).await.is_err() {
                        return;
                    }
                    reset = false;
                }
                Err(error) => feed::skip("exec_record", &error),
            },
            Err(error) => {
                debug!(%error, "cannot read what commands print; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Sends what a pod prints, across its moves and its agent's restarts, until the pod is gone or nobody listens any more.
pub async fn logs(live: Arc<Live>, pod: PodId, tail: u32, since: Option<Timestamp>, frames: Frames) {
    let mut log = Log { live, pod, frames, position: LogPosition::default(), begun: false, tail, since };
    loop {
        let began = Instant::now();
        let Some(known) = log.live.fleet.pods.get(&pod) else {
            let mut gone = Items::state(Topic::Logs(pod), false);
            gone.remove(&pod.to_string());
            // Nobody listening is as good an end.
            let _ = log.frames.send((Topic::Logs(pod), gone.into_state())).await;
            return;
        };
        if let Some(host) = known.host_id() {
            match log.follow(host).await {
                Ok(()) => {}
                Err(Broken::Nobody) => return,
                Err(Broken::Agent(error)) => debug!(%error, "cannot follow a log; trying again"),
            }
        }
        // A container that has ended has no more to say, which is an answer at once.
        sleep_until(began + PAUSE).await;
    }
}

struct Log {
    live: Arc<Live>,
    pod: PodId,
    frames: Frames,
    position: LogPosition,
    begun: bool,
    /// What the client asked for, until the first answer.
    tail: u32,
    since: Option<Timestamp>,
}

enum Broken {
    /// Nobody listens any more.
    Nobody,
    /// The agent does not answer as it should.
    Agent(AskError),
}

impl Log {
    /// For as long as the agent follows at a time.
    async fn follow(&mut self, host: HostId) -> Result<(), Broken> {
        if self.tail == 0 && self.since.is_none() {
            // From now on, by the host's own clock.
            self.since = Some(self.live.bus.ask(host, &Ping {}, GRACE).await.map_err(Broken::Agent)?.at);
        }
        let since = self.position.resume().or(self.since);
        let tail = if self.begun || self.tail == 0 { MOST_LINES } else { self.tail };
        let command = Logs { pod_id: self.pod, tail, since, follow_seconds: FOLLOW_SECONDS };
        let deadline = Duration::from_secs(FOLLOW_SECONDS.into()) + GRACE;
        let mut replies = self.live.bus.ask_for_many(host, &command).await.map_err(Broken::Agent)?;
        loop {
            let chunk = replies.next(deadline).await.map_err(Broken::Agent)?;
            let end = chunk.end;
            let mut lines = chunk.lines;
            lines.retain(|line| self.position.take(line));
            if !lines.is_empty() {
                let topic = Topic::Logs(self.pod);
                let sent = timeout(deadline, self.frames.send((topic, frame(topic, !self.begun, &lines)))).await;
                // A client that takes nothing for so long is given up by its session.
                if !matches!(sent, Ok(Ok(()))) {
                    return Err(Broken::Nobody);
                }
            }
            self.begun |= end || !lines.is_empty();
            if end {
                return Ok(());
            }
        }
    }
}

fn frame<T: Serialize>(topic: Topic, reset: bool, values: &[T]) -> Bytes {
    let mut items = Items::state(topic, reset);
    // Our own messages always have a JSON form.
    values.iter().filter_map(|value| serde_json::to_vec(value).ok()).for_each(|json| items.add(&json));
    items.into_state()
}
