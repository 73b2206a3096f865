//! Docker for the pods of this machine: the machine's own where it answers and has gVisor, else one that `up` runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::{
    home::Home,
    log::Dialect,
    part::{Part, find_program},
    probe::Probe,
};
use crate::failure::Failure;

/// In the folder of a run, where ours listens.
pub(super) const SOCKET: &str = "docker.sock";
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const MOST_ANSWER_BYTES: u64 = 1024 * 1024;
/// It stops containers first, each of which has ten seconds to end.
const STOP: &[(Signal, Duration)] = &[(Signal::SIGTERM, Duration::from_secs(40))];

/// The Docker that pods run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Docker {
    /// The machine has one; it is not ours to start or stop.
    Machine(PathBuf),
    /// Ours: the daemon's program and gVisor's.
    Own(PathBuf, PathBuf),
}

impl Docker {
    /// Which one it will be, or in one line why there is none.
    pub async fn find(machine: &Path) -> Result<Self, String> {
        match info(machine).await {
            Ok(info) if info.pointer("/Runtimes/runsc").is_some() => Ok(Self::Machine(machine.to_owned())),
            Ok(_) => Err(format!(
                "Docker at {} has no runtime runsc: install gVisor and register it there, see \
                 https://gvisor.dev/docs/user_guide/install/",
                machine.display()
            )),
            Err(_) => match (find_program("dockerd"), find_program("runsc")) {
                (Some(dockerd), Some(runsc)) => Ok(Self::Own(dockerd, runsc)),
                (None, _) => Err("no Docker answers and none is installed: scripts/setup run installs it".into()),
                (_, None) => Err("gVisor (runsc) is not installed: scripts/setup run installs it, or see \
                                  https://gvisor.dev/docs/user_guide/install/"
                    .into()),
            },
        }
    }

    /// Its socket.
    pub fn socket(&self, run: &Path) -> PathBuf {
        match self {
            Self::Machine(socket) => socket.clone(),
            Self::Own(..) => run.join(SOCKET),
        }
    }

    /// The daemon as a part; none where it runs already.
    ///
    /// It has a containerd of its own as its child, and ends its containers before itself: also when `up` is killed, for
    /// then the kernel sends it the same signal.
    pub fn part(&self, home: &Home, run: &Path) -> Result<Option<Part>, Failure> {
        let Self::Own(dockerd, runsc) = self else { return Ok(None) };
        let file = run.join("daemon.json");
        // In the container's own network namespace, which is what gVisor calls "host" here: its own network stack of the
        // release that Debian has does not start on newer kernels. ptrace works on every machine.
        let settings = json!({
            "runtimes": { "runsc": { "path": runsc, "runtimeArgs": ["--network=host", "--platform=ptrace"] } },
        });
        fs::write(&file, settings.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let socket = self.socket(run);
        let arguments = vec![
            "--config-file".into(),
            file.into(),
            "--data-root".into(),
            home.folder.path("docker").into(),
            // Short, for the sockets in it.
            "--exec-root".into(),
            run.join("docker").into(),
            // None: that of a killed one could name another process.
            "--pidfile=".into(),
            "--host".into(),
            format!("unix://{}", socket.display()).into(),
            // Each pod has a bridge of its own.
            "--bridge=none".into(),
        ];
        Ok(Some(Part {
            name: "docker",
            program: dockerd.clone(),
            arguments,
            environment: Vec::new(),
            account: None,
            _door: None,
            death_signal: "TERM",
            stop: STOP,
            probe: Probe::Docker(socket),
            dialect: Dialect::Other,
            start_deadline: Duration::from_secs(60),
        }))
    }
}

/// What the daemon behind a socket says about itself.
pub(super) async fn info(socket: &Path) -> Result<Value, String> {
    let asked = async {
        let mut stream = UnixStream::connect(socket).await.map_err(|_| "it does not listen yet".to_owned())?;
        // In HTTP/1.0 the answer ends with the connection.
        let request = "GET /info HTTP/1.0\r\nhost: docker\r\n\r\n";
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.take(MOST_ANSWER_BYTES).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&answer);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|_| "what answers is not Docker".to_owned())
    };
    timeout(ANSWERS_WITHIN, asked).await.unwrap_or_else(|_| Err("it does not answer".into()))
}
