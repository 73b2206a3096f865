//! `make lab`: a lab for people, which leaves nothing behind, whatever way it ends.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use pinacle_tests::{Launch, Process, eventually, lab::IMAGE, machine};
use serde_json::Value;

use super::stage::LONG;

/// Its turn comes when no test has Docker.
const UP_WITHIN: Duration = Duration::from_secs(500);

/// A lab that is up, as its output tells, and all that runs for it.
struct Up {
    process: Process,
    /// How the folders, links and groups of this very lab are called.
    tag: String,
    processes: BTreeSet<(u32, String)>,
}

impl Up {
    async fn start() -> Self {
        let process = Launch::program(machine::service("lab"))
            .args(["--hosts", "1"])
            .ready_line("Ctrl-C takes it all down.")
            .ready_within(UP_WITHIN)
            .start()
            .await;
        let mut up = Self { tag: format!("{}-", process.pid()), process, processes: BTreeSet::new() };
        // With a container, in the way that it tells people to log in.
        up.ssh("alpha", &["docker", "run", "--detach", "--runtime", "runsc", IMAGE]);
        up.processes = descendants(up.process.pid());
        up
    }

    /// The words after the program in the command that it tells people to use.
    fn flags(&self) -> Vec<String> {
        let text = self.process.log_text();
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix("alias pinacle='")).expect("it tells an alias");
        line.trim_end_matches('\'').split(' ').skip(1).map(str::to_owned).collect()
    }

    fn pinacle(&self, arguments: &[&str]) -> String {
        let output = Command::new(machine::service("pinacle"))
            .args(self.flags())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", self.process.tail());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command on a host in the way that it tells people.
    fn ssh(&self, host: &str, command: &[&str]) -> String {
        let text = self.process.log_text();
        let line = text.lines().map(str::trim).find(|line| line.starts_with(host)).expect("it tells how to log in");
        let (_, arguments) = line.split_once("ssh ").unwrap();
        let output = Command::new(machine::tool("ssh"))
            .args(["-F", "none", "-o", "BatchMode=yes"])
            .args(arguments.split(' '))
            .args(command)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What there is of it on the machine.
    fn traces(&self) -> Vec<String> {
        let mut traces: Vec<String> = self
            .processes
            .iter()
            .filter(|(pid, start)| start_of(*pid).as_ref() == Some(start))
            .map(|(pid, _)| {
                format!("process {pid} {}", fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default())
            })
            .collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        traces.extend(mounts.lines().filter(|line| line.contains(&format!("/{}", self.tag))).map(str::to_owned));
        let places = [std::env::temp_dir().join("pinacle-tests-0"), "/sys/class/net".into(), "/sys/fs/cgroup".into()];
        let hierarchies = children("/sys/fs/cgroup".as_ref());
        for path in places.iter().chain(&hierarchies).flat_map(|place| children(place)) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let names = [self.tag.clone(), format!("pl{}", self.tag), format!("pinacle-lab-{}", self.tag)];
            if names.iter().any(|own| name.starts_with(own)) {
                traces.push(path.display().to_string());
            }
        }
        traces
    }

    async fn leaves_nothing(&self) {
        eventually(LONG, "nothing of the lab to be left", async || match self.traces() {
            traces if traces.is_empty() => Ok(()),
            traces => Err(traces),
        })
        .await;
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The fields of a process's `stat` after its name.
fn stat_of(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<String> = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
    // A dead one that nobody has reaped yet is none.
    (fields.first().is_some_and(|state| state != "Z")).then_some(fields)
}

/// When a process began, which tells it from a later one of its number.
fn start_of(pid: u32) -> Option<String> {
    stat_of(pid)?.get(19).cloned()
}

/// A process's children, and theirs, with the time that each began.
fn descendants(pid: u32) -> BTreeSet<(u32, String)> {
    let all: Vec<(u32, u32)> = children("/proc".as_ref())
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat_of(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = BTreeSet::from([pid]);
    loop {
        let next: BTreeSet<u32> =
            all.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid).collect();
        if next.is_subset(&found) {
            return found.into_iter().filter_map(|pid| Some((pid, start_of(pid)?))).collect();
        }
        found.extend(next);
    }
}

#[tokio::test]
async fn make_lab_tells_how_to_look_at_it_and_ends_in_order() {
    assert!(machine::is_root(), "the lab takes root: run the tests with sudo");
    let mut up = Up::start().await;
    let traces = up.traces();
    for part in [
        "nats-server",
        "dockerd",
        "sshd",
        "postgres",
        "pinacle-gateway",
        "runsc",
        "/sys/class/net/pl",
        "/sys/fs/cgroup",
    ] {
        assert!(traces.iter().any(|trace| trace.contains(part)), "{part}: {traces:#?}");
    }
    let hosts: Value = serde_json::from_str(&up.pinacle(&["host", "ls", "--json"])).unwrap();
    assert_eq!((hosts.as_array().unwrap().len(), &hosts[0]["state"]), (1, &Value::from("online")), "{hosts:#}");
    for host in ["alpha", "bare"] {
        assert_eq!(up.ssh(host, &["hostname"]), host);
    }
    let status = up.process.sigterm(LONG).await;
    assert!(status.success(), "{status}\n{}", up.process.tail());
    up.leaves_nothing().await;
}

#[tokio::test]
async fn make_lab_down_clears_what_a_killed_lab_left() {
    assert!(machine::is_root(), "the lab takes root: run the tests with sudo");
    let mut up = Up::start().await;
    assert!(up.traces().iter().any(|trace| trace.contains("runsc")), "{:#?}", up.traces());
    up.process.kill9().await;
    let output = Command::new(machine::service("lab")).arg("down").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    up.leaves_nothing().await;
}
