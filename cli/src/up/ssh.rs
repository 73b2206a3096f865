//! The SSH server through which the orchestrator reaches this machine: the very way in which it reaches any other host.
//! On loopback, for the orchestrator's key alone, with nothing but commands.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::{process::Command, time::timeout};

use super::{
    home::{Home, write_private},
    log::Dialect,
    part::{Part, find_program},
    ports,
    probe::Probe,
};
use crate::failure::{Failure, one_line};

/// The public key of the orchestrator, as it was told last: it is let in before the gateway can tell it again.
const LET_IN: &str = "run/ssh_key.pub";
/// The file of keys that are let in. The server tells it to whoever logs in, for the exchange of keys.
const AUTHORIZED_KEYS: &str = "authorized_keys";
const HOST_KEY: &str = "ssh_host_key";
/// Whom it logs in as: Docker, the packet filter and the fences of pods are root's.
pub(super) const USER: &str = "root";
const TOOL_DEADLINE: Duration = Duration::from_secs(30);
const STOP: &[(Signal, Duration)] = &[(Signal::SIGTERM, Duration::from_secs(5))];

/// The server's program, and that which makes keys.
pub(super) struct Ssh {
    server: PathBuf,
    keygen: PathBuf,
}

impl Ssh {
    /// Finds the programs, or says in one line what is missing.
    pub fn find() -> Result<Self, String> {
        match (find_program("sshd"), find_program("ssh-keygen")) {
            (Some(server), Some(keygen)) => Ok(Self { server, keygen }),
            _ => Err("no SSH server is installed: scripts/setup run installs openssh-server".into()),
        }
    }

    /// Makes the keys the first time, and writes what the server reads into `run`. The public host key is there, too,
    /// for the agent. Returns the port.
    pub async fn prepare(&self, home: &Home, run: &Path, docker: &Path) -> Result<u16, Failure> {
        let host = self.public_key(home, HOST_KEY).await.context("cannot make an SSH host key")?;
        let port = port(home)?;
        let keys = run.join(AUTHORIZED_KEYS);
        write_private(&keys, &fs::read_to_string(home.folder.path(LET_IN)).unwrap_or_default())?;
        write_private(&run.join("host_key.pub"), &format!("{host}\n"))?;
        let pam = if is_locked() { "yes" } else { "no" };
        let configuration = format!(
            "# Written anew by each pinacle up.\n\
             ListenAddress 127.0.0.1\nPort {port}\nPidFile none\n\
             HostKey \"{host_key}\"\n\
             AuthorizedKeysFile {keys}\n\
             AllowUsers {USER}\nPermitRootLogin prohibit-password\n\
             AuthenticationMethods publickey\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             # A locked account may log in by key through PAM alone.\n\
             UsePAM {pam}\n\
             DisableForwarding yes\nPermitUserRC no\nPermitTTY no\n\
             MaxSessions 10\nMaxStartups 10\nLoginGraceTime 20\nClientAliveInterval 15\n\
             UseDNS no\nPrintMotd no\nPrintLastLog no\n\
             # At this level bash leaves a person's .bashrc alone, which would cost each command its time.\n\
             SetEnv DOCKER_HOST=unix://{docker} SHLVL=1 PINACLE_AUTHORIZED_KEYS={keys}\n",
            host_key = home.folder.secret(HOST_KEY).display(),
            keys = keys.display(),
            docker = docker.display(),
        );
        write_private(&run.join("sshd_config"), &configuration)?;
        // The server's own folder for its helper, compiled into it.
        let made = DirBuilder::new().recursive(true).mode(0o755).create("/run/sshd");
        made.context("cannot make the folder /run/sshd")?;
        Ok(port)
    }

    /// The public half of a key pair, whose private half is made if need be.
    async fn public_key(&self, home: &Home, name: &str) -> anyhow::Result<String> {
        let path = home.folder.secret(name);
        if !path.exists() {
            let unfinished = path.with_extension("new");
            // A start that was cut off may have left them.
            for left in [&unfinished, &unfinished.with_extension("new.pub")] {
                let _ = fs::remove_file(left);
            }
            self.run(&["-q", "-t", "ed25519", "-N", "", "-C", "pinacle", "-f"], &unfinished).await?;
            fs::remove_file(unfinished.with_extension("new.pub"))?;
            fs::rename(&unfinished, &path)?;
        }
        Ok(self.run(&["-y", "-f"], &path).await?.trim().to_owned())
    }

    async fn run(&self, arguments: &[&str], file: &Path) -> anyhow::Result<String> {
        let mut command = Command::new(&self.keygen);
        command.args(arguments).arg(file).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = timeout(TOOL_DEADLINE, command.output()).await.context("ssh-keygen does not end")??;
        if !output.status.success() {
            bail!("ssh-keygen: {}", one_line(&String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The server as a part.
    pub fn part(&self, run: &Path, port: u16) -> Part {
        Part {
            name: "ssh",
            program: self.server.clone(),
            arguments: vec!["-D".into(), "-e".into(), "-f".into(), run.join("sshd_config").into()],
            environment: Vec::new(),
            account: None,
            _door: None,
            death_signal: "TERM",
            stop: STOP,
            probe: Probe::Ssh(port),
            dialect: Dialect::Other,
            start_deadline: Duration::from_secs(20),
        }
    }
}

/// Lets in who has the private half of this key, and nobody else.
pub(super) fn let_in(home: &Home, run: &Path, public_key: &str) -> Result<(), Failure> {
    let line = format!("restrict {public_key}\n");
    write_private(&home.folder.path(LET_IN), &line)?;
    write_private(&run.join(AUTHORIZED_KEYS), &line)
}

/// That of last time, so that the host's record stays as it is, else any free one.
fn port(home: &Home) -> Result<u16, Failure> {
    let note = home.folder.path("run/ssh.port");
    let last = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let port = ports::free(last).context("ssh: no free port")?;
    fs::write(&note, port.to_string()).with_context(|| format!("cannot write {}", note.display()))?;
    Ok(port)
}

/// Whether the user's password is locked, which sshd by itself takes for a locked account.
fn is_locked() -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    shadow.lines().any(|line| line.strip_prefix(USER).is_some_and(|rest| rest.starts_with(":!")))
}
