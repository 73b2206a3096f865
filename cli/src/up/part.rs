//! One part of the installation: how it is started, told to be ready, and stopped.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

use super::{
    door::Door,
    log::{Dialect, PartLog},
    probe::Probe,
};

/// A line longer than this is cut.
const LONGEST_LINE_BYTES: u64 = 16 * 1024;

/// A part.
#[derive(Clone)]
pub(super) struct Part {
    /// As in file names, such as `ingest`.
    pub name: &'static str,
    pub program: PathBuf,
    /// Never secrets: everybody on the machine can read arguments.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, OsString)>,
    /// Another user to run as.
    pub account: Option<Account>,
    /// How that user gets to its data; open for as long as the part may start.
    pub _door: Option<Door>,
    /// What the kernel sends it when `up` is killed.
    pub death_signal: &'static str,
    /// What it is sent when it is to stop, and how long each may take.
    pub stop: &'static [(Signal, Duration)],
    pub probe: Probe,
    pub dialect: Dialect,
    /// How long the first start may take.
    pub start_deadline: Duration,
}

/// A user of the system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// A started part.
pub(super) struct Running {
    pub child: Child,
    pub pid: i32,
    pumps: JoinSet<()>,
}

impl Part {
    /// Starts it, with its output into `log`.
    pub fn spawn(&self, log: &Arc<Mutex<PartLog>>) -> std::io::Result<Running> {
        let mut command = self.command();
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal reaches `up` alone, which stops the parts in order.
            .process_group(0)
            .kill_on_drop(true);
        if self.account.is_some() {
            // Another user may not be allowed where this one is.
            command.current_dir("/");
        }
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let mut pumps = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            pumps.spawn(pump(stdout, log.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            pumps.spawn(pump(stderr, log.clone()));
        }
        Ok(Running { child, pid, pumps })
    }

    /// Through `setpriv` where it exists: it has the kernel end the part when `up` is killed, and changes the user.
    fn command(&self) -> Command {
        let Some(setpriv) = find_program("setpriv") else {
            let mut command = Command::new(&self.program);
            if let Some(Account { uid, gid }) = self.account {
                command.uid(uid).gid(gid);
            }
            command.args(&self.arguments);
            return command;
        };
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", self.death_signal]);
        if let Some(Account { uid, gid }) = self.account {
            command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--init-groups"]);
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        command
    }
}

impl Running {
    /// Waits until it has ended and its last words are in the log. Cancel-safe.
    pub async fn ended(&mut self) -> String {
        let status = self.child.wait().await;
        // Its own children may still hold the pipes open.
        let _ = timeout(Duration::from_secs(1), async { while self.pumps.join_next().await.is_some() {} }).await;
        match status {
            Ok(status) => describe(status),
            Err(error) => format!("cannot be waited for: {error}"),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("was killed by {signal}"),
            Err(_) => format!("was killed by signal {signal}"),
        },
        (None, None) => "ended".into(),
    }
}

async fn pump(stream: impl AsyncRead + Unpin, log: Arc<Mutex<PartLog>>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => log.lock().take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])),
        }
    }
}

/// A program in the folders of `PATH`, and where administrators' programs lie.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

/// Whether a file can be run.
pub(super) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
