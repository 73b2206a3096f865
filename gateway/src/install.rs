//! How a machine becomes a host: the line that people paste, the script that it runs, the agent's program.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{settings::Gateway, tls::Tls};

/// The script, with places for what only the gateway knows.
const SCRIPT: &str = include_str!("install/install.sh");
/// The architectures that agents are built for, as `uname -m` calls them.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// What machines are given.
pub struct Install {
    script: String,
    fetch: String,
    agents: BTreeMap<&'static str, Agent>,
}

/// The agent's program for one architecture.
pub struct Agent {
    /// The program.
    pub program: Bytes,
    /// Its SHA-256 in hexadecimal.
    pub checksum: String,
}

impl Install {
    /// Reads the programs of `gateway.agent_dir`: `pinacle-agent-<arch>`, or `pinacle-agent` for this architecture.
    ///
    /// # Errors
    /// When a file that is named cannot be read.
    pub fn read(settings: &Gateway, tls: Option<&Tls>) -> anyhow::Result<Self> {
        let url = settings.public_url();
        let ca = match settings.tls_ca_file.as_str() {
            "" => String::new(),
            path => fs::read_to_string(path).with_context(|| format!("read {path} (gateway.tls_ca_file)"))?,
        };
        anyhow::ensure!(!ca.contains('\''), "gateway.tls_ca_file is no PEM file");
        // With an authority of our own the first download can only be told by the server's key.
        let pinned = tls.filter(|_| !ca.is_empty()).map(|tls| format!("-k --pinnedpubkey '{}' ", tls.pin));
        let fetch = format!("curl -fsSL {}{url}/install.sh", pinned.unwrap_or_default());
        let mut agents = BTreeMap::new();
        for arch in ARCHITECTURES {
            if let Some(program) = program(&settings.agent_dir, arch)? {
                let checksum = Sha256::digest(&program).iter().map(|byte| format!("{byte:02x}")).collect();
                agents.insert(arch, Agent { program: program.into(), checksum });
            }
        }
        let checksums: Vec<String> = agents.iter().map(|(arch, agent)| format!("{arch}:{}", agent.checksum)).collect();
        let script =
            SCRIPT.replace("@GATEWAY@", &url).replace("@CHECKSUMS@", &checksums.join(" ")).replace("@CA@", ca.trim());
        Ok(Self { script, fetch, agents })
    }

    /// What to run on a machine, as root.
    pub fn command(&self, token: &str) -> String {
        format!("{} | sh -s -- --token {token}", self.fetch)
    }

    /// The script, for the orchestrator that logs in with this key.
    pub fn script(&self, ssh_key: &str) -> String {
        // Without a comment, which may be anything.
        let key: Vec<&str> = ssh_key.split_whitespace().take(2).collect();
        let is_key = |letter: char| letter.is_ascii_alphanumeric() || "+/=-@. ".contains(letter);
        let key = Some(key.join(" ")).filter(|key| key.chars().all(is_key)).unwrap_or_default();
        self.script.replace("@SSH_KEY@", &key)
    }

    /// The agent's program for an architecture.
    pub fn agent(&self, arch: &str) -> Option<&Agent> {
        self.agents.get(arch)
    }
}

fn program(folder: &str, arch: &str) -> anyhow::Result<Option<Vec<u8>>> {
    if folder.is_empty() {
        return Ok(None);
    }
    let named = Path::new(folder).join(format!("pinacle-agent-{arch}"));
    let plain = Path::new(folder).join("pinacle-agent");
    let path = if named.exists() { named } else { plain };
    let is_ours = path.ends_with("pinacle-agent") && arch == std::env::consts::ARCH || !path.ends_with("pinacle-agent");
    if !is_ours || !path.exists() {
        return Ok(None);
    }
    fs::read(&path).map(Some).with_context(|| format!("read {} (gateway.agent_dir)", path.display()))
}
