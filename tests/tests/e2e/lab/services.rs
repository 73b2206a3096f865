//! A bare Debian becomes a host that runs pods, under each thing that starts services: Docker and gVisor are installed, the
//! agent sees all that it is to see and comes back when it dies, and nothing of it is left at the end.

use std::fs;

use pinacle_bus::contract::{
    Subject,
    inventory::Inventory,
    metrics::{Metrics, PodSample},
    topology::StreamName,
};
use pinacle_tests::{
    eventually,
    lab::{Host, Lab, Services},
    machine,
};

use super::{
    join::{bring_script, fingerprint, pinacle, provision},
    stage::LONG,
};

/// Every trace of Pinacle's there: files, users, services, rules, and what Docker has of pods.
const TRACES: &str = "find / /run -xdev -iname '*pinacle*'
grep -i pinacle /etc/passwd /etc/group /root/.ssh/authorized_keys
iptables -S 2>/dev/null | grep -i pinacle
ip6tables -S 2>/dev/null | grep -i pinacle
docker ps --all --quiet 2>/dev/null
docker volume ls --quiet 2>/dev/null
docker network ls 2>/dev/null | grep pinacle
pgrep -l pinacle
systemctl list-unit-files --no-legend 'pinacle*' 2>/dev/null
rc-status --all 2>/dev/null | grep pinacle";
/// How open the unit may be, of 100, by systemd's own count.
const MOST_EXPOSED: u32 = 20;

struct Installed {
    lab: Lab,
    services: Services,
}

fn on(bare: &Host, command: &str) -> String {
    let (code, text) = bare.ssh(command);
    assert_eq!(code, Some(0), "{command}: {text}");
    text
}

impl Installed {
    /// A bare host that became one of Pinacle's with Docker.
    async fn begin(services: Services) -> Self {
        let lab = Lab::builder().hosts(0).orchestrators(1).joinable_gateway().bare_debian(services).start().await;
        let bare = lab.bare();
        assert_eq!(bare.ssh(TRACES).1, "");
        let made = provision(&lab, &fingerprint(bare), &["--with-docker"]);
        assert_eq!(made.code, Some(0), "{}", made.text);
        for said in ["installing Docker and gVisor", "wrote /etc/docker/daemon.json", "is the host host_"] {
            assert!(made.text.contains(said), "{said}: {}", made.text);
        }
        let must_start_docker = made.text.contains("start Docker yourself");
        assert_eq!(must_start_docker, services == Services::None, "{}", made.text);
        if must_start_docker {
            on(bare, "setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null & ");
        }
        lab.online("bare").await;
        Self { lab, services }
    }

    fn bare(&self) -> &Host {
        self.lab.bare()
    }

    /// Nothing is to be done twice, says this shell, too.
    async fn changes_nothing_again(&self, shell: &str) {
        bring_script(&self.lab).await;
        let agent = self.agent();
        let again = on(self.bare(), &format!("{shell} /root/install.sh --with-docker"));
        assert!(again.contains("nothing was to be changed") && again.contains("are here already"), "{again}");
        // Besides what machine and what host it is.
        assert_eq!(again.lines().filter(|line| line.starts_with("pinacle: ")).count(), 4, "{again}");
        assert_eq!(self.agent(), agent, "it runs on");
    }

    /// The agent's process.
    fn agent(&self) -> String {
        on(self.bare(), "pgrep -x pinacle-agent")
    }

    /// The agent is killed so often, and comes back each time.
    async fn comes_back(&self, times: usize) {
        for _ in 0..times {
            let before = self.agent();
            on(self.bare(), "pkill -9 -x pinacle-agent");
            eventually(LONG, "another agent", async || match self.bare().ssh("pgrep -x pinacle-agent") {
                (Some(0), now) if now != before => Ok(()),
                other => Err(other),
            })
            .await;
        }
        self.lab.online("bare").await;
    }

    /// A pod is made there and really runs, under gVisor.
    fn runs_a_pod(&self) {
        self.bare().import_image();
        let made = pinacle(&self.lab, &["pod", "create", "web", "--host", "bare"]);
        assert_eq!(made.code, Some(0), "{}", made.text);
        let pod = "$(docker ps --quiet --filter label=pinacle.pod)";
        assert_eq!(on(self.bare(), &format!("docker inspect --format '{{{{.HostConfig.Runtime}}}}' {pod}")), "runsc\n");
        // gVisor's own kernel.
        let kernels = on(self.bare(), &format!("docker exec {pod} uname -r; uname -r"));
        let (inside, outside) = kernels.split_once('\n').unwrap();
        assert_ne!(inside, outside.trim());
    }

