//! What is said over a WebSocket: JSON texts, one object a message, its kind in `op`.
//!
//! State comes as items that replace what was known of them; `reset` says that everything known before is void.

use std::{fmt, str::FromStr};

use bytes::{BufMut, Bytes, BytesMut};
use pinacle_bus::contract::{HostId, OperationId, PodId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::problem::Problem;

/// What can be followed.
const TOPICS: &str = "hosts, pods, operations, events, host:<id>, pod:<id>, op:<id>, exec:<pod id> or logs:<pod id>";

/// A frame is sent once it has so many bytes, even if there is more to say.
pub const FULL_FRAME_BYTES: usize = 64 * 1024;

/// What a WebSocket can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// All hosts that the client may see, briefly.
    Hosts,
    /// All pods that the client may see.
    Pods,
    /// One host in full.
    Host(HostId),
    /// One pod.
    Pod(PodId),
    /// Recent operations on what the client may see, briefly.
    Operations,
    /// One operation with its steps.
    Operation(OperationId),
    /// Everything that happens to what the client may see.
    Events,
    /// What commands for one pod print, as they run. It joins a history that was read within the last seconds.
    Exec(PodId),
    /// What one pod prints.
    Logs(PodId),
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts => f.write_str("hosts"),
            Self::Pods => f.write_str("pods"),
            Self::Host(host) => write!(f, "host:{host}"),
            Self::Pod(pod) => write!(f, "pod:{pod}"),
            Self::Operations => f.write_str("operations"),
            Self::Operation(operation) => write!(f, "op:{operation}"),
            Self::Events => f.write_str("events"),
            Self::Exec(pod) => write!(f, "exec:{pod}"),
            Self::Logs(pod) => write!(f, "logs:{pod}"),
        }
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "hosts" => Ok(Self::Hosts),
            None if text == "pods" => Ok(Self::Pods),
            None if text == "operations" => Ok(Self::Operations),
            None if text == "events" => Ok(Self::Events),
            Some(("host", id)) => id.parse().map(Self::Host).map_err(|error| error.to_string()),
            Some(("op", id)) => id.parse().map(Self::Operation).map_err(|error| error.to_string()),
            Some(("pod", id)) => id.parse().map(Self::Pod).map_err(|error| error.to_string()),
            Some(("exec", id)) => id.parse().map(Self::Exec).map_err(|error| error.to_string()),
            Some(("logs", id)) => id.parse().map(Self::Logs).map_err(|error| error.to_string()),
            _ => Err(format!("expected {TOPICS}")),
        }
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Follow a topic. Answered with `subscribed`, then with all there is.
    Subscribe {
        /// `hosts`, `pods`, `operations`, `events`, `host:<id>`, `pod:<id>`, `op:<id>`, `exec:<pod id>` or
        /// `logs:<pod id>`.
        #[schema(value_type = String, example = "events")]
        topic: Topic,
        /// With `events`: the last `position` that the client has; it goes on right behind it. Without: from now on.
        after: Option<String>,
        /// With `logs`: so many lines from the end first, at most 10000. Without: none.
        tail: Option<u32>,
        /// With `logs`: only lines of this time or later, by the host's clock.
        #[schema(value_type = Option<String>, format = DateTime)]
        since: Option<Timestamp>,
    },
    /// Follow a topic no more. Answered with `unsubscribed`.
    Unsubscribe {
        /// As in `subscribe`.
        #[schema(value_type = String, example = "events")]
        topic: Topic,
    },
    /// Are you there? Answered with `pong`.
    Ping {},
}

/// What the gateway says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    /// A topic is followed from now on.
    Subscribed {
        /// The topic.
        #[schema(value_type = String)]
        topic: Topic,
        /// With `events`: the position that events come behind.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// A topic is followed no more.
    Unsubscribed {
        /// The topic.
        #[schema(value_type = String)]
        topic: Topic,
    },
    /// New state of things, each as it is now. Written by hand in [`Items`], because the items are JSON already.
    #[serde(skip_serializing)]
    State {
        /// Any topic but `events`.
        topic: &'a str,
        /// Whether all that was known in this topic is void.
        reset: bool,
        /// Hosts, pods or operations, whole, each at most once; commands as far as they are; lines, each once and in order.
        items: Vec<serde_json::Value>,
        /// Ids of what is gone.
        removed: Vec<String>,
    },
    /// Events in order, each once.
    #[serde(skip_serializing)]
    Events {
        /// `events`.
        topic: &'a str,
        /// The events; go on behind the last one's `position` after a reconnect.
        items: Vec<LiveEventSchema>,
    },
    /// What followed is gone from the bus: events go on behind `after`. The history has them.
    Reset {
        /// `events`.
        #[schema(value_type = String)]
        topic: Topic,
        /// The position before the oldest event that is still there.
        after: String,
    },
    /// The client's message cannot be done; everything else goes on.
    Error {
        /// As in a problem.
        code: &'a str,
        /// What is wrong.
        detail: &'a str,
    },
    /// Yes.
    Pong,
}

