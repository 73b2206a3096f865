//! Clearing away what a folder's owner had outside of it: containers, mounts, bridges. Runs at the end of a test that
//! had Docker, and for whatever a killed test left; so each step takes into account that it may be done already.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::machine;

/// In a folder with this file, the control group of that name is the folder's own.
pub(crate) const CGROUP: &str = "cgroup";
/// In a folder with this file, the network links named in it, one a line, are the folder's own.
pub(crate) const LINKS: &str = "links";

/// In a folder with this file, all of Docker's in the machine's packet filter is of the folder's own Docker.
const FILTER: &str = "filter";

/// Notes that the folder will have a Docker that works on the machine's packet filter, if no other does.
pub fn will_have_docker(folder: &Path) {
    if !filter_rules("iptables").contains("DOCKER") {
        fs::write(folder.join(FILTER), "").unwrap();
    }
}

/// Ends the processes, mounts, links and rules that belong to the folder.
pub fn release(folder: &Path) {
    // Docker's helpers, which outlive it.
    end_processes_of(folder);
    if let Ok(group) = fs::read_to_string(folder.join(CGROUP)) {
        for root in groups(group.trim()) {
            end_group(&root);
        }
    }
    for mount in mounts_below(folder) {
        let _ = umount2(&mount, MntFlags::MNT_DETACH);
    }
    if let (Ok(links), Some(ip)) = (fs::read_to_string(folder.join(LINKS)), machine::find_tool("ip")) {
        for link in links.lines() {
            let _ = Command::new(&ip).args(["link", "delete", link]).stderr(Stdio::null()).status();
        }
    }
    if folder.join(FILTER).exists() {
        ["iptables", "ip6tables"].into_iter().for_each(clear_filter);
        clear_bridges();
    }
}

fn filter_rules(family: &str) -> String {
    let Some(save) = machine::find_tool(&format!("{family}-save")) else { return String::new() };
    let output = Command::new(save).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).into_owned()
}

/// Removes all that is Docker's or of pods.
fn clear_filter(family: &str) {
    const OURS: [&str; 4] = ["DOCKER", "PINACLE", "pinacle", "10.249."];
    let rules = filter_rules(family);
    let kept: Vec<&str> = rules.lines().filter(|line| !OURS.iter().any(|word| line.contains(word))).collect();
    let Some(restore) = machine::find_tool(&format!("{family}-restore")) else { return };
    if kept.len() < rules.lines().count()
        && let Ok(mut child) = Command::new(restore).stdin(Stdio::piped()).spawn()
    {
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all((kept.join("\n") + "\n").as_bytes()));
        let _ = child.wait();
    }
}

fn clear_bridges() {
    let Some(ip) = machine::find_tool("ip") else { return };
    for link in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        if link.file_name().to_string_lossy().starts_with("pinacle") && link.path().join("bridge").is_dir() {
            let _ = Command::new(&ip).args(["link", "delete"]).arg(link.file_name()).stderr(Stdio::null()).status();
        }
    }
}

/// Kills the processes that have a path below the folder as an argument, and waits until they are gone.
fn end_processes_of(folder: &Path) {
    let prefix = format!("{}/", folder.display());
    let is_ours = |process: &Path| {
        // A dead process that nobody has reaped yet has no arguments.
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|argument| argument.starts_with(&prefix))
    };
    let own = std::process::id().cast_signed();
    for _ in 0..100 {
        let mut alive = false;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if pid != own && is_ours(&entry.path()) {
                alive = true;
                let sockets = shim_sockets(&entry.path());
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                sockets.iter().for_each(|socket| drop(fs::remove_file(socket)));
            }
        }
        if !alive {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The sockets that a shim of containerd's listens on: their folder is the machine's, whatever containerd is told.
fn shim_sockets(process: &Path) -> Vec<PathBuf> {
    let Ok(table) = fs::read_to_string("/proc/net/unix") else { return Vec::new() };
    let open: Vec<String> = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned))
        .collect();
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(6);
            let (inode, path) = (fields.next()?, fields.next()?);
            let listed = open.iter().any(|name| *name == format!("socket:[{inode}]"));
            (listed && path.starts_with("/run/containerd/s/")).then(|| PathBuf::from(path))
        })
        .collect()
}

/// The group's folder in each hierarchy (version 1), or in the one there is (version 2).
fn groups(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if name.is_empty() || name.contains(['/', '.']) {
        return Vec::new();
    }
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(top.to_owned())
        .chain(hierarchies)
        .map(|hierarchy| hierarchy.join(name))
        .filter(|path| path.is_dir())
        .collect()
}

fn end_group(group: &Path) {
    // Killed processes leave their group a moment later; a folder with processes in it cannot be removed.
    for _ in 0..100 {
        let mut open = vec![group.to_owned()];
        let mut folders = Vec::new();
        let mut alive = false;
        while let Some(folder) = open.pop() {
            let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for member in members.lines().filter_map(|line| line.parse().ok()) {
                alive = true;
                let _ = kill(Pid::from_raw(member), Signal::SIGKILL);
            }
            let inner = fs::read_dir(&folder).into_iter().flatten().flatten();
            open.extend(inner.map(|entry| entry.path()).filter(|path| path.is_dir()));
            folders.push(folder);
        }
        let removed = !alive && folders.iter().rev().all(|folder| fs::remove_dir(folder).is_ok() || !folder.exists());
        if removed {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Mount points below the folder, the deepest first.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(folder))
        .collect();
    found.reverse();
    found
}