    /// With the rights that the agent has, it sees all that it is to see.
    async fn sees_all(&self) {
        let (bus, id) = (self.lab.bus(), self.lab.host_record("bare").await.host_id);
        eventually(LONG, "a sample with the pod's figures", async || {
            let stored = bus.last(StreamName::Metrics, &Subject::Metrics(id)).await.unwrap().ok_or("none")?;
            let sample: Metrics = stored.decode().unwrap();
            let sees_pod = |pod: &PodSample| {
                pod.memory_bytes > 0 && pod.memory_limit_bytes.is_some() && pod.pids > 0 && pod.network_rx_bytes > 0
            };
            let host = &sample.host;
            let sees_host = host.memory_total_bytes > 0
                && !host.cpu_cores_percent.is_empty()
                && host.disks.iter().any(|disk| disk.total_bytes > 0)
                && host.networks.iter().any(|network| network.name == "eth0" && network.rx_bytes > 0);
            if sees_host && sample.pods.iter().any(sees_pod) { Ok(()) } else { Err(format!("{sample:#?}")) }
        })
        .await;
        eventually(LONG, "an inventory with the pod", async || {
            let stored = bus.last(StreamName::Inventory, &Subject::Inventory(id)).await.unwrap().ok_or("none")?;
            let inventory: Inventory = stored.decode().unwrap();
            let facts = &inventory.facts;
            let is_whole = inventory.containers.iter().any(|known| known.pod_id.is_some() && known.state == "running")
                && inventory.networks.iter().any(|network| network.pod_id.is_some())
                && !inventory.images.is_empty()
                && inventory.ports.iter().any(|port| port.port == 22)
                && inventory.hostname == "bare"
                && facts.addresses.iter().any(|address| address == self.bare().address())
                && facts.ssh.as_ref().is_some_and(|ssh| !ssh.host_keys.is_empty())
                && facts.disk_total_bytes > 0
                && !facts.boot_id.is_empty();
            if is_whole { Ok(()) } else { Err(format!("{inventory:#?}")) }
        })
        .await;
    }

    /// The host is none any more, its pods' data with it.
    fn goes_without_a_trace(&self) {
        let removed =
            on(self.bare(), "cd /root && sh ./install.sh --uninstall --delete-data && rm install.sh image.tar");
        for said in
            ["docker rm -f: ", "docker network rm: ", "docker volume rm: pinacle-vol-", "removed /var/lib/pinacle"]
        {
            assert!(removed.contains(said), "{said}: {removed}");
        }
        assert_eq!(self.bare().ssh(TRACES).1, "", "{:?}", self.services);
    }
}

#[tokio::test]
async fn a_bare_debian_without_an_init_installs_docker_and_runs_pods() {
    let installed = Installed::begin(Services::None).await;
    installed.runs_a_pod();
    installed.sees_all().await;
    // The other shell that hosts have.
    let program = installed.bare().folder().join("root/usr/local/bin/busybox");
    fs::copy(machine::tool("busybox"), program).unwrap();
    installed.changes_nothing_again("busybox sh").await;
    installed.goes_without_a_trace();
}

#[tokio::test]
async fn under_openrc_the_agent_comes_back_as_often_as_it_dies_and_leaves_nothing() {
    let installed = Installed::begin(Services::OpenRc).await;
    installed.runs_a_pod();
    installed.sees_all().await;
    installed.changes_nothing_again("sh").await;
    // More often than the supervisor allows for by itself; the script's own delay would only make the test longer.
    let faster =
        "sed -i s/^respawn_delay=.*/respawn_delay=1/ /etc/init.d/pinacle-agent && rc-service pinacle-agent restart";
    on(installed.bare(), faster);
    installed.comes_back(12).await;
    installed.goes_without_a_trace();
}

#[tokio::test]
async fn under_systemd_the_agent_works_with_the_few_rights_of_its_unit_and_leaves_nothing() {
    let installed = Installed::begin(Services::Systemd).await;
    installed.runs_a_pod();
    installed.sees_all().await;
    installed.changes_nothing_again("sh").await;
    installed.comes_back(1).await;

    let unit = "/etc/systemd/system/pinacle-agent.service";
    assert_eq!(on(installed.bare(), &format!("systemd-analyze verify {unit}")), "");
    let exposed = on(
        installed.bare(),
        &format!("systemd-analyze security --no-pager --threshold={MOST_EXPOSED} pinacle-agent.service"),
    );
    println!("{}", exposed.lines().last().unwrap_or_default());
    installed.goes_without_a_trace();
}