/// An event in the topic `events`.
#[derive(Debug, ToSchema)]
#[schema(as = LiveEvent)]
#[expect(dead_code, reason = "only its shape counts; events are written once, as they come")]
pub struct LiveEventSchema {
    /// Its place among the events, to be given back as `after`.
    position: String,
    /// When the bus took it in.
    #[schema(format = DateTime)]
    published_at: String,
    /// This event.
    event_id: String,
    /// When it happened.
    #[schema(format = DateTime)]
    at: String,
    /// The kind of thing it happened to: `host`, `pod`, `op` or `dead`.
    kind: String,
    /// The thing's id.
    target_id: String,
    /// What happened, one word.
    what: String,
    /// The same for people, one line.
    message: String,
    /// What programs need to know; its shape goes with `kind` and `what`.
    detail: serde_json::Value,
}

impl ServerMessage<'_> {
    /// As it is sent.
    pub fn text(&self) -> Bytes {
        serde_json::to_vec(self).map_or_else(|_| Bytes::from_static(b"{\"op\":\"error\"}"), Bytes::from)
    }

    /// An error in a client's message.
    pub fn error(problem: &Problem) -> Bytes {
        ServerMessage::Error { code: problem.code().as_str(), detail: problem.detail() }.text()
    }
}

/// Builds a frame out of items that are JSON already, shared by all clients.
pub struct Items {
    text: BytesMut,
    items: usize,
    removed: String,
}

impl Items {
    /// A frame of state.
    pub fn state(topic: Topic, reset: bool) -> Self {
        Self::begin(&format!("{{\"op\":\"state\",\"topic\":\"{topic}\",\"reset\":{reset},\"items\":["))
    }

    /// A frame of events.
    pub fn events() -> Self {
        Self::begin("{\"op\":\"events\",\"topic\":\"events\",\"items\":[")
    }

    fn begin(head: &str) -> Self {
        let mut text = BytesMut::with_capacity(1024);
        text.put_slice(head.as_bytes());
        Self { text, items: 0, removed: String::new() }
    }

    /// Adds an item.
    pub fn add(&mut self, json: &[u8]) {
        if self.items > 0 {
            self.text.put_u8(b',');
        }
        self.items += 1;
        self.text.put_slice(json);
    }

    /// Adds something that is gone.
    pub fn remove(&mut self, id: &str) {
        let comma = if self.removed.is_empty() { "" } else { "," };
        self.removed.push_str(&format!("{comma}\"{id}\""));
    }

    /// Whether it is large enough to go out.
    pub fn is_full(&self) -> bool {
        self.text.len() + self.removed.len() >= FULL_FRAME_BYTES
    }

    /// The frame of state.
    pub fn into_state(mut self) -> Bytes {
        self.text.put_slice(b"],\"removed\":[");
        self.text.put_slice(self.removed.as_bytes());
        self.text.put_slice(b"]}");
        self.text.freeze()
    }

    /// The frame of events.
    pub fn into_events(mut self) -> Bytes {
        self.text.put_slice(b"]}");
        self.text.freeze()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn topics_survive_text_and_others_are_refused() {
        let (host, pod) = (HostId::new(), PodId::new());
        let whole = [Topic::Hosts, Topic::Pods, Topic::Operations, Topic::Events];
        let single = [Topic::Host(host), Topic::Pod(pod), Topic::Operation(OperationId::new())];
        for topic in whole.into_iter().chain(single).chain([Topic::Exec(pod), Topic::Logs(pod)]) {
            assert_eq!(topic.to_string().parse(), Ok(topic));
        }
        for text in ["", "host", "host:", "host:pod_1", "hosts:1", "everything", "pod:\"},{"] {
            assert!(text.parse::<Topic>().is_err(), "{text}");
        }
    }

    #[test]
    fn frames_of_items_are_json() {
        let mut items = Items::state(Topic::Hosts, true);
        items.add(br#"{"a":1}"#);
        items.add(br#"{"a":2}"#);
        items.remove("host_1");
        items.remove("host_2");
        let frame: Value = serde_json::from_slice(&items.into_state()).unwrap();
        let expected = json!({ "op": "state", "topic": "hosts", "reset": true, "items": [{ "a": 1 }, { "a": 2 }],
                               "removed": ["host_1", "host_2"] });
        assert_eq!(frame, expected);
        let frame: Value = serde_json::from_slice(&Items::events().into_events()).unwrap();
        assert_eq!(frame, json!({ "op": "events", "topic": "events", "items": [] }));
    }

    #[test]
    fn what_a_client_says_is_read_strictly() {
        let read = |text: &str| serde_json::from_str::<ClientMessage>(text);
        assert_eq!(
            read(r#"{"op":"subscribe","topic":"events","after":"7"}"#).unwrap(),
            ClientMessage::Subscribe { topic: Topic::Events, after: Some("7".into()), tail: None, since: None }
        );
        assert_eq!(read(r#"{"op":"ping"}"#).unwrap(), ClientMessage::Ping {});
        for text in ["", "{}", "[]", r#"{"op":"subscribe"}"#, r#"{"op":"shout"}"#, r#"{"op":"ping","x":1}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
