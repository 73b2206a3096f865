//! Running `pinacle`, to its end or as an installation in the foreground.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use pinacle_tests::{Launch, Process, Sandbox, eventually, leftovers, machine};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The parts of a whole installation that runs no pods, in the order in which they stop.
pub const PARTS: [&str; 6] = ["agent", "gateway", "orchestrator", "ingest", "postgres", "nats"];
/// Those that pods take besides.
pub const FOR_PODS: [&str; 2] = ["ssh", "docker"];
const STARTS_WITHIN: Duration = Duration::from_secs(120);
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// What it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// What it printed, as one JSON document.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// What it printed, as one JSON object a line.
    #[track_caller]
    pub fn json_lines(self) -> Vec<Value> {
        let text = self.ok();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
            .collect()
    }

    /// The one line that it failed with.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = self.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(line.starts_with("pinacle: "), "{self:?}");
        line
    }

    /// The same, where nothing else was said before.
    #[track_caller]
    pub fn refused_at_once(self, code: i32) -> String {
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        self.refused(code)
    }
}

/// Runs `pinacle` to its end, without a terminal.
pub fn pinacle(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    run(&machine::service("pinacle"), arguments, environment)
}

/// Runs any copy of it.
pub fn run(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    outcome(command(program, arguments, environment).stdin(Stdio::null()).output().unwrap())
}

/// Runs `pinacle` with this on its standard input.
pub fn fed(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Outcome {
    let mut command = command(&machine::service("pinacle"), arguments, environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // What does not read all of it closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    outcome(child.wait_with_output().unwrap())
}

fn command(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(machine::tool("timeout"));
    command.args(["--kill-after=5", "100"]).arg(program).args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PINACLE") {
            command.env_remove(name);
        }
    }
    // Far from the repository's own installation and from where its developers are logged in, if there is such.
    command.env("XDG_CONFIG_HOME", "/nonexistent").current_dir("/").envs(environment.iter().copied());
    command
}

fn outcome(output: Output) -> Outcome {
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// An installation in a folder of its own, on ports of its own.
pub struct Installation {
    pub sandbox: Sandbox,
    pub listen: String,
    pub nats_port: u16,
    environment: BTreeMap<String, String>,
}

impl Installation {
    pub fn new() -> Self {
        let mut environment = BTreeMap::new();
        for (key, value) in [
            ("PINACLE__UP__ADMIN_PORT", machine::free_port().to_string()),
            ("PINACLE__UP__NATS_MONITOR_PORT", machine::free_port().to_string()),
            ("PINACLE__UP__POSTGRES_PORT", machine::free_port().to_string()),
            ("PINACLE__BUS__STORAGE_BYTES", (1_u64 << 30).to_string()),
            // No Docker of the machine's own: its containers are none of this test's.
            ("PINACLE__AGENT__DOCKER_SOCKET", "/nonexistent/docker.sock".into()),
            ("PINACLE__UP__DOCKER_SOCKET", "/nonexistent/docker.sock".into()),
            // Docker takes its time, and its turn.
            ("PINACLE__UP__PODS", "false".into()),
        ] {
            environment.insert(key.to_owned(), value);
        }
        Self {
            sandbox: Sandbox::new(),
            listen: machine::free_address().to_string(),
            nats_port: machine::free_port(),
            environment,
        }
    }

    /// With another variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// With what pods take. Whatever way the test ends, nothing of its Docker stays in the packet filter.
    pub fn with_pods(self) -> Self {
        leftovers::will_have_docker(self.sandbox.path());
        self.with("PINACLE__UP__PODS", "true")
    }

    pub fn data(&self) -> PathBuf {
        self.sandbox.path().join("data")
    }

    fn arguments(&self) -> Vec<String> {
        let nats_port = self.nats_port.to_string();
        ["up", "--data-dir", self.data().to_str().unwrap(), "--listen", &self.listen, "--nats-port", &nats_port]
            .map(str::to_owned)
            .into()
    }

    /// `pinacle up` in the foreground of a process.
    pub fn launch(&self) -> Launch {
        Launch::service("pinacle")
            .in_sandbox(&self.sandbox)
            .args(self.arguments())
            .envs(&self.environment)
            .ready_line("Ctrl-C stops everything")
            .ready_within(STARTS_WITHIN)
    }

    /// Starts it and waits until everything runs.
    pub async fn up(&self) -> Process {
        self.launch().start().await
    }

    /// Runs `pinacle up` to its end, for starts that fail.
    pub fn up_to_the_end(&self, more: &[&str]) -> Outcome {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let environment: Vec<_> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pinacle(&arguments, &environment)
    }

    /// Another command about this installation.
    pub fn ask(&self, arguments: &[&str]) -> Outcome {
        let data = self.data();
        let arguments: Vec<&str> = ["--data-dir", data.to_str().unwrap()].iter().chain(arguments).copied().collect();
        pinacle(&arguments, &[])
    }

    /// The same for one that goes on until it is killed; what it prints can be read.
    pub fn in_background(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(machine::service("pinacle"));
        command.arg("--data-dir").arg(self.data()).args(arguments).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The admin token.
    pub fn token(&self) -> String {
        self.secret("admin_token")
    }

    pub fn secret(&self, name: &str) -> String {
        std::fs::read_to_string(self.data().join("secrets").join(name)).unwrap().trim().to_owned()
    }

    /// The processes that run now, by part.
    pub fn pids(&self) -> BTreeMap<String, i32> {
        PARTS.iter().chain(&FOR_PODS).filter_map(|part| Some(((*part).to_owned(), self.pid(part)?))).collect()
    }

    pub fn pid(&self, part: &str) -> Option<i32> {
        let text = std::fs::read_to_string(self.data().join("run").join(format!("{part}.pid"))).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }

    /// Where Docker and the SSH server have what only counts while they run; named after the folder of all data.
    pub fn run_folder(&self) -> PathBuf {
        let digest = Sha256::digest(self.data().canonicalize().unwrap().as_os_str().as_encoded_bytes());
        let tag: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Path::new("/run/pinacle").join(tag)
    }

    /// Stops it with a signal; everything must be gone, in order and in time.
    pub async fn stop(&self, up: &mut Process, signal: Signal) {
        let pids = self.pids();
        up.signal(signal);
        let status = up.wait(STOPS_WITHIN).await;
        assert_eq!(status.code(), Some(0), "{}", up.tail());
        self.none_runs(&pids).await;
    }

    /// Waits until none of these processes runs, and none that belongs to this folder.
    pub async fn none_runs(&self, pids: &BTreeMap<String, i32>) {
        // Docker ends its containers first.
        eventually(Duration::from_secs(40), "every process to be gone", async || {
            let mut left: Vec<String> =
                pids.iter().filter(|(_, pid)| runs(**pid)).map(|(part, pid)| format!("{part} ({pid})")).collect();
            left.extend(processes_with(self.data().to_str().unwrap()));
            left.extend(processes_with(self.run_folder().to_str().unwrap()));
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        leftovers::release(self.sandbox.path());
        if self.data().exists() {
            let _ = std::fs::remove_dir_all(self.run_folder());
        }
    }
}

/// Whether a process runs; one that nobody has waited for yet does not.
pub fn runs(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Processes whose arguments hold a text.
fn processes_with(text: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name != own))
        .filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(text).then(|| format!("{} {line}", entry.file_name().to_string_lossy()))
        })
        .collect()
}

/// Kills one process.
pub fn kill9(pid: i32) {
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}
