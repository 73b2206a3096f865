//! The sign of life, in a task of its own: nothing that the agent does for others can hold it up.

use std::{path::PathBuf, time::Duration};

use pinacle_bus::{
    client::Bus,
    contract::{HostId, Subject, Timestamp, host::Heartbeat},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{docker::View, procfs, reading::Scratch};

/// How often; liveness everywhere rests on it, so that it is no setting.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// A heartbeat that cannot be handed over by then is old.
const DEADLINE: Duration = Duration::from_secs(1);

/// Makes and sends heartbeats.
pub struct Heart {
    /// The host.
    pub host_id: HostId,
    /// Where to.
    pub bus: Bus,
    /// Docker's state.
    pub view: watch::Receiver<View>,
    /// Usually `/proc`.
    pub proc: PathBuf,
}

impl Heart {
    /// Beats until `shutdown`, and then says farewell, so that the silence after it is no outage.
    ///
    /// # Errors
    /// None.
    pub async fn beat(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let subject = Subject::Heartbeat(self.host_id);
        let mut scratch = Scratch::default();
        let mut connection = self.bus.connection();
        let mut next = Instant::now();
        let mut sequence = 0;
        loop {
            tokio::select! {
                // cancel-safe: a timer.
                () = sleep_until(next) => next += HEARTBEAT_EVERY,
                // cancel-safe: a watch keeps its value.
                changed = connection.changed() => {
                    // Back on the bus: whoever worries about this host shall not wait longer than needed.
                    if changed.is_ok() && !connection.borrow_and_update().connected { continue; }
                    next = Instant::now() + HEARTBEAT_EVERY;
                }
                // cancel-safe: only observed.
                () = shutdown.cancelled() => break,
            }
            sequence += 1;
            self.send(&subject, self.read(&mut scratch, sequence, false)).await;
        }
        self.send(&subject, self.read(&mut scratch, sequence + 1, true)).await;
        match self.bus.flush(DEADLINE).await {
            Ok(()) => info!("said farewell"),
            Err(error) => info!(%error, "could not say farewell"),
        }
        Ok(())
    }

    async fn send(&self, subject: &Subject, heartbeat: Heartbeat) {
        match timeout(DEADLINE, self.bus.publish_unacked(subject, &heartbeat)).await {
            Ok(Ok(())) => {}
            // The connection's own events are logged already, and the next heartbeat replaces this one.
            Ok(Err(error)) => debug!(%error, "no heartbeat"),
            Err(_) => debug!("no heartbeat: the connection takes nothing in"),
        }
    }

    /// These files are made by the kernel from what it has at hand: reading them waits for nothing.
    fn read(&self, scratch: &mut Scratch, sequence: u64, stopping: bool) -> Heartbeat {
        let mut file = |name: &str| scratch.read(&self.proc.join(name)).map(str::to_owned).unwrap_or_default();
        let [load_1, load_5, load_15] = procfs::loads(&file("loadavg"));
        Heartbeat {
            host_id: self.host_id,
            sent_at: Timestamp::now(),
            sequence,
            agent_version: crate::VERSION.to_owned(),
            boot_id: file("sys/kernel/random/boot_id").trim().chars().take(64).collect(),
            uptime_seconds: procfs::uptime_seconds(&file("uptime")),
            load_1,
            load_5,
            load_15,
            docker: self.view.borrow().state.clone(),
            stopping,
        }
    }
}
