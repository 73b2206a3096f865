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
    /// `/healthz` on the monitoring port answers 200: a connection to the other one that ends before its TLS would be in
    /// the server's log as a fault.
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
                Self::Nats(port) => healthz(*port).await,
                Self::Postgres(file) => postmaster(file, pid),
                Self::Docker(socket) => docker::info(socket).await.map(drop),
                Self::Ssh(port) => greeting(*port).await,
                Self::Service(port) => readyz(*port).await,
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err("it does not answer".into()))
    }
}

async fn greeting(port: u16) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| "it does not listen yet".to_owned())?;
    let mut word = [0_u8; 5];
    stream.read_exact(&mut word).await.map_err(|error| error.to_string())?;
    if word == *b"SSH-2" { Ok(()) } else { Err("what answers is no SSH server".into()) }
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

/// Whether the answer is 200, and its body.
async fn get(port: u16, path: &str) -> Result<(bool, String), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| "it does not listen yet".to_owned())?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.take(MOST_ANSWER_BYTES).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((answer.split_whitespace().nth(1) == Some("200"), body.to_owned()))
}

async fn healthz(port: u16) -> Result<(), String> {
    let (is_ok, _) = get(port, "/healthz").await?;
    if is_ok { Ok(()) } else { Err("it reads its streams".into()) }
}

async fn readyz(port: u16) -> Result<(), String> {
    let (is_ok, body) = get(port, "/readyz").await?;
    let conditions = serde_json::from_str::<Readiness>(&body).map(|readiness| readiness.conditions).unwrap_or_default();
    // A service that has no conditions yet has only begun to start.
    if is_ok && !conditions.is_empty() {
        return Ok(());
    }
    let waiting: Vec<String> =
        conditions.into_iter().filter_map(|(name, reason)| Some(format!("{name}: {}", reason?))).collect();
    Err(if waiting.is_empty() { "it is starting".into() } else { waiting.join(", ") })
}
