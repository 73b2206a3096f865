//! Hardware and system: what rarely changes about a host.

use std::{collections::BTreeSet, fs, net::IpAddr};

use pinacle_bus::contract::{host::HostFacts, inventory::SshEndpoint};
use sysinfo::{CpuRefreshKind, Networks, RefreshKind, System};

use crate::{docker::cut, procfs, sample::disk_total_bytes, settings::AgentSettings};

/// What cannot change while the agent runs.
#[derive(Debug, Clone, Default)]
pub struct SteadyFacts {
    os: String,
    kernel: String,
    architecture: String,
    cpu_model: String,
}

impl SteadyFacts {
    /// Asks sysinfo, which knows where each architecture and distribution keeps them.
    pub fn read() -> Self {
        let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
        let cpu_model = system.ok().and_then(|system| system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()));
        Self {
            os: cut(&System::long_os_version().unwrap_or_else(|_| "Linux".into()), 255),
            kernel: cut(&System::kernel_version().unwrap_or_default(), 255),
            architecture: cut(&System::cpu_arch(), 255),
            cpu_model: cut(&cpu_model.unwrap_or_default(), 255),
        }
    }
}

/// The machine's name.
pub fn hostname(settings: &AgentSettings) -> String {
    if !settings.hostname.is_empty() {
        return settings.hostname.clone();
    }
    let name = fs::read_to_string(settings.proc_dir.join("sys/kernel/hostname")).unwrap_or_default();
    cut(name.trim(), 255)
}

/// All of it, now.
pub fn read(
    settings: &AgentSettings,
    steady: &SteadyFacts,
    docker_version: Option<String>,
    runtimes: Vec<String>,
    ssh: Option<SshEndpoint>,
) -> HostFacts {
    let file = |name: &str| fs::read_to_string(settings.proc_dir.join(name)).unwrap_or_default();
    let mut cores = Vec::new();
    procfs::cpu_ticks(&file("stat"), &mut cores);
    HostFacts {
        agent_version: crate::VERSION.to_owned(),
        boot_id: cut(file("sys/kernel/random/boot_id").trim(), 64),
        os: steady.os.clone(),
        kernel: steady.kernel.clone(),
        architecture: steady.architecture.clone(),
        cpu_model: steady.cpu_model.clone(),
        cpu_count: u32::try_from(cores.len()).unwrap_or(u32::MAX),
        memory_total_bytes: procfs::memory(&file("meminfo")).total,
        disk_total_bytes: disk_total_bytes(&file("self/mountinfo")),
        docker_version,
        runtimes,
        addresses: addresses(),
        ssh,
        lima_name: fs::read_to_string(&settings.lima_env).ok().and_then(|text| lima_name(&text)),
    }
}

/// From Lima's `lima.env`, lines of `KEY=value`.
pub fn lima_name(text: &str) -> Option<String> {
    let name = text.lines().find_map(|line| line.trim().strip_prefix("LIMA_CIDATA_NAME="))?;
    let name = name.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| cut(name, 255))
}

/// Where the host can be reached: no loopback, no link-local address, and no bridge of Docker's.
fn addresses() -> Vec<String> {
    let Ok(networks) = Networks::new_with_refreshed_list() else { return Vec::new() };
    let found: BTreeSet<IpAddr> = networks
        .iter()
        .filter(|(name, _)| !name.to_str().is_some_and(is_dockers))
        .flat_map(|(_, network)| network.ip_networks().iter().map(|network| network.addr))
        .filter(is_reachable)
        .collect();
    found.iter().take(256).map(ToString::to_string).collect()
}

/// `docker0`, and `br-` or `veth` with what Docker makes up.
pub fn is_dockers(interface: &str) -> bool {
    let made_up = |rest: &str, least: usize| rest.len() >= least && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    interface.starts_with("docker")
        || interface.strip_prefix("br-").is_some_and(|rest| made_up(rest, 12))
        || interface.strip_prefix("veth").is_some_and(|rest| made_up(rest, 7))
}

/// Whether an address can be another machine's way to this one.
pub fn is_reachable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => !four.is_loopback() && !four.is_link_local() && !four.is_unspecified(),
        IpAddr::V6(six) => !six.is_loopback() && !six.is_unicast_link_local() && !six.is_unspecified(),
    }
}
