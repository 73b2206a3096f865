//! The server's notices that a client connected or that its connection closed.
//!
//! The server writes them, but the client's name in them is what the client calls itself: whoever may connect can take
//! an agent's name. So a notice can degrade a host until its next heartbeat, and do nothing else.

use pinacle_bus::{client::Incoming, contract::HostId};
use serde::Deserialize;

use crate::liveness::ConnectionId;

/// What stands before the host's id in the name of an agent's connection.
const AGENT: &str = "agent ";
/// No notice is longer.
const MOST_BYTES: usize = 16 * 1024;
const MOST_REASON_CHARACTERS: usize = 200;
const MOST_SERVER_ID_BYTES: usize = 128;

/// What happened to an agent's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whose agent.
    pub host: HostId,
    /// Which connection.
    pub connection: ConnectionId,
    /// Why it closed; `None` = it was opened.
    pub closed: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    server: Server,
    client: Client,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Client {
    id: u64,
    #[serde(default)]
    name: String,
}

impl Notice {
    /// Reads a notice; `None` when it is not about an agent, or none at all.
    pub fn read(incoming: &Incoming) -> Option<Self> {
        Self::parse(&incoming.payload)
    }

    /// As [`Notice::read`], from bytes: whatever they are, it never panics.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MOST_BYTES {
            return None;
        }
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        let host = wire.client.name.strip_prefix(AGENT)?.parse().ok()?;
        if wire.server.id.len() > MOST_SERVER_ID_BYTES {
            return None;
        }
        let closed = match wire.kind.as_str() {
            "io.nats.server.advisory.v1.client_connect" => None,
            "io.nats.server.advisory.v1.client_disconnect" => Some(shown(&wire.reason)),
            _ => return None,
        };
        Some(Self { host, connection: ConnectionId { server: wire.server.id, client: wire.client.id }, closed })
    }
}

/// The reason as people may see it: bounded, without control characters.
fn shown(reason: &str) -> String {
    reason.chars().filter(|character| !character.is_control()).take(MOST_REASON_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notice(kind: &str, name: &str) -> String {
        // As the server 2.15 wrote it, shortened.
        format!(
            r#"{{"type":"io.nats.server.advisory.v1.client_{kind}","id":"0vzd","timestamp":"2026-11-21T09:59:19.8Z",
            "server":{{"name":"n","host":"0.0.0.0","id":"NCMCKW63","ver":"2.15.1","jetstream":true}},
            "client":{{"start":"2026-11-21T09:59:19.5Z","host":"127.0.0.1","id":7,"acc":"APP","name":"{name}"}},
            "sent":{{"msgs":0,"bytes":0}},"received":{{"msgs":0,"bytes":0}},"reason":"Client\u0007 Closed"}}"#
        )
    }

    #[test]
    fn notices_about_agents_are_read() {
        let host = HostId::new();
        let connection = ConnectionId { server: "NCMCKW63".into(), client: 7 };
        let read = |kind| Notice::parse(notice(kind, &format!("agent {host}")).as_bytes());
        assert_eq!(read("connect"), Some(Notice { host, connection: connection.clone(), closed: None }));
        assert_eq!(read("disconnect"), Some(Notice { host, connection, closed: Some("Client Closed".into()) }));
        assert_eq!(read("moved"), None);
    }

    #[test]
    fn notices_about_others_are_passed_over() {
        for name in ["", "agent", "agent host_1", "pinacle-ingest", "agent  host_000000000000000000000000000"] {
            assert_eq!(Notice::parse(notice("connect", name).as_bytes()), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(cut in 0_usize..400, at in 0_usize..400, byte: u8, noise: Vec<u8>) {
            let mut bytes = notice("disconnect", &format!("agent {}", HostId::new())).into_bytes();
            bytes.truncate(cut);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = Notice::parse(&bytes);
            let _ = Notice::parse(&noise);
        }
    }
}
