//! The connections to all hosts.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use pinacle_bus::contract::HostId;

use super::{Endpoint, HostConnection, SshSettings};

/// One connection for each host. Cheap to clone; all clones share them.
#[derive(Clone)]
pub struct Connections {
    settings: Arc<SshSettings>,
    hosts: Arc<Mutex<HashMap<HostId, HostConnection>>>,
}

impl Connections {
    /// None yet.
    pub fn new(settings: SshSettings) -> Self {
        Self { settings: Arc::new(settings), hosts: Arc::default() }
    }

    /// A host's connection. When the host is elsewhere than before, or known by other keys, it is a new one; commands
    /// that run on the old one come to their end there, and then it closes.
    pub fn host(&self, host: HostId, endpoint: &Endpoint) -> HostConnection {
        let mut hosts = self.hosts.lock();
        if let Some(connection) = hosts.get(&host).filter(|connection| connection.endpoint() == endpoint) {
            return connection.clone();
        }
        let connection = HostConnection::new(endpoint.clone(), self.settings.clone());
        hosts.insert(host, connection.clone());
        connection
    }

    /// Forgets a host that is gone; its connection closes when its last command has ended.
    pub fn forget(&self, host: HostId) {
        self.hosts.lock().remove(&host);
    }

    /// Ends what runs, and closes every connection for good.
    pub async fn close_all(&self) {
        let all: Vec<HostConnection> = self.hosts.lock().drain().map(|(_, connection)| connection).collect();
        futures_util::future::join_all(all.iter().map(HostConnection::close)).await;
    }
}
