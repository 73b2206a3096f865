//! An OpenSSH server of the test's own, on loopback.

use std::{fs, path::PathBuf, process::Command as Program, sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pinacle_bus::{contract::PodId, settings::Secret};
use pinacle_orchestrator::ssh::{
    Command, ConnectError, Endpoint, Finished, HostConnection, SshError, SshSettings, fence_file,
};
use pinacle_tests::{Launch, Process, Sandbox, eventually, machine};
use tokio_util::sync::CancellationToken;

/// A host: an sshd that lets root in with one key.
pub struct Host {
    pub sshd: Process,
    pub sandbox: Sandbox,
    port: u16,
}

impl Host {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more lines in its configuration; of an option given twice sshd takes the first.
    pub async fn start_with(options: &str) -> Self {
        assert!(machine::is_root(), "sshd lets the test in as root");
        // Debian makes it when its own service starts.
        fs::create_dir_all("/run/sshd").unwrap();
        let sandbox = Sandbox::new();
        for (name, kind) in
            [("host_ed25519", "ed25519"), ("host_ecdsa", "ecdsa"), ("client", "ed25519"), ("stranger", "ed25519")]
        {
            make_key(&sandbox, name, kind);
        }
        fs::copy(sandbox.path().join("client.pub"), sandbox.path().join("authorized_keys")).unwrap();
        let port = machine::free_port();
        let folder = sandbox.path().display();
        // A home of its own, so that nobody's start-up files take part.
        let configuration = format!(
            "{options}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_ed25519\nHostKey {folder}/host_ecdsa\n\
             AuthorizedKeysFile {folder}/authorized_keys\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nLogLevel VERBOSE\nSetEnv HOME={folder}\n"
        );
        fs::write(sandbox.path().join("sshd_config"), configuration).unwrap();
        let sshd = Launch::program(machine::tool("sshd"))
            .in_sandbox(&sandbox)
            .args(["-D", "-e", "-f"])
            .arg(sandbox.path().join("sshd_config"))
            .ready_line("Server listening")
            .start()
            .await;
        Self { sshd, sandbox, port }
    }

    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn public_key(&self, name: &str) -> String {
        let line = fs::read_to_string(self.sandbox.path().join(format!("{name}.pub"))).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            address: "127.0.0.1".into(),
            port: self.port,
            user: "root".into(),
            host_keys: vec![self.public_key("host_ed25519")],
            lima_name: None,
        }
    }

    pub fn settings(&self) -> SshSettings {
        SshSettings {
            keys: Secret::new(fs::read_to_string(self.sandbox.path().join("client")).unwrap()).into(),
            channels: 8,
            connect_within: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            limactl: "limactl".into(),
        }
    }

    pub fn connection(&self) -> HostConnection {
        self.connection_to(self.endpoint())
    }

    pub fn connection_to(&self, endpoint: Endpoint) -> HostConnection {
        HostConnection::new(endpoint, Arc::new(self.settings()))
    }

    /// The processes that serve connections: one each.
    pub fn connections(&self) -> Vec<i32> {
        let listener = self.sshd.pid();
        fs::read_to_string(format!("/proc/{listener}/task/{listener}/children"))
            .unwrap()
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    pub fn signal_connections(&self, signal: Signal) {
        for pid in self.connections() {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
    }

    /// As a restart of the machine would: every connection breaks. What runs there goes on, as its machine does not.
    pub async fn restart(&mut self) {
        self.signal_connections(Signal::SIGKILL);
        self.sshd.restart().await;
    }

    pub fn logins(&self) -> usize {
        self.sshd.log_text().matches("Accepted publickey").count()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.sandbox.path().join(name)
    }

    /// What the host's file holds, once it does.
    pub async fn written(&self, name: &str) -> String {
        let path = self.file(name);
        eventually(Duration::from_secs(10), &format!("{name} to be written"), async || {
            fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        })
        .await
        .trim()
        .to_owned()
    }
}

fn make_key(sandbox: &Sandbox, name: &str, kind: &str) {
    let made = Program::new(machine::tool("ssh-keygen"))
        .args(["-q", "-N", "", "-t", kind, "-f"])
        .arg(sandbox.path().join(name))
        .status()
        .unwrap();
    assert!(made.success());
}

/// A pod whose fence is removed from this machine at the end.
pub struct Fenced(pub PodId);

impl Fenced {
    pub fn new() -> Self {
        Self(PodId::new())
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        let _ = fs::remove_file(fence_file(self.0));
    }
}

pub async fn run(connection: &HostConnection, command: &Command) -> Result<Finished, SshError> {
    connection.run_unrecorded(command, &CancellationToken::new()).await
}

/// Standard output of a script that succeeds.
pub async fn output(connection: &HostConnection, script: &str) -> String {
    let finished = run(connection, &Command::shell(script)).await.unwrap();
    assert!(finished.is_success(), "{finished:?}");
    finished.stdout.text().trim().to_owned()
}

pub fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

pub async fn gone(pid: &str, within: Duration) {
    eventually(within, &format!("process {pid} to end"), async || !is_alive(pid)).await;
}

pub fn refusal(outcome: Result<Finished, SshError>) -> ConnectError {
    match outcome {
        Err(SshError::Connect(error)) => error,
        other => panic!("{other:?}"),
    }
}
