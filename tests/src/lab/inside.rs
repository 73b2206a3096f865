//! The inside of a host: its namespaces, and how to run something there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::Services;
use crate::{Launch, Process, Sandbox, eventually, machine};

/// What the first process makes when all is set up: in the host's folder, or in its root file system.
const READY: [&str; 2] = ["ready", "root/ready"];
/// The first process of a host: sets up what only it sees, and reaps what others leave. `$1` is the host's folder, `$2`
/// its name, `$3` the size of Docker's disk or empty.
const INIT: &str = r#"
set -e
mount --bind "$1/run" /run
mkdir -p /run/sshd /run/lock
mount --bind "$1/pinacle" /var/lib/pinacle
mount --bind "$1/sbin" /usr/local/sbin
if [ -n "$3" ]; then mount -t tmpfs -o "size=$3" docker "$1/docker"; fi
# Each start is another boot.
cat /proc/sys/kernel/random/uuid >"$1/boot_id"
mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
hostname "$2"
ip link set lo up
sysctl -q -w net.ipv4.ip_forward=1
touch "$1/ready"
trap : TERM
while :; do sleep 3600 & wait $!; done
"#;

/// What runs a host's first process in a control group of its own, and that process, of a host with a root file system.
const GROUPS: &str = include_str!("bare/groups.sh");
const BARE_INIT: &str = include_str!("bare/init.sh");

/// The namespaces of a host, with the process that holds them.
pub struct Inside {
    init: Process,
    pid: u32,
}

impl Inside {
    /// Makes them. Nothing runs in them yet but the first process.
    pub fn begin(sandbox: &Sandbox, folder: &Path, name: &str, disk_bytes: Option<u64>) -> Process {
        fs::create_dir_all("/var/lib/pinacle").unwrap();
        for inner in ["run", "pinacle", "sbin", "docker", "ssh", "agent"] {
            fs::create_dir_all(folder.join(inner)).unwrap();
        }
        Self::first_process(Launch::program(machine::tool("unshare")), sandbox, folder, name, INIT)
            .arg(disk_bytes.map(|bytes| bytes.to_string()).unwrap_or_default())
            .spawn()
    }

    /// The same for a host with a root file system of its own, in the folder's `root`, and a control group of its own.
    pub fn begin_bare(sandbox: &Sandbox, folder: &Path, name: &str, group: &str, services: Services) -> Process {
        let within = Launch::program(machine::tool("sh")).args(["-c", GROUPS, "groups", group]);
        let launch = within.arg(machine::tool("unshare"));
        Self::first_process(launch, sandbox, folder, name, BARE_INIT).arg(services.name()).spawn()
    }

    fn first_process(unshare: Launch, sandbox: &Sandbox, folder: &Path, name: &str, script: &str) -> Launch {
        READY.iter().for_each(|file| drop(fs::remove_file(folder.join(file))));
        unshare
            .named(&format!("{name}-init"))
            .in_sandbox(sandbox)
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", script, "init"])
            .arg(folder)
            .arg(name)
    }

    /// Waits until they are set up.
    pub async fn wait(init: Process, folder: &Path) -> Self {
        let parent = init.pid();
        eventually(Duration::from_secs(60), "a host's namespaces", async || {
            READY.iter().any(|file| folder.join(file).exists()).then_some(()).ok_or_else(|| init.tail())
        })
        .await;
        let pid = child_of(parent).expect("the first process of a host runs");
        Self { init, pid }
    }

    /// The first process, by its number on this machine.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A program to be started inside.
    pub fn launch(&self, program: &str) -> Launch {
        Launch::program(machine::tool("nsenter"))
            .args(["--target", &self.pid.to_string(), "--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--"])
            .arg(tool_inside(program))
    }

    /// A command to be run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(machine::tool("nsenter"));
        command
            .args(["--target", &self.pid.to_string(), "--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--"])
            .arg(tool_inside(program));
        command
    }

    /// A command of this machine's on its network alone.
    pub fn on_network(&self, program: &str) -> Command {
        let mut command = Command::new(machine::tool("nsenter"));
        command.args(["--target", &self.pid.to_string(), "--net", "--"]).arg(tool_inside(program));
        command
    }

    /// The end of what its first process has said.
    pub fn log(&self) -> String {
        self.init.tail()
    }

    /// The machine stops, as by loss of power.
    pub async fn kill(&mut self) {
        self.init.kill9().await;
    }

    /// All processes inside, those of containers too, by their numbers on this machine.
    pub fn processes(&self) -> Vec<u32> {
        let own = fs::read_link(format!("/proc/{}/ns/pid", self.pid)).ok();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let parents: BTreeMap<u32, u32> = all
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, parent_of(pid)?)))
            .collect();
        let is_here = |pid: u32| own.is_some() && fs::read_link(format!("/proc/{pid}/ns/pid")).ok() == own;
        // Containers have namespaces of their own within.
        let is_within = |pid: u32| {
            let mut line = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
            line.any(is_here)
        };
        parents.keys().copied().filter(|pid| is_within(*pid)).collect()
    }
}

/// The number of a process's parent.
fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// A program's path; our own are given whole.
fn tool_inside(program: &str) -> PathBuf {
    if program.contains('/') { program.into() } else { machine::tool(program) }
}

/// The first child of a process.
pub fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
