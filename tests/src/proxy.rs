//! A TCP proxy that is as unkind as a network: it cuts, delays, and swallows.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Cut,
    Stalled,
}

#[derive(Debug, Clone)]
struct State {
    mode: Mode,
    delay: Duration,
    /// Text of clients that is held back, with all that comes after it.
    trap: Option<String>,
}

impl State {
    const OPEN: Self = Self { mode: Mode::Open, delay: Duration::ZERO, trap: None };
}

/// A proxy in front of one server. It ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    listener: AbortHandle,
}

impl Proxy {
    /// Starts one in front of `target`, which need not be there yet.
    pub async fn start(target: SocketAddr) -> Self {
        let state = watch::Sender::new(State::OPEN);
        let address = crate::machine::free_address();
        let listener = TcpListener::bind(address).await.unwrap();
        let task = tokio::spawn(accept(listener, target, state.clone()));
        Self { address, state, listener: task.abort_handle() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection, and each new one at once.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.mode = Mode::Cut);
    }

    /// Lets connections stand, but nothing gets through any more: a network that swallows.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.mode = Mode::Stalled);
    }

    /// Stalls once a client sends this text, before it gets through.
    pub fn stall_before(&self, text: &str) {
        self.state.send_modify(|state| state.trap = Some(text.into()));
    }

    /// Whether nothing gets through.
    pub fn is_stalled(&self) -> bool {
        self.state.borrow().mode == Mode::Stalled
    }

    /// Holds back each piece of data for so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// As at the start: everything gets through at once.
    pub fn heal(&self) {
        self.state.send_modify(|state| *state = State::OPEN);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if state.borrow().mode != Mode::Cut {
            connections.spawn(carry(client, target, state.clone()));
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, state: watch::Sender<State>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let mut cut = state.subscribe();
    tokio::select! {
        // cancel-safe: the connection ends with whichever arm is first.
        _ = cut.wait_for(|state| state.mode == Mode::Cut) => {}
        // cancel-safe: as above.
        () = pump(client_read, server_write, &state, true) => {}
        // cancel-safe: as above.
        () = pump(server_read, client_write, &state, false) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &watch::Sender<State>, is_client: bool) {
    let mut changes = state.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    // A text may come in two pieces.
    let mut recent: Vec<u8> = Vec::new();
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let (piece, _) = buffer.split_at(length);
        let State { delay, trap, .. } = state.borrow().clone();
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if let Some(text) = trap.filter(|_| is_client) {
            recent.extend(piece);
            if recent.windows(text.len()).any(|window| window == text.as_bytes()) {
                state.send_modify(|state| (state.mode, state.trap) = (Mode::Stalled, None));
            }
            recent.drain(..recent.len().saturating_sub(text.len()));
        }
        if changes.wait_for(|state| state.mode == Mode::Open).await.is_err() {
            return;
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}
