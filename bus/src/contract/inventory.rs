//! What is on a host.

use serde::{Deserialize, Serialize};

use super::{
    HostId, OperationId, PodId, Timestamp,
    host::HostFacts,
    message::{Invalid, Message, check},
};

/// What is on a host. Source: the agent, on change and each minute. The first one asks for admission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// The host.
    pub host_id: HostId,
    /// When, by the host's own clock.
    pub taken_at: Timestamp,
    /// The machine's host name.
    pub hostname: String,
    /// Hardware, system and how to reach it.
    pub facts: HostFacts,
    /// Docker's containers, ours and others.
    pub containers: Vec<ContainerEntry>,
    /// Docker's images.
    pub images: Vec<ImageEntry>,
    /// Docker's networks.
    pub networks: Vec<NetworkEntry>,
    /// Ports that something listens on.
    pub ports: Vec<PortEntry>,
    /// Whether entries were left out because there were too many for one message.
    pub truncated: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEntry {
    /// Docker's id, 64 hexadecimal digits.
    pub container_id: String,
    /// Its name, without the slash.
    pub name: String,
    /// The image that it was made from.
    pub image: String,
    /// Docker's word: `created`, `running`, `paused`, `restarting`, `exited`, `dead` and so on.
    pub state: String,
    /// Its runtime, such as `runsc`.
    pub runtime: Option<String>,
    /// From our label `pinacle.pod`; null = not ours.
    pub pod_id: Option<PodId>,
    /// From our label `pinacle.owner`.
    pub owner: Option<String>,
    /// From our label `pinacle.op`.
    pub operation_id: Option<OperationId>,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// How it ended, once it has.
    pub exit_code: Option<i64>,
    /// Whether it ended for want of memory.
    pub oom_killed: bool,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// Docker's id.
    pub image_id: String,
    /// Such as `pinacle/base:1`.
    pub tags: Vec<String>,
    /// On disk, shared layers counted in each.
    pub size_bytes: u64,
}

/// A network of Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEntry {
    /// Docker's id.
    pub network_id: String,
    /// Its name.
    pub name: String,
    /// Such as `bridge`.
    pub driver: String,
    /// In CIDR notation.
    pub subnets: Vec<String>,
    /// From our label `pinacle.pod`; null = not ours.
    pub pod_id: Option<PodId>,
}

/// A port that something listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortEntry {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The local address.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// Where a host takes SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshEndpoint {
    /// The address; null = the first of the host's addresses.
    pub address: Option<String>,
    /// The port.
    pub port: u16,
    /// Who the orchestrator is there; null = as its settings say.
    pub user: Option<String>,
    /// Public host keys in OpenSSH form: algorithm, key in base64.
    pub host_keys: Vec<String>,
}

impl Message for Inventory {
    const NAME: &'static str = "inventory";
    const MAX_BYTES: usize = 512 * 1024;

    fn check(&self) -> Result<(), Invalid> {
        check::text("hostname", &self.hostname, 255)?;
        check::facts(&self.facts)?;
        check::length("containers", self.containers.len(), 4096)?;
        for container in &self.containers {
            check::text("containers.container_id", &container.container_id, 64)?;
            check::text("containers.name", &container.name, 255)?;
            check::text("containers.image", &container.image, 512)?;
            check::text("containers.state", &container.state, 32)?;
            check::text("containers.runtime", container.runtime.as_deref().unwrap_or_default(), 64)?;
            check::text("containers.owner", container.owner.as_deref().unwrap_or_default(), 255)?;
        }
        check::length("images", self.images.len(), 4096)?;
        for image in &self.images {
            check::text("images.image_id", &image.image_id, 128)?;
            check::length("images.tags", image.tags.len(), 256)?;
            image.tags.iter().try_for_each(|tag| check::text("images.tags", tag, 512))?;
            check::count("images.size_bytes", image.size_bytes)?;
        }
        check::length("networks", self.networks.len(), 4096)?;
        for network in &self.networks {
            check::text("networks.network_id", &network.network_id, 128)?;
            check::text("networks.network_id", &network.network_id, 128)?;
            check::text("networks.name", &network.name, 255)?;
            check::text("networks.driver", &network.driver, 64)?;
            check::length("networks.subnets", network.subnets.len(), 64)?;
            network.subnets.iter().try_for_each(|subnet| check::text("networks.subnets", subnet, 64))?;
        }
        check::length("ports", self.ports.len(), 65_536)?;
        self.ports.iter().try_for_each(|port| {
            check::text("ports.protocol", &port.protocol, 16)?;
            check::text("ports.address", &port.address, 64)
        })
    }
}
