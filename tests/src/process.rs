//! A program under test, as a real process: its log, its readiness, and its end.
//!
//! It dies with the test, whichever way the test ends: dropped, it is killed; and the kernel kills it when the thread
//! that started it is gone. So start processes from the test's own thread, never from `spawn_blocking`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::OpenOptions,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{eventually, machine, sandbox::Sandbox};

/// Lines of the log that are shown when a test fails.
const TAIL: usize = 60;

#[derive(Clone)]
enum Ready {
    AtOnce,
    Admin(SocketAddr),
    Line(String),
}

/// How to start a process.
#[derive(Clone)]
pub struct Launch {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    user: Option<String>,
    ready: Ready,
    ready_within: Duration,
    sandbox: Option<Sandbox>,
}

impl Launch {
    /// One of our programs, such as `pinacle-ingest`, as it was last built.
    pub fn service(name: &str) -> Self {
        Self::program(machine::service(name)).named(name)
    }

    /// Any program.
    pub fn program(path: impl Into<PathBuf>) -> Self {
        let program = path.into();
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            name,
            program,
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            user: None,
            ready: Ready::AtOnce,
            ready_within: Duration::from_secs(30),
            sandbox: None,
        }
    }

    /// What it is called in messages and how its log is named; for one of several copies.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// An argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Several arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// A variable of its environment. What the test itself has of `PINACLE…` is not passed on.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Several variables.
    pub fn envs(mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        for (name, value) in variables {
            self = self.env(name, value);
        }
        self
    }

    /// Where it starts; otherwise in a folder of its own.
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Keeps its log in this sandbox rather than in one of its own.
    pub fn in_sandbox(mut self, sandbox: &Sandbox) -> Self {
        self.sandbox = Some(sandbox.clone());
        self
    }

    /// Runs it as another user. Takes root.
    pub fn as_user(mut self, user: &str) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Gives a service an admin server on a free port, and waits for its `/readyz`.
    pub fn ready_on_admin_port(self) -> Self {
        let address = machine::free_address();
        self.env("PINACLE__ADMIN__LISTEN", address.to_string()).ready_at(address)
    }

    /// Like [`Self::ready_on_admin_port`], but `start` does not wait: for a service that cannot become ready yet.
    pub fn with_admin_port(self) -> Self {
        let mut launch = self.ready_on_admin_port();
        launch.ready_within = Duration::ZERO;
        launch
    }

    /// Ready once `/readyz` at this address says so.
    pub fn ready_at(mut self, address: SocketAddr) -> Self {
        self.ready = Ready::Admin(address);
        self
    }

    /// Ready once its output holds this text.
    pub fn ready_line(mut self, text: &str) -> Self {
        self.ready = Ready::Line(text.into());
        self
    }

    /// How long that may take; otherwise 30 s.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.ready_within = deadline;
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or is not ready in time, with the end of its log.
    pub async fn start(self) -> Process {
        let mut process = self.spawn();
        process.await_ready().await;
        process
    }

    /// Starts it and does not wait.
    pub fn spawn(self) -> Process {
        let sandbox = self.sandbox.clone().unwrap_or_default();
        let log = sandbox.folder("logs").join(format!("{}.log", self.name));
        let folder = self.folder.clone().unwrap_or_else(|| sandbox.folder("work"));
        let mut process = Process { launch: self, child: None, log, log_start: 0, folder, _sandbox: sandbox };
        process.spawn();
        process
    }

    fn command(&self) -> Command {
        let mut command = Command::new(machine::tool("setpriv"));
        if let Some(user) = &self.user {
            command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(&self.arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PINACLE") {
                command.env_remove(name);
            }
        }
        command.envs(&self.environment);
        command
    }
}

/// A process under test.
pub struct Process {
    launch: Launch,
    child: Option<Child>,
    log: PathBuf,
    /// Where in the log the latest start begins.
    log_start: u64,
    folder: PathBuf,
    _sandbox: Sandbox,
}

