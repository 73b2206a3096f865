//! A machine over SSH, by the client that people have: with the keys that they have confirmed, and no others.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::failure::{Failure, one_line};

const SCANNED_WITHIN: Duration = Duration::from_secs(20);
const DONE_WITHIN: Duration = Duration::from_secs(900);

/// See the module.
pub(super) struct Remote {
    user: String,
    host: String,
    port: u16,
    identity: Option<PathBuf>,
    /// Lines of `known_hosts`, each with its fingerprint.
    keys: Vec<(String, String)>,
    fingerprints: Vec<String>,
    known: PathBuf,
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Public keys: left behind they harm nobody.
        let _ = std::fs::remove_file(&self.known);
    }
}

impl Remote {
    /// Asks a machine for its keys.
    pub async fn find(target: &str, port: u16, identity: Option<&Path>) -> Result<Self, Failure> {
        let (user, host) = target.split_once('@').unwrap_or(("root", target));
        let is_plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte))
        };
        if !is_plain(user) || !is_plain(host) {
            return Err(Failure::input("give the machine as USER@HOST"));
        }
        let mut scan = Command::new("ssh-keyscan");
        scan.args(["-T", "10", "-p", &port.to_string(), "--", host]);
        let scanned = output(scan, &[], SCANNED_WITHIN).await?;
        let mut keys = Vec::new();
        for line in String::from_utf8_lossy(&scanned.stdout).lines().filter(|line| !line.starts_with('#')) {
            if line.contains(" ssh-ed25519 ") || line.contains(" ecdsa-") {
                keys.push((line.to_owned(), fingerprint(line).await?));
            }
        }
        if keys.is_empty() {
            return Err(Failure::failed(format!("{host} does not answer on port {port}, or has no SSH host key")));
        }
        let known = std::env::temp_dir().join(format!("pinacle-known-{}", std::process::id()));
        let fingerprints = keys.iter().map(|(_, print)| print.clone()).collect();
        let (user, host) = (user.to_owned(), host.to_owned());
        Ok(Self { user, host, port, identity: identity.map(Path::to_path_buf), keys, fingerprints, known })
    }

    /// The fingerprints of its keys, as `SHA256:…`.
    pub fn offered(&self) -> &[String] {
        &self.fingerprints
    }

    /// Trusts the key of this fingerprint alone, rather than all that it has shown; says whether it is there.
    pub fn accept(&mut self, fingerprint: &str) -> bool {
        self.keys.retain(|(_, print)| print == fingerprint);
        !self.keys.is_empty()
    }

    /// Whether commands run as root there.
    pub fn is_root(&self) -> bool {
        self.user == "root"
    }

    /// Runs a command with this on its standard input, and returns what it wrote.
    pub async fn run(&self, command: &str, input: &[u8]) -> Result<String, Failure> {
        let output = output(self.command(command)?, input, DONE_WITHIN).await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::failed(format!("{}: {}", self.host, one_line(&said))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command whose output people see.
    pub async fn show(&self, command: &str) -> Result<(), Failure> {
        let mut command = self.command(command)?;
        command.stdin(Stdio::null());
        let status = timeout(DONE_WITHIN, command.status()).await.context("it does not end")?.context("run ssh")?;
        if status.success() { Ok(()) } else { Err(Failure::failed(format!("{} did not become a host", self.host))) }
    }

    fn command(&self, remote: &str) -> Result<Command, Failure> {
        let lines: Vec<&str> = self.keys.iter().map(|(line, _)| line.as_str()).collect();
        let known = &self.known;
        std::fs::write(known, lines.join("\n") + "\n").with_context(|| format!("cannot write {}", known.display()))?;
        let mut command = Command::new("ssh");
        let file: OsString = [OsString::from("UserKnownHostsFile="), known.clone().into()].into_iter().collect();
        command.arg("-o").arg(file);
        command.args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes"]);
        command.args(["-o", "ConnectTimeout=15", "-o", "LogLevel=ERROR", "-T", "-p", &self.port.to_string()]);
        if let Some(identity) = &self.identity {
            command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]).arg(identity);
        }
        command.args(["-l", &self.user, "--", &self.host, remote]);
        command.kill_on_drop(true);
        Ok(command)
    }
}

async fn fingerprint(line: &str) -> Result<String, Failure> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-l", "-f", "-"]);
    let output = output(command, line.as_bytes(), SCANNED_WITHIN).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let print = text.split_whitespace().find(|word| word.starts_with("SHA256:"));
    Ok(print.context("ssh-keygen prints no fingerprint")?.to_owned())
}

/// Runs a program with this on its standard input.
async fn output(mut command: Command, input: &[u8], within: Duration) -> Result<Output, Failure> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot run {program}: is OpenSSH's client installed?"))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // Whoever does not read it says why on standard error.
            let _ = stdin.write_all(input).await;
        }
    };
    let both = async { tokio::join!(child.wait_with_output(), feed).0 };
    Ok(timeout(within, both).await.with_context(|| format!("{program} does not end"))?.context("wait for it")?)
}
