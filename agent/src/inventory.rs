//! What is on the host: told on change, each minute, and first of all at start, which asks for admission.

mod facts;
mod fit;
mod ssh;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use pinacle_bus::{
    client::Bus,
    contract::{
        HostId, Subject, Timestamp,
        host::DockerState,
        inventory::{ImageEntry, Inventory, NetworkEntry, PortEntry},
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::facts::SteadyFacts;
pub use self::facts::hostname;
use crate::{
    docker::{Looks, View},
    procfs::{Protocol, listening},
    reading::Scratch,
    settings::AgentSettings,
};

/// Told so often even when nothing changed.
const EVERY: Duration = Duration::from_secs(60);
/// Changes come in bursts, and a pod's start is several of them.
const GATHER: Duration = Duration::from_millis(500);
/// How long the first inventory waits for Docker's first answer.
const PATIENCE: Duration = Duration::from_secs(3);
const PUBLISH_WITHIN: Duration = Duration::from_secs(3);
/// When publishing failed and the bus seems to be there.
const RETRY: Duration = Duration::from_secs(5);

/// The public keys that the host's SSH server is known by.
pub fn host_keys(settings: &AgentSettings) -> Vec<String> {
    ssh::endpoint(settings, |_| true).map(|endpoint| endpoint.host_keys).unwrap_or_default()
}

/// Asks for an inventory now.
pub type InventoryNow = oneshot::Sender<Inventory>;

/// Looks the host over.
pub struct Inspector {
    host_id: HostId,
    settings: AgentSettings,
    steady: SteadyFacts,
}

impl Inspector {
    /// Reads what cannot change while the agent runs.
    pub fn new(host_id: HostId, settings: &AgentSettings) -> Self {
        Self { host_id, settings: settings.clone(), steady: SteadyFacts::read() }
    }

    /// Takes an inventory now. It blocks for some milliseconds.
    fn take(&self, view: &View, images: Vec<ImageEntry>, networks: Vec<NetworkEntry>) -> Inventory {
        let ports = self.ports();
        let listens = |port: u16| ports.iter().any(|entry| entry.protocol == "tcp" && entry.port == port);
        let ssh = ssh::endpoint(&self.settings, listens);
        let docker_version = match &view.state {
            DockerState::Up { version } => Some(version.clone()),
            DockerState::Down { .. } | DockerState::Absent => None,
        };
        let mut inventory = Inventory {
            host_id: self.host_id,
            taken_at: Timestamp::now(),
            hostname: facts::hostname(&self.settings),
            facts: facts::read(&self.settings, &self.steady, docker_version, view.runtimes.to_vec(), ssh),
            containers: view.containers.to_vec(),
            images,
            networks,
            ports,
            truncated: false,
        };
        fit::fit(&mut inventory);
        inventory
    }

    /// Every port that something listens on, once for each address.
    fn ports(&self) -> Vec<PortEntry> {
        let mut scratch = Scratch::default();
        let mut found: BTreeSet<PortEntry> = BTreeSet::new();
        for (file, protocol) in
            [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)]
        {
            let path: PathBuf = self.settings.proc_dir.join("net").join(file);
            // A kernel without IPv6 has no tcp6.
            let Ok(text) = scratch.read(&path) else { continue };
            found.extend(listening(text, protocol).map(|(address, port)| entry(protocol, address, port)));
        }
        found.into_iter().collect()
    }
}

fn entry(protocol: Protocol, address: IpAddr, port: u16) -> PortEntry {
    PortEntry { protocol: protocol.as_str().to_owned(), address: address.to_string(), port }
}

/// Tells what is on the host.
pub struct InventoryTask {
    /// Where to.
    pub bus: Bus,
    /// Looks.
    pub inspector: Arc<Inspector>,
    /// What Docker has.
    pub view: watch::Receiver<View>,
    /// Inventories wanted now.
    pub wanted: mpsc::Receiver<InventoryNow>,
    /// Makes what Docker has as new as the wish for it.
    pub looks: Looks,
}

impl InventoryTask {
    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When the task is broken.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Docker's word belongs into the first one, if it comes soon; a host without Docker is as welcome.
        let _ = timeout(PATIENCE, self.view.wait_for(|view| view.looked)).await;
        let mut connection = self.bus.connection();
        let mut revision = self.view.borrow_and_update().revision;
        let mut next = Instant::now();
        loop {
            let mut asked = None;
            tokio::select! {
                // cancel-safe: a timer.
                () = sleep_until(next) => {}
                // cancel-safe: a request not yet taken stays in the channel.
                Some(request) = self.wanted.recv() => asked = Some(request),
                // cancel-safe: a watch keeps its value.
                Ok(()) = self.view.changed() => {
                    let new = self.view.borrow_and_update().revision;
                    if new != revision {
                        revision = new;
                        next = next.min(Instant::now() + GATHER);
                    }
                    continue;
                }
                // cancel-safe: as above.
                Ok(()) = connection.changed() => {
                    if connection.borrow_and_update().connected {
                        // The bus may be another one, or have lost its disk.
                        next = Instant::now();
                    }
                    continue;
                }
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
            }
            let inventory = tokio::select! {
                // cancel-safe: what was looked at by then is of no use to anybody.
                taken = self.take(&mut asked) => taken?,
                // cancel-safe: only observed. A Docker that hangs must not hold up the stop.
                () = shutdown.cancelled() => return Ok(()),
            };
            let told = self.publish(&inventory).await;
            if let Some(asked) = asked {
                // Whoever asked may have gone.
                let _ = asked.send(inventory);
            }
            next = Instant::now() + if told || !self.bus.is_connected() { EVERY } else { RETRY };
        }
    }

    /// Whoever asks concludes from the answer: one that may be older than the question is none.
    async fn take(&self, asked: &mut Option<InventoryNow>) -> anyhow::Result<Inventory> {
        if asked.is_some() && !self.looks.fresh().await {
            *asked = None;
        }
        let view = self.view.borrow().clone();
        let (images, networks) = match view.images_and_networks().await {
            Ok(found) => found,
            Err(error) => {
                debug!(error = error.chain(), "no images and networks");
                (Vec::new(), Vec::new())
            }
        };
        let inspector = self.inspector.clone();
        Ok(spawn_blocking(move || inspector.take(&view, images, networks)).await?)
    }

    async fn publish(&self, inventory: &Inventory) -> bool {
        let subject = Subject::Inventory(inventory.host_id);
        let message_id = format!("{}.inventory.{}", inventory.host_id, inventory.taken_at.as_millis());
        match timeout(PUBLISH_WITHIN, self.bus.publish(&subject, &message_id, inventory)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                if self.bus.is_connected() {
                    warn!(%error, "cannot publish the inventory; trying again");
                }
                false
            }
            Err(_) => {
                warn!("nobody acknowledges the inventory; trying again");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