impl Process {
    fn spawn(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        self.log_start = log.metadata().unwrap().len();
        let errors = log.try_clone().unwrap();
        let child = self
            .launch
            .command()
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.launch.program.display()));
        self.child = Some(child);
    }

    async fn await_ready(&mut self) {
        let within = self.launch.ready_within;
        let name = self.launch.name.clone();
        if within.is_zero() || matches!(self.launch.ready, Ready::AtOnce) {
            return;
        }
        let outcome: Result<(), String> = eventually(within, &format!("{name} to be ready"), async || {
            if let Some(status) = self.poll() {
                return Ok(Err(format!("{name} ended before it was ready: {status}\n{}", self.tail())));
            }
            match &self.launch.ready {
                Ready::AtOnce => Ok(Ok(())),
                Ready::Line(text) if self.log_text().contains(text) => Ok(Ok(())),
                Ready::Line(text) => Err(format!("no line with {text:?}")),
                Ready::Admin(address) => match http_get(*address, "/readyz").await {
                    Ok((200, _)) => Ok(Ok(())),
                    other => Err(format!("/readyz: {other:?}")),
                },
            }
        })
        .await;
        if let Err(reason) = outcome {
            panic!("{reason}");
        }
    }

    /// Waits until `/readyz` says so, or the line of its start was written; for a process that was not waited for.
    pub async fn ready(&mut self, deadline: Duration) {
        let before = std::mem::replace(&mut self.launch.ready_within, deadline);
        self.await_ready().await;
        self.launch.ready_within = before;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.launch.name)).id()
    }

    /// The address of its admin server.
    ///
    /// # Panics
    /// When it has none.
    pub fn admin(&self) -> SocketAddr {
        match self.launch.ready {
            Ready::Admin(address) => address,
            _ => panic!("{} has no admin server", self.launch.name),
        }
    }

    /// Status and body of a `GET` on its admin server.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        http_get(self.admin(), path).await
    }

    /// The sum of a metric over its series whose text holds all of `labels`, such as `reason="late"`; none when it has
    /// no such series yet.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.get("/metrics").await.ok()?;
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .reduce(|sum, value| sum + value)
    }

    /// How it ended, if it has.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().unwrap()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.poll().is_none()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(10)).await;
    }

    /// Asks it to stop with SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// When it still runs at the deadline, with the end of its log.
    pub async fn sigterm(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(deadline).await
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs at the deadline, with the end of its log.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let name = self.launch.name.clone();
        let status = eventually(deadline, &format!("{name} to end"), async || self.poll().ok_or("it runs")).await;
        self.child = None;
        status
    }

    /// Starts it again as before; kills it first if it runs. Waits until it is ready.
    pub async fn restart(&mut self) {
        self.restart_unready();
        self.await_ready().await;
    }

    /// Starts it again as before; kills it first if it runs. Does not wait.
    pub fn restart_unready(&mut self) {
        self.end();
        self.spawn();
    }

    /// Changes how it is started by the next `restart`.
    pub fn relaunch(&mut self, change: impl FnOnce(Launch) -> Launch) {
        self.launch = change(self.launch.clone());
    }

    /// What it has written since its latest start.
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap().min(bytes.len());
        String::from_utf8_lossy(bytes.split_at(start).1).into_owned()
    }

    /// The file that its output goes to, over all its starts.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(TAIL);
        let shown: Vec<&str> = lines.into_iter().skip(skipped).collect();
        format!("--- {} ({skipped} lines before)\n{}\n---", self.launch.name, shown.join("\n"))
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

/// Whether a process ended by this signal.
pub fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal as i32)
}

/// Status and body of a plain `GET`, with a deadline of 5 s.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub async fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange)
        .await
        .map_err(|_| "no answer in 5 s".to_owned())?
        .map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no HTTP status")?;
    Ok((status, body.to_owned()))
}

/// Runs a program to its end, and returns what it wrote to standard output: a warning beside that is none of its answer.
///
/// # Panics
/// When it cannot be started or fails, with what it wrote.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text.into_owned()
}
