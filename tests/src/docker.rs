//! A Docker daemon of a test's own, with runc and gVisor: own data, own socket, own containerd, own bridge, no rule in
//! the machine's packet filter. Another daemon on the machine is not touched. One at a time on a machine.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rand::RngExt;
use serde_json::json;

use crate::{
    eventually, leftovers, machine,
    process::{Launch, Process, run},
    sandbox::{self, Sandbox},
};

/// The image that containers run: busybox and nothing else.
pub const IMAGE: &str = "pinacle-test:latest";
/// The bridge network that containers are on.
pub const NETWORK: &str = "lab";

const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// Another test may have Docker for as long as a test may take.
const TURN_WITHIN: Duration = Duration::from_secs(600);

/// What runs a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The kernel's own isolation.
    Runc,
    /// gVisor.
    Runsc,
}

impl Runtime {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Runc, Self::Runsc];

    /// As Docker calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Runsc => "runsc",
        }
    }
}

/// A Docker daemon. Its containers end with it.
pub struct Docker {
    // Dropped in this order: the daemons before what they hold.
    dockerd: Process,
    containerd: Process,
    holdings: Holdings,
    _turn: File,
}

/// What the daemon has outside of its processes; let go of when dropped.
struct Holdings {
    sandbox: Sandbox,
}

impl Drop for Holdings {
    fn drop(&mut self) {
        leftovers::release(self.sandbox.path());
    }
}

impl Docker {
    /// Starts one, with its image and its network.
    ///
    /// # Panics
    /// Also when the tests do not run as root, which Docker takes.
    pub async fn start() -> Self {
        assert!(machine::is_root(), "tests with Docker take root: run the tests with sudo");
        let turn = turn().await;
        let sandbox = Sandbox::new();
        let folder = sandbox.path().to_owned();
        let tag = folder.file_name().unwrap().to_string_lossy().into_owned();
        let group = format!("pinacle-test-{tag}");
        fs::write(folder.join(leftovers::CGROUP), &group).unwrap();
        // At most 15 letters.
        let bridge = format!("pt{tag}");
        fs::write(folder.join(leftovers::LINKS), &bridge).unwrap();
        let holdings = Holdings { sandbox };

        let containerd = start_containerd(&holdings.sandbox).await;
        let dockerd = start_dockerd(&holdings.sandbox, &group).await;
        let docker = Self { dockerd, containerd, holdings, _turn: turn };
        docker.make_image();
        docker.make_network(&bridge);
        docker
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("docker.sock")
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.holdings.sandbox.path()
    }

    /// Runs the `docker` program and returns what it wrote.
    ///
    /// # Panics
    /// When it fails.
    pub fn docker(&self, arguments: &[&str]) -> String {
        run(self.client().args(arguments)).trim().to_owned()
    }

    fn client(&self) -> Command {
        let mut client = Command::new(machine::tool("docker"));
        client.env("DOCKER_HOST", format!("unix://{}", self.socket().display())).env("DOCKER_CONFIG", self.folder());
        client
    }

    /// Starts a container with these labels that runs a command of busybox's. Returns its id.
    pub fn run(&self, runtime: Runtime, labels: &[(&str, &str)], command: &[&str]) -> String {
        self.run_with(runtime, labels, &[], command)
    }

    /// The same with further options of `docker run`, such as `--memory=64m`.
    pub fn run_with(&self, runtime: Runtime, labels: &[(&str, &str)], options: &[&str], command: &[&str]) -> String {
        let mut client = self.client();
        client.args(["run", "--detach", "--runtime", runtime.name(), "--network", NETWORK]);
        for (name, value) in labels {
            client.args(["--label", &format!("{name}={value}")]);
        }
        run(client.args(options).arg(IMAGE).args(command)).lines().last().unwrap_or_default().to_owned()
    }

    /// Runs a command in a container that runs, and returns what it wrote.
    pub fn exec(&self, container: &str, command: &[&str]) -> String {
        let mut arguments = vec!["exec", container];
        arguments.extend(command);
        self.docker(&arguments)
    }

    /// Kills containers and removes them.
    pub fn remove(&self, containers: &[&str]) {
        let mut arguments = vec!["rm", "--force", "--volumes"];
        arguments.extend(containers);
        self.docker(&arguments);
    }

    /// The process that Docker counts as the container's first, on this machine.
    pub fn pid_of(&self, container: &str) -> u32 {
        self.docker(&["inspect", "--format", "{{.State.Pid}}", container]).parse().unwrap()
    }

    /// Stops the daemon in order; its containers stop, too.
    pub async fn stop(&mut self) {
        self.dockerd.sigterm(STARTS_WITHIN).await;
    }

    /// Kills the daemon; its containers run on.
    pub async fn kill9(&mut self) {
        self.dockerd.kill9().await;
    }

    /// Starts the daemon again; kills it first if it runs. Containers that ran are stopped, as Docker does by default.
    pub async fn restart(&mut self) {
        // The lock file of a killed daemon would be taken for a live one's if its number is in use again.
        let _ = fs::remove_file(self.folder().join("docker.pid"));
        self.dockerd.restart_unready();
        await_socket(&mut self.dockerd, &self.holdings.sandbox.path().join("docker.sock")).await;
    }

