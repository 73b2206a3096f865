//! What somebody does by hand: the same commands through OpenSSH, over one connection that is open already
//! (`ControlMaster`).

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use pinacle_bus::contract::{exec::ExecRecord, host::HostRecord, pod::PodRecord};
use pinacle_tests::{
    Launch, Process, eventually,
    lab::{Host, Lab},
    machine,
};
use tokio::process::Command;

/// The step whose command may have to be given several times.
const ANSWER: &str = "answer";
const OPENS_WITHIN: Duration = Duration::from_secs(30);

/// An open connection to a host of the lab.
pub struct Connection {
    // It ends with this.
    _master: Process,
    socket: PathBuf,
    destination: String,
}

impl Connection {
    /// Opens it; the host may have others of other numbers.
    pub async fn open(lab: &Lab, host: &Host, number: usize) -> Self {
        let record: HostRecord = lab.host_record(host.name()).await;
        let keys: Vec<String> =
            record.pinned_host_keys.iter().map(|key| format!("{} {key}\n", host.address())).collect();
        let known_hosts = lab.folder().join(format!("{}-known_hosts", host.name()));
        std::fs::write(&known_hosts, keys.concat()).unwrap();
        let name = format!("{}-by-hand-{number}", host.name());
        let socket = lab.folder().join(&name);
        let destination = format!("root@{}", host.address());
        let master = Launch::program(machine::tool("ssh"))
            .named(&name)
            .args(["-F", "none", "-M", "-N", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"])
            .arg(lab.key())
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
            .arg("-S")
            .arg(&socket)
            .arg(&destination)
            .spawn();
        let connection = Self { _master: master, socket, destination };
        eventually(OPENS_WITHIN, "OpenSSH's connection", async || {
            let told = connection.client().args(["-O", "check"]).arg(&connection.destination).output().await.unwrap();
            told.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&told.stderr).into_owned())
        })
        .await;
        connection
    }

    fn client(&self) -> Command {
        let mut client = Command::new(machine::tool("ssh"));
        client.args(["-F", "none", "-S"]).arg(&self.socket).stdin(Stdio::null()).kill_on_drop(true);
        client
    }

    /// Runs a line of shell on the host; it must succeed.
    pub async fn run(&self, line: &str) {
        let told = self.ends(line).await;
        assert!(told.status.success(), "{line}: {}", String::from_utf8_lossy(&told.stderr));
    }

    /// Gives a line of a creation.
    pub async fn give(&self, line: &Line) {
        // Whoever asks whether a pod answers asks until it does.
        while line.step == ANSWER && !self.ends(&line.text).await.status.success() {}
        if line.step != ANSWER {
            self.run(&line.text).await;
        }
    }

    async fn ends(&self, line: &str) -> Output {
        self.client().arg(&self.destination).arg(line).output().await.unwrap()
    }
}

/// One of the commands that made a pod, to be given by hand once it is gone.
pub struct Line {
    pub step: String,
    text: String,
}

/// All of them that succeeded, in order. Under another label, so that the installation takes nothing of it for its own.
pub fn lines(commands: &[ExecRecord]) -> Vec<Line> {
    let succeeded = commands.iter().filter(|command| command.exit_code == Some(0));
    let line = |command: &ExecRecord| {
        let text = command.command.replace("pinacle.pod=", "bench.pod=");
        Line { step: command.step.clone(), text }
    };
    succeeded.map(line).collect()
}

/// What of it Docker alone must do for a container that runs: no look for the image, no packet filter, no question
/// to the pod.
pub fn bare_lines(commands: &[ExecRecord], record: &PodRecord) -> Vec<Line> {
    let (pod, subnet) = (record.pod_id, record.subnet.unwrap());
    let text = format!(
        "docker network create --driver bridge --subnet 10.249.{subnet}.0/24 --gateway 10.249.{subnet}.1 \
         --opt com.docker.network.bridge.name=pinacle{subnet} pinacle-net-{pod}"
    );
    let mut bare = vec![Line { step: "network".into(), text }];
    bare.extend(lines(commands).into_iter().filter(|line| ["volume", "container", "start"].contains(&&*line.step)));
    bare
}

/// Removes what the lines of a pod have made.
pub fn remove(host: &Host, record: &PodRecord) {
    let pod = record.pod_id;
    host.docker(&["rm", "--force", &format!("pinacle-pod-{pod}")]);
    host.docker(&["network", "rm", &format!("pinacle-net-{pod}")]);
    host.docker(&["volume", "rm", &format!("pinacle-vol-{pod}-workspace")]);
}
