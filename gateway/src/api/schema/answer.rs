//! Shapes of inventories and of agents' answers.

use utoipa::ToSchema;

use super::HostFacts;

/// What is on a host. Source: the agent, on change and each minute. The first one asks for admission.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct Inventory {
    /// The host.
    host_id: String,
    /// When, by the host's own clock.
    #[schema(format = DateTime)]
    taken_at: String,
    /// The machine's host name.
    hostname: String,
    /// Hardware, system and how to reach it.
    facts: HostFacts,
    /// Docker's containers, ours and others.
    containers: Vec<ContainerEntry>,
    /// Docker's images.
    images: Vec<ImageEntry>,
    /// Docker's networks.
    networks: Vec<NetworkEntry>,
    /// Ports that something listens on.
    ports: Vec<PortEntry>,
    /// Whether entries were left out because there were too many for one message.
    truncated: bool,
}

/// A container.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct ContainerEntry {
    /// Docker's id, 64 hexadecimal digits.
    container_id: String,
    /// Its name, without the slash.
    name: String,
    /// The image that it was made from.
    image: String,
    /// Docker's word: `created`, `running`, `paused`, `restarting`, `exited`, `dead` and so on.
    state: String,
    /// Its runtime, such as `runsc`.
    runtime: Option<String>,
    /// From our label `pinacle.pod`; null = not ours.
    pod_id: Option<String>,
    /// From our label `pinacle.owner`.
    owner: Option<String>,
    /// From our label `pinacle.op`.
    operation_id: Option<String>,
    /// When it last started.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// How it ended, once it has.
    exit_code: Option<i64>,
    /// Whether it ended for want of memory.
    oom_killed: bool,
}

/// An image.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct ImageEntry {
    /// Docker's id.
    image_id: String,
    /// Such as `pinacle/base:1`.
    tags: Vec<String>,
    /// On disk, shared layers counted in each.
    size_bytes: u64,
}

/// A network of Docker's.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct NetworkEntry {
    /// Docker's id.
    network_id: String,
    /// Its name.
    name: String,
    /// Such as `bridge`.
    driver: String,
    /// In CIDR notation.
    subnets: Vec<String>,
    /// From our label `pinacle.pod`; null = not ours.
    pod_id: Option<String>,
}

/// A port that something listens on.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct PortEntry {
    /// `tcp` or `udp`.
    protocol: String,
    /// The local address.
    address: String,
    /// The port.
    port: u16,
}

/// Where a host takes SSH.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct SshEndpoint {
    /// The address; null = the first of the host's addresses.
    address: Option<String>,
    /// The port.
    port: u16,
    /// Who the orchestrator is there; null = as its settings say.
    user: Option<String>,
    /// Public host keys in OpenSSH form: algorithm, key in base64.
    host_keys: Vec<String>,
}

/// Reply to `Ping`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct Pong {
    /// The host.
    host_id: String,
    /// By the host's own clock.
    #[schema(format = DateTime)]
    at: String,
}

/// Reply to `Version`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct AgentVersion {
    /// The agent's release.
    agent_version: String,
    /// The newest schema that it reads.
    schema: u32,
    /// Every verb that it knows.
    verbs: Vec<String>,
}

/// Reply to `RotateKey`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct KeyRotated {
    /// The public half of the fresh key.
    public_key: String,
}

/// Reply to `SetInterval`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct IntervalSet {
    /// The interval from now on.
    interval_ms: u64,
}

/// Reply to `Logs`. A followed log comes as several replies to the same inbox, the last one with `end`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct LogChunk {
    /// Counts up from 0.
    sequence: u64,
    /// In the order of the container's output, at most 256 KiB of text.
    lines: Vec<LogLine>,
    /// Whether lines were left out because there were too many.
    truncated: bool,
    /// Nothing follows.
    end: bool,
}

/// A line of a pod's output.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct LogLine {
    /// When, by the host's clock.
    #[schema(format = DateTime)]
    at: Option<String>,
    /// `stdout` or `stderr`.
    stream: String,
    /// Without its line end; bytes that are no UTF-8 are replaced.
    text: String,
}
