//! The server's notices that a client connected or that its connection closed.
//!
//! Whose connection it is says the user's name in the claims that the server has admitted; what a client calls itself
//! counts for nothing.

use pinacle_bus::{client::Incoming, contract::HostId, trust};
use serde::Deserialize;

use crate::liveness::ConnectionId;

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
    jwt: String,
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
        let host = trust::user_in(&wire.client.jwt).ok()?.parse().ok()?;
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
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// A user's claims.
    fn claims(name: &str) -> String {
        trust::Keys::generate().host(name).unwrap().jwt().to_owned()
    }

    fn notice(kind: &str, jwt: &str) -> String {
        // As the server 2.15 wrote it, shortened.
        format!(
            r#"{{"type":"io.nats.server.advisory.v1.client_{kind}","id":"0vzd","timestamp":"2026-11-21T09:59:19.8Z",
            "server":{{"name":"n","host":"0.0.0.0","id":"NCMCKW63","ver":"2.15.1","jetstream":true}},
            "client":{{"start":"2026-11-21T09:59:19.5Z","host":"127.0.0.1","id":7,"acc":"APP","name":"agent host_x","jwt":"{jwt}"}},
            "sent":{{"msgs":0,"bytes":0}},"received":{{"msgs":0,"bytes":0}},"reason":"Client\u0007 Closed"}}"#
        )
    }

    #[test]
    fn notices_about_agents_are_read() {
        let host = HostId::new();
        let connection = ConnectionId { server: "NCMCKW63".into(), client: 7 };
        let read = |kind| Notice::parse(notice(kind, &claims(&host.to_string())).as_bytes());
        assert_eq!(read("connect"), Some(Notice { host, connection: connection.clone(), closed: None }));
        assert_eq!(read("disconnect"), Some(Notice { host, connection, closed: Some("Client Closed".into()) }));
        assert_eq!(read("moved"), None);
    }

    #[test]
    fn notices_about_others_are_passed_over() {
        for name in ["host_1", "ingest"] {
            assert_eq!(Notice::parse(notice("connect", &claims(name)).as_bytes()), None, "{name}");
        }
        let forged = claims(&HostId::new().to_string()).replacen('.', ".e30", 1);
        for jwt in ["", "e30.e30.e30", &forged] {
            assert_eq!(Notice::parse(notice("connect", jwt).as_bytes()), None, "{jwt}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(cut in 0_usize..1200, at in 0_usize..1200, byte: u8, noise: Vec<u8>) {
            // Signed once: that takes its time.
            static CLAIMS: LazyLock<String> = LazyLock::new(|| claims(&HostId::new().to_string()));
            let mut bytes = notice("disconnect", &CLAIMS).into_bytes();
            bytes.truncate(cut);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = Notice::parse(&bytes);
            let _ = Notice::parse(&noise);
        }
    }
}
