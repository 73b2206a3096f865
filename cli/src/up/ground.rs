//! What pods stand on: Docker with gVisor, and an SSH server by which the orchestrator comes in. A machine that has not
//! got it is watched all the same.

use std::{
    fs::{self, DirBuilder},
    os::unix::{fs::DirBuilderExt, net::UnixStream},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    docker::{self, Docker},
    filter,
    home::Home,
    part::find_program,
    ssh::Ssh,
    start::Shown,
    supervise::{Parts, State, first_ready},
};
use crate::{
    failure::Failure,
    progress::{Console, Step},
};

/// This machine as a host for pods.
pub(super) struct Ground {
    /// What the services are told of it.
    pub told: Told,
    pending: Vec<(watch::Receiver<State>, Step)>,
}

/// Where everything is.
#[derive(Clone)]
pub(super) struct Told {
    /// Docker's socket.
    pub docker: PathBuf,
    /// The SSH server's port on loopback.
    pub ssh_port: u16,
    /// The folder with its public host key.
    pub keys: PathBuf,
}

impl Ground {
    /// Starts what is not there. In one line why pods cannot run on this machine.
    pub async fn prepare(
        home: &Home,
        docker_socket: &Path,
        console: &Console,
        parts: &mut Parts,
        shown: &mut Vec<Shown>,
    ) -> Result<Self, String> {
        if !geteuid().is_root() {
            return Err("that takes root: start with sudo make up".into());
        }
        if find_program("docker").is_none() {
            return Err("Docker's command line is not installed: scripts/setup run installs it".into());
        }
        let ssh = Ssh::find()?;
        let docker = Docker::find(docker_socket).await?;
        let told = |failure: Failure| failure.line();
        let run = run_folder(home);
        if matches!(docker, Docker::Own(..))
            && let Some(other) = another_runs(&run)
        {
            // Their pods would be on the same bridges, and at the same ports.
            return Err(format!("another Pinacle runs pods here, by {}: stop that one first", other.display()));
        }
        make(&run).map_err(told)?;
        let socket = docker.socket(&run);
        let ssh_port = ssh.prepare(home, &run, &socket).await.map_err(told)?;
        let mut pending = Vec::new();
        if let Some(part) = docker.part(home, &run).map_err(told)? {
            filter::note(Path::new(RUN), &run).await;
            pending.push((parts.start(part), console.step("docker")));
        }
        pending.push((parts.start(ssh.part(&run, ssh_port)), console.step("ssh")));
        shown.push(("docker".into(), socket.display().to_string(), "runs pods"));
        shown.push(("ssh".into(), format!("127.0.0.1:{ssh_port}"), "the way to its commands"));
        Ok(Self { told: Told { docker: socket, ssh_port, keys: run }, pending })
    }

    /// Waits until all of it is ready. In one line why it is not.
    pub async fn ready(self) -> Result<Told, String> {
        for (state, step) in self.pending {
            match first_ready(state, |waits_for| step.note(waits_for)).await {
                Ok(()) => step.done(""),
                Err(failure) => {
                    step.failed();
                    return Err(failure.line());
                }
            }
        }
        Ok(self.told)
    }
}

/// Where the folders of all installations are.
const RUN: &str = "/run/pinacle";

/// A folder of this installation's own that is gone after the next boot. Its path is short, since sockets are in it, and
/// nobody but root may change anything on the way to it, which sshd insists on.
fn run_folder(home: &Home) -> PathBuf {
    let path = home.folder.root().canonicalize().unwrap_or_else(|_| home.folder.root().to_owned());
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let tag: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Path::new(RUN).join(tag)
}

fn make(run: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(run);
    Ok(made.with_context(|| format!("cannot make the folder {}", run.display()))?)
}

/// Removes what only counts while `up` runs.
pub(super) async fn clear(home: &Home) {
    let run = run_folder(home);
    let filter_is_ours = filter::is_ours(&run);
    // Docker may have left a mount in it when it had to be killed; then the next boot clears it.
    let _ = fs::remove_dir_all(&run);
    // Fails while another installation has its own in it.
    let _ = fs::remove_dir(RUN);
    if filter_is_ours && another_runs(&run).is_none() {
        filter::clear().await;
    }
}

/// The socket of another installation's Docker that runs, which needs its rules. The folder of one that was killed proves
/// nothing.
fn another_runs(run: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(RUN).into_iter().flatten().flatten().map(|folder| folder.path());
    let sockets = folders.filter(|folder| folder != run).map(|folder| folder.join(docker::SOCKET));
    sockets.into_iter().find(|socket| UnixStream::connect(socket).is_ok())
}
