//! Keeps the grant good, and takes another key when it is asked to.

use std::time::Duration;

use anyhow::Context as _;
use pinacle_bus::{client::Bus, contract::Timestamp, trust::nkeys::KeyPair};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Membership;
use crate::gateway::AskError;

/// The bus may have been told that the grant is good for nothing: without a connection for so long, another is asked for.
const DISCONNECTED_FOR: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Asks for another key; answered with its public half.
pub type RotateNow = oneshot::Sender<String>;

/// See the module.
pub struct Keeper {
    /// What is kept.
    pub membership: Membership,
    /// Whose credentials are renewed.
    pub bus: Bus,
    /// Who wants another key.
    pub rotate: mpsc::Receiver<RotateNow>,
}

impl Keeper {
    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When the state directory cannot be written any more; when the bus is elsewhere now, which takes a start anew.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut again = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut said = String::new();
        let bus_was = (self.membership.grant.bus_url.clone(), self.membership.grant.bus_ca.clone());
        loop {
            let mut wanted = None;
            tokio::select! {
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
                // cancel-safe: a channel keeps what is not taken.
                Some(asked) = self.rotate.recv() => wanted = Some(asked),
                // cancel-safe: nothing is kept of it.
                () = sleep(LOOK_EVERY) => {}
            }
            if let Some(asked) = wanted {
                self.prepare(asked)?;
            } else if again > Instant::now() || !self.is_due() {
                continue;
            }
            match self.membership.renew().await {
                Ok(()) => {
                    let grant = &self.membership.grant;
                    anyhow::ensure!(
                        (&grant.bus_url, &grant.bus_ca) == (&bus_was.0, &bus_was.1),
                        "the bus is at {} now, or has another authority: start again",
                        grant.bus_url
                    );
                    self.bus.renew_credentials(self.membership.credentials()?).context("take a grant")?;
                    info!(until = %self.membership.grant.expires_at, "another grant for the bus");
                    (again, pause) = (Instant::now() + FIRST_PAUSE, FIRST_PAUSE);
                    said.clear();
                }
                Err(error) => {
                    let why = match &error {
                        AskError::Refused(refusal) => format!("the gateway refuses another grant: {refusal}"),
                        AskError::Failed(error) => format!("cannot ask for another grant: {error:#}"),
                    };
                    if why != said {
                        warn!("{why}; trying again");
                        said = why;
                    }
                    again = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Writes a fresh key down before anybody hears of it.
    fn prepare(&mut self, asked: RotateNow) -> anyhow::Result<()> {
        let fresh = KeyPair::new_user();
        self.membership.stored.fresh_seed = Some(fresh.seed().context("make a key")?);
        self.membership.save()?;
        // Whoever asked may have given up; the key is taken all the same.
        let _ = asked.send(fresh.public_key());
        Ok(())
    }

    fn is_due(&self) -> bool {
        let state = *self.bus.connection().borrow();
        let cut_off = !state.connected && state.since.elapsed() >= DISCONNECTED_FOR;
        cut_off || self.membership.stored.fresh_seed.is_some() || self.membership.renew_at() <= Timestamp::now()
    }
}
