//! Whether a part can do its work now.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::docker;

const PATIENCE: Duration = Duration::from_secs(2);
const MOST_ANSWER_BYTES: u64 = 64 * 1024;

/// How to find out.
#[derive(Debug, Clone)]
pub(super) enum Probe {
    /// The server greets whoever connects.
    Nats(u16),
    /// The last line but the shared memory's in `postmaster.pid` says so.
    Postgres(PathBuf),
    /// The daemon answers on its socket.
    Docker(PathBuf),
    /// The server greets whoever connects.
    Ssh(u16),
    /// `/readyz` of our services answers 200.
    Service(u16),
}

impl Probe {
    /// `Ok` when the part with this process is ready, else what it waits for.
    pub async fn ask(&self, pid: i32) -> Result<(), String> {
        let asked = async {
            match self {
                Self::Nats(port) => greeting(*port, b"INFO ", "NATS").await,
                Self::Postgres(file) => postmaster(file, pid),
                Self::Docker(socket) => docker::info(socket).await.map(drop),
                Self::Ssh(port) => greeting(*port, b"SSH-2", "SSH").await,
                Self::Service(port) => readyz(*port).await,
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err("it does not answer".into()))
    }
}

async fn greeting(port: u16, expected: &[u8; 5], name: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| "it does not listen yet".to_owned())?;
    let mut word = [0_u8; 5];
    stream.read_exact(&mut word).await.map_err(|error| error.to_string())?;
    if word == *expected { Ok(()) } else { Err(format!("what answers is no {name} server")) }
}

fn postmaster(file: &Path, pid: i32) -> Result<(), String> {
    const STATUS_LINE: usize = 7;
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // A killed server leaves its file behind.
    let ours = text.lines().next().and_then(|line| line.trim().parse().ok()) == Some(pid);
    match text.lines().nth(STATUS_LINE).map(str::trim).filter(|_| ours) {
        Some("ready") => Ok(()),
        Some(other) => Err(format!("it is {other}")),
        None => Err("it does not listen yet".into()),
    }
}

#[derive(Deserialize)]
struct Readiness {
    #[serde(default)]
    conditions: std::collections::BTreeMap<String, Option<String>>,
}

async fn readyz(port: u16) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| "it does not listen yet".to_owned())?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.take(MOST_ANSWER_BYTES).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let conditions = serde_json::from_str::<Readiness>(body).map(|readiness| readiness.conditions).unwrap_or_default();
    // A service that has no conditions yet has only begun to start.
    if answer.split_whitespace().nth(1) == Some("200") && !conditions.is_empty() {
        return Ok(());
    }
    let waiting: Vec<String> =
        conditions.into_iter().filter_map(|(name, reason)| Some(format!("{name}: {}", reason?))).collect();
    Err(if waiting.is_empty() { "it is starting".into() } else { waiting.join(", ") })
}
