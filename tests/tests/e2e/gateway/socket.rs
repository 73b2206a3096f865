//! A client of the WebSocket.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpSocket, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, handshake::client::Request, http::HeaderValue},
};

const SOON: Duration = Duration::from_secs(20);

pub struct Socket {
    stream: WebSocketStream<tokio::net::TcpStream>,
}

/// What came instead of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    Closed(Option<u16>),
    Broken,
}

pub fn request(address: SocketAddr) -> Request {
    format!("ws://{address}/api/v1/live").into_client_request().unwrap()
}

pub fn with_token(address: SocketAddr, token: &str) -> Request {
    let mut request = request(address);
    request.headers_mut().insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    request
}

/// Opens a WebSocket, or says with which status it was refused; 0 = nobody answers.
pub async fn open(address: SocketAddr, request: Request, receive_buffer: Option<u32>) -> Result<Socket, u16> {
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let opened = async {
        let stream = socket.connect(address).await.map_err(|_| 0u16)?;
        match client_async(request, stream).await {
            Ok((stream, _)) => Ok(Socket { stream }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(_) => Err(0),
        }
    };
    timeout(SOON, opened).await.expect("the handshake hangs")
}

impl Socket {
    pub async fn open(address: SocketAddr, token: &str) -> Self {
        open(address, with_token(address, token), None).await.unwrap()
    }

    pub async fn say(&mut self, message: Value) {
        self.say_text(&message.to_string()).await;
    }

    pub async fn say_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// In one go, so that all of it is out before the other side can end the WebSocket.
    pub async fn say_many(&mut self, text: &str, times: usize) {
        for _ in 0..times {
            self.stream.feed(Message::text(text)).await.unwrap();
        }
        self.stream.flush().await.unwrap();
    }

    pub async fn say_binary(&mut self, bytes: &'static [u8]) {
        self.stream.send(Message::binary(bytes)).await.unwrap();
    }

    pub async fn subscribe(&mut self, topic: &str) -> Value {
        self.say(json!({ "op": "subscribe", "topic": topic })).await;
        self.until(|message| message["op"] == "subscribed" && message["topic"] == topic).await
    }

    /// The next message, or how the WebSocket ended.
    pub async fn heard(&mut self) -> Result<Value, Gone> {
        timeout(SOON, self.heard_whenever()).await.expect("nothing comes")
    }

    /// The same, however long it takes.
    pub async fn heard_whenever(&mut self) -> Result<Value, Gone> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(Gone::Closed(frame.map(|frame| frame.code.into()))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Gone::Broken),
            }
        }
    }

    pub async fn next(&mut self) -> Value {
        self.heard().await.expect("the WebSocket ended")
    }

    /// The next message that is wanted; others are passed over.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let message = self.next().await;
                if wanted(&message) {
                    return message;
                }
            }
        };
        timeout(SOON, found).await.expect("the wanted message does not come")
    }

    /// Whether nothing comes for so long.
    pub async fn is_silent_for(&mut self, period: Duration) -> bool {
        let heard = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => return other,
                }
            }
        };
        timeout(period, heard).await.is_err()
    }

    /// The newest state of each item of a topic, until `enough` says so; how many items came on the way.
    pub async fn state_until(
        &mut self,
        topic: &str,
        enough: impl Fn(&std::collections::BTreeMap<String, Value>) -> bool,
    ) -> (std::collections::BTreeMap<String, Value>, usize) {
        let mut known = std::collections::BTreeMap::new();
        let mut items = 0;
        while !enough(&known) {
            let message = self.until(|message| message["op"] == "state" && message["topic"] == topic).await;
            if message["reset"] == true {
                known.clear();
            }
            for item in message["items"].as_array().unwrap() {
                let id = item["pod_id"].as_str().or(item["host_id"].as_str()).unwrap().to_owned();
                known.insert(id, item.clone());
                items += 1;
            }
            for id in message["removed"].as_array().unwrap() {
                known.remove(id.as_str().unwrap());
            }
        }
        (known, items)
    }

    /// Sequences and messages of the next events, as an admin gets them.
    pub async fn events(&mut self) -> Vec<(u64, String)> {
        let message = self.until(|message| message["op"] == "events").await;
        events_of(&message)
    }
}

pub fn events_of(message: &Value) -> Vec<(u64, String)> {
    let items = message["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| (item["position"].as_str().unwrap().parse().unwrap(), item["message"].as_str().unwrap().to_owned()))
        .collect()
}
