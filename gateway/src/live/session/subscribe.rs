//! What a client asks to follow: whether it may, and how it begins.

use pinacle_bus::contract::Timestamp;
use tokio::{task::JoinSet, time::Instant};

use super::{End, Seen, Session};
use crate::{
    audit,
    identity::Identity,
    live::{
        Live, flow,
        protocol::{ServerMessage, Topic},
    },
    problem::{Code, Problem},
};

/// What a client asks for, as it came.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub topic: Topic,
    pub after: Option<u64>,
    pub tail: Option<u32>,
    pub since: Option<Timestamp>,
}

impl Session {
    /// Whether this client may follow a topic like that.
    fn check(&self, Wanted { topic, after, tail, since }: Wanted) -> Result<(), Problem> {
        if after.is_some() && topic != Topic::Events {
            return Err(Problem::field(Code::InvalidParameter, "after", "goes with the topic events only"));
        }
        let is_log = matches!(topic, Topic::Logs(_));
        for (field, given) in [("tail", tail.is_some()), ("since", since.is_some())] {
            if given && !is_log {
                return Err(Problem::field(Code::InvalidParameter, field, "goes with the topic logs:<pod id> only"));
            }
        }
        if tail.is_some_and(|tail| tail > flow::MOST_LINES) {
            let most = flow::MOST_LINES;
            return Err(Problem::field(Code::InvalidParameter, "tail", format!("must be from 0 to {most}")));
        }
        if let Topic::Logs(pod) | Topic::Exec(pod) = topic
            && !self.live.fleet.pods.get(&pod).is_some_and(|pod| self.identity.may_see(&*pod))
        {
            return Err(Problem::new(Code::PodNotFound, Code::PodNotFound.explanation()));
        }
        let count = self.topics.len() + self.flows.len() + usize::from(self.events.is_some());
        let followed = self.topics.contains_key(&topic)
            || self.flows.contains_key(&topic)
            || (topic == Topic::Events && self.events.is_some());
        let most = self.live.settings.live_max_subscriptions;
        if !followed && count >= most {
            return Err(Problem::new(Code::Overloaded, format!("a WebSocket may follow at most {most} topics")));
        }
        Ok(())
    }

    /// Follows a topic from now on, or says why not.
    pub(super) async fn subscribe(&mut self, wanted: Wanted) -> Result<(), End> {
        if let Err(problem) = self.check(wanted) {
            return self.complain(&problem).await;
        }
        let Wanted { topic, after, tail, since } = wanted;
        tell_audit(&self.live, &self.identity, topic).await;
        match topic {
            Topic::Events => {
                // A number that no stream reaches stands for itself: the stream's bounds answer it.
                let next = after.map_or_else(|| self.live.events.next(), |after| after.saturating_add(1));
                self.events = Some(next);
                self.catching_up = None;
                self.events_wait = true;
                let after = Some(self.position(next.saturating_sub(1)));
                return self.send_json(ServerMessage::Subscribed { topic, after }.text()).await;
            }
            Topic::Logs(_) | Topic::Exec(_) => return self.flow(topic, tail.unwrap_or(0), since).await,
            _ => {}
        }
        // Whoever asks again gets all of it again.
        self.topics.insert(topic, Seen::Nothing);
        self.dirty = true;
        self.next_push = Instant::now();
        self.send_json(ServerMessage::Subscribed { topic, after: None }.text()).await
    }

    async fn flow(&mut self, topic: Topic, tail: u32, since: Option<Timestamp>) -> Result<(), End> {
        // Whoever asks again begins anew.
        self.flows.remove(&topic);
        let Some(place) = self.live.flow_place() else {
            let detail = "as many logs and commands are followed as may be; try again";
            return self.complain(&Problem::new(Code::Overloaded, detail)).await;
        };
        self.send_json(ServerMessage::Subscribed { topic, after: None }.text()).await?;
        let (live, frames) = (self.live.clone(), self.frames.0.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _place = place;
            match topic {
                Topic::Exec(pod) => flow::exec(live, pod, frames).await,
                Topic::Logs(pod) => flow::logs(live, pod, tail, since, frames).await,
                _ => {}
            }
        });
        self.flows.insert(topic, task);
        Ok(())
    }
}

/// An admin who follows what is somebody else's leaves an entry in the audit log.
async fn tell_audit(live: &Live, identity: &Identity, topic: Topic) {
    let (action, kind, id) = match topic {
        Topic::Pod(pod) | Topic::Logs(pod) | Topic::Exec(pod) => ("pod_follow", "pod", pod.to_string()),
        Topic::Host(host) => ("host_follow", "host", host.to_string()),
        _ => return,
    };
    if let Some(owner) = live.fleet.owner_of(&id) {
        audit::looked(live, identity, action, (kind, &id), &owner).await;
    }
}
