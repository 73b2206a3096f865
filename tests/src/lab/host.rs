//! One host of the lab.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pinacle_bus::contract::HostId;
use serde_json::json;

use super::{
    IMAGE, Lab, Net,
    inside::{Inside, child_of},
    ip,
};
use crate::{Process, Sandbox, eventually, leftovers, machine, process::run};

const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The end of a host's link on the machine's side has this name, and a number.
const LINK: &str = "plh";
const SSH_PORT: u16 = 22;
const HOST_KEY: &str = "host_ed25519_key";

/// A host: what is inside its namespaces, and the link that leads there.
pub struct Host {
    // Dropped in this order: what runs inside before the inside.
    agent: Option<Process>,
    sshd: Option<Process>,
    dockerd: Option<Process>,
    inside: Option<Inside>,
    pub(super) starting: Option<Process>,
    pub(super) name: String,
    pub(super) address: String,
    gateway: String,
    link: String,
    bridge: String,
    pub(super) folder: PathBuf,
    pub(super) sandbox: Sandbox,
    pub(super) group: String,
    disk_bytes: Option<u64>,
    environment: Vec<(String, String)>,
    program: PathBuf,
}

impl Host {
    pub(super) fn new(lab: &Lab, net: &Net, name: &str, number: usize, disk_bytes: Option<u64>) -> Self {
        let sandbox = lab.holdings.sandbox.clone();
        let folder = sandbox.folder(name);
        let group = fs::read_to_string(sandbox.path().join(leftovers::CGROUP)).unwrap();
        Self {
            agent: None,
            sshd: None,
            dockerd: None,
            inside: None,
            starting: None,
            name: name.into(),
            address: net.address(number),
            gateway: net.gateway(),
            link: format!("{LINK}{}x{number}", net.number),
            bridge: net.bridge.clone(),
            folder,
            sandbox,
            group,
            disk_bytes,
            environment: Vec::new(),
            program: machine::service("pinacle-agent"),
        }
    }

    pub(super) fn begin(lab: &Lab, net: &Net, name: &str, number: usize, disk_bytes: Option<u64>) -> Self {
        let mut host = Self::new(lab, net, name, number, disk_bytes);
        host.starting = Some(Inside::begin(&host.sandbox, &host.folder, &host.name, disk_bytes));
        host.make_host_key();
        host
    }

    /// Namespaces, link, SSH server, Docker with these images, agent.
    pub(super) async fn come_up(&mut self, images: &[(PathBuf, Option<&str>)], environment: &[(String, String)]) {
        self.environment = environment.to_vec();
        self.enter().await;
        self.start_dockerd();
        self.start_sshd().await;
        self.await_docker().await;
        for (archive, command) in images {
            let archive = archive.to_str().unwrap();
            match command {
                Some(command) => {
                    self.docker(&["import", "--change", "ENV PATH=/bin", "--change", command, archive, IMAGE]);
                }
                None => drop(self.docker(&["load", "--quiet", "--input", archive])),
            }
        }
        self.start_agent().await;
    }