    /// The daemon's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.dockerd
    }

    /// The process of its containerd.
    pub fn containerd(&mut self) -> &mut Process {
        &mut self.containerd
    }

    fn make_image(&self) {
        let archive = make_root(&self.holdings.sandbox);
        self.docker(&["import", "--change", "ENV PATH=/bin", archive.to_str().unwrap(), IMAGE]);
    }

    fn make_network(&self, bridge: &str) {
        // Another subnet each time: Docker refuses one that the machine has a route to.
        let mut refused = String::new();
        for _ in 0..10 {
            let subnet = format!("{}/24", Ipv4Addr::new(10, 213, rand::rng().random_range(0..=255), 0));
            let name = format!("com.docker.network.bridge.name={bridge}");
            let output =
                self.client().args(["network", "create", "--subnet", &subnet, "-o", &name, NETWORK]).output().unwrap();
            if output.status.success() {
                return;
            }
            refused = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        panic!("cannot make a Docker network: {refused}");
    }
}

/// The archive of a root file system with busybox and nothing else.
pub(crate) fn make_root(sandbox: &Sandbox) -> PathBuf {
    let root = sandbox.folder("image");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "run"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    let busybox = machine::tool("busybox");
    fs::copy(&busybox, root.join("bin/busybox")).unwrap();
    for applet in run(Command::new(&busybox).arg("--list")).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let archive = sandbox.path().join("image.tar");
    run(Command::new(machine::tool("tar")).arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
    archive
}

/// Waits until no other test on this machine has Docker; it is the caller's for as long as the file is open.
///
/// # Panics
/// When the others do not end.
pub async fn turn() -> File {
    let lock = File::create(sandbox::base().join("docker.lock")).unwrap();
    eventually(TURN_WITHIN, "the other test with Docker to end", async || lock.try_lock()).await;
    lock
}

/// A containerd of its own: the daemon would otherwise share that of the machine, and its containers with it.
async fn start_containerd(sandbox: &Sandbox) -> Process {
    let folder = sandbox.folder("containerd");
    let socket = folder.join("containerd.sock");
    let mut plugins = toml::Table::new();
    // Where to put its helper's files: the default is the machine's.
    plugins.insert(
        "io.containerd.internal.v1.opt".into(),
        toml::Table::from_iter([("path".into(), text(&folder.join("opt")))]).into(),
    );
    let configuration = toml::Table::from_iter([
        ("version".into(), toml::Value::Integer(2)),
        ("root".into(), text(&folder.join("root"))),
        ("state".into(), text(&folder.join("state"))),
        ("disabled_plugins".into(), toml::Value::Array(vec!["io.containerd.grpc.v1.cri".into()])),
        ("grpc".into(), toml::Table::from_iter([("address".into(), text(&socket))]).into()),
        ("plugins".into(), plugins.into()),
    ]);
    let file = folder.join("config.toml");
    fs::write(&file, toml::to_string(&configuration).unwrap()).unwrap();
    let mut containerd =
        Launch::program(machine::tool("containerd")).in_sandbox(sandbox).arg("--config").arg(&file).spawn();
    await_socket(&mut containerd, &socket).await;
    containerd
}

fn text(path: &Path) -> toml::Value {
    toml::Value::String(path.display().to_string())
}

async fn start_dockerd(sandbox: &Sandbox, group: &str) -> Process {
    let folder = sandbox.path();
    let configuration = json!({
        "runtimes": {
            // In the container's own network namespace, which this old release's "host" means; ptrace works everywhere.
            "runsc": { "path": machine::tool("runsc"), "runtimeArgs": ["--network=host", "--platform=ptrace"] },
        },
    });
    let file = folder.join("daemon.json");
    fs::write(&file, configuration.to_string()).unwrap();
    let socket = folder.join("docker.sock");
    let mut dockerd = Launch::program(machine::tool("dockerd"))
        .in_sandbox(sandbox)
        .arg("--config-file")
        .arg(&file)
        .arg("--data-root")
        .arg(sandbox.folder("data"))
        .arg("--exec-root")
        .arg(sandbox.folder("exec"))
        .arg("--pidfile")
        .arg(folder.join("docker.pid"))
        .arg("--host")
        .arg(format!("unix://{}", socket.display()))
        .arg("--containerd")
        .arg(folder.join("containerd/containerd.sock"))
        .args(["--cgroup-parent", &format!("/{group}"), "--exec-opt", "native.cgroupdriver=cgroupfs"])
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"])
        .spawn();
    await_socket(&mut dockerd, &socket).await;
    dockerd
}

/// Waits until the daemon answers on its socket.
async fn await_socket(daemon: &mut Process, socket: &Path) {
    let name = daemon.name().to_owned();
    let ended = eventually(STARTS_WITHIN, &format!("{name} to answer"), async || {
        if let Some(status) = daemon.poll() {
            return Ok(Some(status));
        }
        tokio::net::UnixStream::connect(socket).await.map(|_| None).map_err(|error| error.to_string())
    })
    .await;
    if let Some(status) = ended {
        panic!("{name} ended: {status}\n{}", daemon.tail());
    }
}
