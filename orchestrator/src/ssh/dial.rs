//! Making a connection: find the host, check its key, log in.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use pinacle_bus::settings::Secret;
use russh::{
    Preferred,
    client::{self, AuthResult, DisconnectReason},
    keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key},
};
use tokio::net::TcpStream;

use super::{ConnectError, Endpoint, SshSettings, endpoint::PinnedKeys, lima};

/// A host that says nothing for three of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVES_UNANSWERED: usize = 2;
/// Ends the connection when a write blocks, during which keep-alives are not counted.
const BLOCKED_FOR: Duration = Duration::from_secs(20);

/// A connection that stands. Dropped, it closes.
pub struct Live {
    /// What opens channels.
    pub handle: client::Handle<Gatekeeper>,
    /// Held by whoever kills a command: each takes a channel more than commands may have.
    pub kills: tokio::sync::Mutex<()>,
    end: Arc<Mutex<Option<String>>>,
}

impl Live {
    /// Why it is no more.
    pub fn end(&self) -> String {
        self.end.lock().clone().unwrap_or_else(|| "the host closed it".into())
    }
}

/// Connects; the caller keeps the deadline.
pub async fn dial(endpoint: &Endpoint, settings: &SshSettings) -> Result<Live, ConnectError> {
    let pinned = PinnedKeys::read(&endpoint.host_keys)?;
    let keys = settings.keys.all();
    let keys: Vec<PrivateKey> = keys.iter().map(private_key).collect::<Result<_, _>>()?;
    let (host, port) = match &endpoint.lima_name {
        Some(name) => lima::resolve(&settings.limactl, name).await?,
        None => (endpoint.address.clone(), endpoint.port),
    };
    let unreachable = |detail: String| ConnectError::Unreachable { address: format!("{host}:{port}"), detail };

    let socket = TcpStream::connect((host.as_str(), port)).await.map_err(|error| unreachable(error.to_string()))?;
    socket.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    let configuration = client::Config {
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES_UNANSWERED,
        inactivity_timeout: Some(BLOCKED_FOR),
        preferred: Preferred { key: pinned.algorithms().into(), ..Preferred::DEFAULT },
        ..client::Config::default()
    };
    let end = Arc::new(Mutex::new(None));
    let gatekeeper = Gatekeeper { pinned, end: end.clone() };
    let mut handle =
        client::connect_stream(Arc::new(configuration), socket, gatekeeper).await.map_err(|error| match error {
            HandshakeError::Refused(refusal) => refusal,
            HandshakeError::Russh(error) => unreachable(error.to_string()),
        })?;

    // Others than the first are former ones, for hosts that were away when they were exchanged.
    for key in keys {
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        match handle.authenticate_publickey(&endpoint.user, key).await {
            Ok(AuthResult::Success) => return Ok(Live { handle, kills: tokio::sync::Mutex::default(), end }),
            Ok(AuthResult::Failure { .. }) if handle.is_closed() => {
                return Err(unreachable("the host closed the connection while we logged in".into()));
            }
            Ok(AuthResult::Failure { .. }) => {}
            Err(error) => return Err(unreachable(error.to_string())),
        }
    }
    Err(ConnectError::AuthenticationRefused { user: endpoint.user.clone() })
}

fn private_key(key: &Secret) -> Result<PrivateKey, ConnectError> {
    if key.is_empty() {
        return Err(ConnectError::UnusableKey("it is empty".into()));
    }
    let key = decode_secret_key(key.expose(), None).map_err(|error| ConnectError::UnusableKey(error.to_string()))?;
    if key.algorithm().is_rsa() {
        return Err(ConnectError::UnusableKey("it is an RSA key; give an Ed25519 or ECDSA one".into()));
    }
    Ok(key)
}

/// Lets nobody pass whose key is not pinned, and notes why a connection ended.
pub struct Gatekeeper {
    pinned: PinnedKeys,
    end: Arc<Mutex<Option<String>>>,
}

/// Why a handshake failed.
#[derive(Debug)]
pub enum HandshakeError {
    /// By us.
    Refused(ConnectError),
    /// By the protocol or the network.
    Russh(russh::Error),
}

impl From<russh::Error> for HandshakeError {
    fn from(error: russh::Error) -> Self {
        Self::Russh(error)
    }
}

impl client::Handler for Gatekeeper {
    type Error = HandshakeError;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, HandshakeError> {
        // We ask for no certificates; the key of one would be judged as any other.
        self.pinned.check(&offered.public_key()).map_err(HandshakeError::Refused)?;
        Ok(true)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<HandshakeError>) -> Result<(), HandshakeError> {
        let text = match reason {
            DisconnectReason::ReceivedDisconnect(info) => format!("the host said: {}", info.message),
            DisconnectReason::Error(HandshakeError::Russh(error)) => error.to_string(),
            DisconnectReason::Error(HandshakeError::Refused(error)) => error.to_string(),
        };
        *self.end.lock() = Some(text);
        Ok(())
    }
}
