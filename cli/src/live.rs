//! The gateway's WebSocket: topics followed across reconnects, events without a gap.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt, StreamExt};
use pinacle_bus::contract::command::{LogLine, LogPosition};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use crate::{
    api::{Api, tls::is_distrust},
    failure::Failure,
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// The gateway pings more often than this; silence means that the connection is dead.
const SILENCE: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// As many lines as the gateway gives at once: of those that came while there was no connection.
const MOST_LINES: u32 = 10_000;

/// What the gateway says, as far as it concerns us.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Said {
    /// State of things; each item replaces what was known of it.
    State {
        topic: String,
        reset: bool,
        items: Vec<Value>,
        #[serde(default)]
        removed: Vec<String>,
    },
    /// Things that happened, in order.
    Events {
        items: Vec<Value>,
    },
    /// Older events are gone from the bus.
    Reset {},
    /// We said something wrong.
    Error {
        code: String,
        detail: String,
    },
    /// Answers.
    Subscribed {},
    Unsubscribed {},
    Pong {},
}

/// A connection that comes back.
pub(crate) struct Live {
    api: Api,
    topics: Vec<String>,
    after: Option<String>,
    /// How far a followed log was read, and how many lines from its end come first.
    log: (LogPosition, u32),
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    pause: Duration,
    /// Whether to ask again would bring the same answer.
    refused: bool,
}

impl Live {
    /// Connects and subscribes.
    pub async fn open(api: Api, topics: Vec<String>) -> Result<Self, Failure> {
        Self::begin(api, topics, 0).await
    }

    /// The same for a pod's output, with so many lines of what it printed before.
    pub async fn log(api: Api, pod_id: &str, tail: u32) -> Result<Self, Failure> {
        Self::begin(api, vec![format!("logs:{pod_id}")], tail).await
    }

    async fn begin(api: Api, topics: Vec<String>, tail: u32) -> Result<Self, Failure> {
        let log = (LogPosition::default(), tail);
        let mut live = Self { api, topics, after: None, log, socket: None, pause: SHORTEST_PAUSE, refused: false };
        live.connect().await?;
        Ok(live)
    }

    /// The next thing said. `lost` is told why, when the connection was lost and is being made again. Not cancel-safe
    /// while it connects, which only begins anew.
    ///
    /// # Errors
    /// When the gateway refuses for good, for example the token.
    pub async fn next(&mut self, mut lost: impl FnMut(&str)) -> Result<Said, Failure> {
        loop {
            if self.socket.is_none() {
                sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                match self.connect().await {
                    Ok(()) => {}
                    Err(failure) if self.refused => return Err(failure),
                    Err(failure) => {
                        lost(&failure.line());
                        continue;
                    }
                }
            }
            let Some(socket) = self.socket.as_mut() else { continue };
            match timeout(SILENCE, socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    self.pause = SHORTEST_PAUSE;
                    let mut said: Said =
                        serde_json::from_str(&text).context("the gateway says what this release does not know")?;
                    self.remember(&mut said);
                    return Ok(said);
                }
                Ok(Some(Ok(Message::Close(frame)))) => {
                    let reason = frame.map(|frame| frame.reason.to_string()).filter(|reason| !reason.is_empty());
                    lost(reason.as_deref().unwrap_or("the gateway closed the connection"));
                    self.socket = None;
                }
                // The library answers pings by itself.
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => {
                    lost(&error.to_string());
                    self.socket = None;
                }
                Ok(None) => {
                    lost("the connection ended");
                    self.socket = None;
                }
                Err(_) => {
                    lost("the gateway says nothing any more");
                    self.socket = None;
                }
            }
        }
    }

    /// Where to go on after a reconnect. What then comes a second time is taken out.
    fn remember(&mut self, said: &mut Said) {
        match said {
            Said::Events { items } => {
                let newest = items.last().and_then(|event| Some(event.get("position")?.as_str()?.to_owned()));
                self.after = newest.or(self.after.take());
            }
            Said::State { topic, items, .. } if topic.starts_with("logs:") => {
                items.retain(|item| LogLine::deserialize(item).map_or(true, |line| self.log.0.take(&line)));
            }
            _ => {}
        }
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let base = self.api.base();
        // `ws` for `http`, `wss` for `https`.
        let url = format!("ws{}/api/v1/live", base.trim_start_matches("http"));
        let mut request =
            url.into_client_request().map_err(|_| Failure::input(format!("--gateway: {base:?} is no address")))?;
        request.headers_mut().extend(self.api.shown().clone());
        let connector = self.api.tls().map(Connector::Rustls);
        let connected = timeout(CONNECT_DEADLINE, connect_async_tls_with_config(request, None, false, connector)).await;
        let (mut socket, _) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(tungstenite::Error::Http(response))) if response.status() == 401 => {
                self.refused = true;
                return Err(Failure::failed(
                    "the gateway refuses the token: pinacle login makes a new one, or name another with --token-file",
                ));
            }
            Ok(Err(tungstenite::Error::Http(response))) => {
                return Err(Failure::failed(format!("the gateway at {base} answers {}", response.status())));
            }
            Ok(Err(error)) if is_distrust(&error) => {
                return Err(Failure::failed(format!(
                    "the certificate of the gateway at {base} is not to be trusted: name its authority with --gateway-ca"
                )));
            }
            Ok(Err(_)) | Err(_) => {
                return Err(Failure::failed(format!(
                    "the gateway at {base} cannot be reached: start everything with make up, or name another with --gateway"
                )));
            }
        };
        for topic in &self.topics {
            let mut message = json!({ "op": "subscribe", "topic": topic });
            if let (Some(after), "events", Some(object)) = (&self.after, topic.as_str(), message.as_object_mut()) {
                object.insert("after".into(), after.as_str().into());
            }
            if let (true, Some(object)) = (topic.starts_with("logs:"), message.as_object_mut()) {
                let since = self.log.0.resume();
                object.insert("tail".into(), since.map_or(self.log.1, |_| MOST_LINES).into());
                object.extend(since.map(|since| ("since".to_owned(), json!(since))));
            }
            let sent = socket.send(Message::text(message.to_string())).await;
            sent.map_err(|error| Failure::failed(format!("the gateway at {base} went away: {error}")))?;
        }
        self.socket = Some(socket);
        Ok(())
    }
}