    pub(super) async fn enter(&mut self) {
        let starting = self.starting.take().expect("the host is about to start");
        let inside = Inside::wait(starting, &self.folder).await;
        let pid = inside.pid().to_string();
        ip(&["link", "add", &self.link, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        ip(&["link", "set", &self.link, "master", &self.bridge, "up"]);
        for arguments in [
            vec!["address", "add", &format!("{}/24", self.address), "dev", "eth0"],
            vec!["link", "set", "eth0", "up"],
            vec!["route", "add", "default", "via", &self.gateway],
        ] {
            run(inside.on_network("ip").args(arguments));
        }
        self.inside = Some(inside);
    }

    pub(super) fn inside(&self) -> &Inside {
        self.inside.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    fn make_host_key(&self) {
        for name in [HOST_KEY, "host_ed25519_key.pub"] {
            let _ = fs::remove_file(self.folder.join("ssh").join(name));
        }
        let key = self.folder.join("ssh").join(HOST_KEY);
        run(Command::new(machine::tool("ssh-keygen")).args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(key));
    }

    async fn start_sshd(&mut self) {
        let folder = self.folder.join("ssh");
        let let_in = folder.join("authorized_keys");
        if !let_in.exists() {
            fs::copy(self.sandbox.path().join("client.pub"), &let_in).unwrap();
        }
        // A home of its own, so that nobody's start-up files take part.
        let configuration = format!(
            "Port {SSH_PORT}\nListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nLogLevel VERBOSE\n\
             SetEnv HOME={} PINACLE_AUTHORIZED_KEYS={} PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
            self.address,
            folder.join(HOST_KEY).display(),
            let_in.display(),
            folder.display(),
            let_in.display(),
        );
        let file = folder.join("sshd_config");
        fs::write(&file, configuration).unwrap();
        let sshd = self
            .inside()
            .launch("sshd")
            .named(&format!("{}-sshd", self.name))
            .in_sandbox(&self.sandbox)
            .args(["-D", "-e", "-f"])
            .arg(&file)
            .ready_line("Server listening")
            .start()
            .await;
        self.sshd = Some(sshd);
    }

    fn start_dockerd(&mut self) {
        let configuration = json!({
            "runtimes": {
                // In the container's own network namespace, which this old release's "host" means; ptrace works everywhere.
                "runsc": { "path": machine::tool("runsc"), "runtimeArgs": ["--network=host", "--platform=ptrace"] },
            },
        });
        let file = self.folder.join("daemon.json");
        fs::write(&file, configuration.to_string()).unwrap();
        // The lock files of a killed daemon would be taken for a live one's if its number is in use again.
        for stale in ["run/docker.pid", "run/docker/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.folder.join(stale));
        }
        let dockerd = self
            .inside()
            .launch("dockerd")
            .named(&format!("{}-dockerd", self.name))
            .in_sandbox(&self.sandbox)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("--config-file")
            .arg(&file)
            .arg("--data-root")
            .arg(self.folder.join("docker"))
            .args(["--cgroup-parent", &format!("/{}", self.group), "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .spawn();
        self.dockerd = Some(dockerd);
    }

    async fn await_docker(&mut self) {
        let socket = self.socket();
        let dockerd = self.dockerd.as_mut().expect("dockerd was started");
        let ended = eventually(STARTS_WITHIN, "dockerd to answer", async || {
            if let Some(status) = dockerd.poll() {
                return Ok(Some(status));
            }
            let answers = Command::new(machine::tool("docker"))
                .env("DOCKER_HOST", format!("unix://{}", socket.display()))
                .args(["version", "--format", "{{.Server.Version}}"])
                .output()
                .unwrap();
            answers
                .status
                .success()
                .then_some(None)
                .ok_or_else(|| String::from_utf8_lossy(&answers.stderr).into_owned())
        })
        .await;
        if let Some(status) = ended {
            panic!("dockerd of {} ended: {status}\n{}", self.name, dockerd.tail());
        }
    }

    async fn start_agent(&mut self) {
        let admin = format!("{}:9105", self.address);
        let agent = self
            .inside()
            .launch(self.program.to_str().unwrap())
            .named(&format!("{}-agent", self.name))
            .in_sandbox(&self.sandbox)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PINACLE__AGENT__STATE_DIR", self.folder.join("agent"))
            .env("PINACLE__AGENT__DOCKER_SOCKET", "/run/docker.sock")
            .env("PINACLE__AGENT__HOSTNAME", &self.name)
            .env("PINACLE__AGENT__SSH_ADDRESS", &self.address)
            .env("PINACLE__AGENT__SSH_PORT", SSH_PORT.to_string())
            .env("PINACLE__AGENT__SSH_KEYS_DIR", self.folder.join("ssh"))
            .env("PINACLE__ADMIN__LISTEN", &admin)
            .ready_at(admin.parse().unwrap())
            .start()
            .await;
        self.agent = Some(agent);
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its Docker's socket, as seen from outside.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/docker.sock")
    }

    /// Its folder, as seen from outside.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its id, as its agent keeps it.
    pub async fn host_id(&self) -> HostId {
        eventually(STARTS_WITHIN, "the host's id", async || self.known_id().ok_or("it has none yet")).await
    }

    pub(super) fn known_id(&self) -> Option<HostId> {
        let files = fs::read_dir(self.folder.join("agent")).ok()?.flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).find_map(|text| text.trim().parse().ok())
    }

    /// Runs `docker` on it and returns what it wrote.
    ///
    /// # Panics
    /// When it fails.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(machine::tool("docker"));
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display())).args(arguments);
        run(&mut command).trim().to_owned()
    }

    /// The same when it may fail: whether it succeeded, and all that it wrote.
    pub fn try_docker(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(machine::tool("docker"))
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// Runs a script of `sh` inside and returns what it wrote.
    ///
    /// # Panics
    /// When it fails.
    pub fn shell(&self, script: &str) -> String {
        run(self.inside().command("sh").args(["-c", script])).trim().to_owned()
    }

    /// Nothing reaches it any more, and nothing that it sends.
    pub fn cut_off(&self) {
        ip(&["link", "set", &self.link, "down"]);
    }

    /// It is reachable again.
    pub fn reconnect(&self) {
        ip(&["link", "set", &self.link, "up"]);
    }

    /// Every command of Docker's there takes so much longer, as on a machine that is overloaded.
    pub fn slow_down(&self, delay: Duration) {
        let docker = machine::tool("docker");
        let script = format!("#!/bin/sh\nsleep {}\nexec {} \"$@\"\n", delay.as_secs_f64(), docker.display());
        let (new, program) = (self.folder.join("docker.new"), self.slow_docker());
        fs::write(&new, script).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, program).unwrap();
    }

    /// As fast as it was.
    pub fn full_speed(&self) {
        let _ = fs::remove_file(self.slow_docker());
    }

    /// Found before the real one by whoever logs in.
    fn slow_docker(&self) -> PathBuf {
        self.folder.join("sbin/docker")
    }

    /// Stops all that runs on it, as a machine that hangs.
    pub fn freeze(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.inside().processes() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
    }

    /// It loses its power.
    pub async fn kill(&mut self) {
        self.inside.as_mut().expect("it runs").kill().await;
        (self.agent, self.sshd, self.dockerd) = (None, None, None);
        self.inside = None;
    }

    /// It is switched on again: the same disks and keys, another boot.
    pub async fn boot(&mut self) {
        let _ = fs::remove_dir_all(self.folder.join("run"));
        self.starting = Some(Inside::begin(&self.sandbox, &self.folder, &self.name, self.disk_bytes));
        self.enter().await;
        self.start_dockerd();
        self.start_sshd().await;
        self.await_docker().await;
        self.start_agent().await;
    }

    /// The Docker daemon as it runs inside, without its containers.
    fn dockerd_pid(&self) -> Option<Pid> {
        let daemon = self.dockerd.as_ref()?;
        Some(Pid::from_raw(child_of(daemon.pid())?.cast_signed()))
    }

    /// Docker takes commands and never answers.
    pub fn freeze_dockerd(&self) {
        kill(self.dockerd_pid().unwrap(), Signal::SIGSTOP).unwrap();
    }

    /// Docker goes on.
    pub fn thaw_dockerd(&self) {
        kill(self.dockerd_pid().unwrap(), Signal::SIGCONT).unwrap();
    }

    /// Stops Docker, with the containers that run, and starts it again.
    pub async fn restart_dockerd(&mut self) {
        kill(self.dockerd_pid().unwrap(), Signal::SIGTERM).unwrap();
        let mut daemon = self.dockerd.take().unwrap();
        daemon.wait(STARTS_WITHIN).await;
        self.start_dockerd();
        self.await_docker().await;
    }

    /// Ends the SSH server and every connection, and starts it again.
    pub async fn restart_sshd(&mut self) {
        for pid in self.ssh_processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        self.sshd = None;
        self.start_sshd().await;
    }

    /// The SSH server and those of its processes that serve connections.
    fn ssh_processes(&self) -> Vec<Pid> {
        let is_sshd =
            |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.ends_with("sshd"));
        let all = self.inside().processes().into_iter();
        all.filter(is_sshd).map(|pid| Pid::from_raw(pid.cast_signed())).collect()
    }

    /// It is reinstalled, say: another host key.
    pub async fn change_host_key(&mut self) {
        self.make_host_key();
        self.restart_sshd().await;
    }

    /// Its agent tells of its keys as they are now.
    pub async fn announce_keys(&mut self) {
        if let Some(agent) = &mut self.agent {
            if let Some(pid) = child_of(agent.pid()) {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            agent.wait(STARTS_WITHIN).await;
        }
        self.start_agent().await;
    }

    /// Docker's disk is full.
    pub fn fill_disk(&self) {
        // It ends with "no space left", which is the purpose.
        self.shell(&format!(
            "dd if=/dev/zero of={}/filler bs=64k 2>/dev/null || true",
            self.folder.join("docker").display()
        ));
    }

    /// Docker's disk has room again.
    pub fn free_disk(&self) {
        self.shell(&format!("rm -f {}/filler", self.folder.join("docker").display()));
    }
}
