//! What the agent can be asked. The bus's responder sees to it that every question gets an answer in time.

mod logs;

use std::{sync::Arc, time::Duration};

use pinacle_bus::{
    client::{Ask, Bus, respond},
    contract::{
        HostId, SCHEMA_VERSION, Timestamp,
        command::{
            AgentVersion, Command, Fault, FaultCode, IntervalSet, KeyRotated, Logs, Ping, Pong, RotateKey, Sample,
            SetInterval, TakeInventory, VERBS, Version,
        },
        inventory::Inventory,
        metrics::Metrics,
        subject::filter,
    },
};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{delivery::SampleNow, docker::View, enrolment::RotateNow, inventory::InventoryNow};

/// Commands that run at a time; a further one is told that the agent is busy.
const MOST_AT_ONCE: usize = 16;
/// Of those, logs: they can last for minutes and shall not keep a ping out.
const MOST_LOGS: usize = 8;

/// Answers commands.
#[derive(Clone)]
pub struct Commands {
    inner: Arc<Inner>,
}

struct Inner {
    host_id: HostId,
    view: watch::Receiver<View>,
    wanted: Wanted,
    interval: watch::Sender<Duration>,
    logs: Semaphore,
}

/// The ways to the tasks that do what is asked for.
pub struct Wanted {
    /// Takes samples.
    pub sample_now: mpsc::Sender<SampleNow>,
    /// Takes inventories.
    pub inventory_now: mpsc::Sender<InventoryNow>,
    /// Takes another key; none where the key is not the agent's to change.
    pub rotate_now: Option<mpsc::Sender<RotateNow>>,
}

impl Commands {
    /// For this host; `interval` is how often samples are taken.
    pub fn new(
        host_id: HostId,
        view: watch::Receiver<View>,
        wanted: Wanted,
        interval: watch::Sender<Duration>,
    ) -> Self {
        let logs = Semaphore::new(MOST_LOGS);
        Self { inner: Arc::new(Inner { host_id, view, wanted, interval, logs }) }
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// When the bus takes no subscription.
    pub async fn answer(self, bus: Bus, shutdown: CancellationToken) -> anyhow::Result<()> {
        let filter = filter::commands(self.inner.host_id);
        let stopping = shutdown.clone();
        respond(&bus, filter, MOST_AT_ONCE, deadline, shutdown, move |ask| self.clone().handle(ask, stopping.clone()))
            .await?;
        Ok(())
    }

    async fn handle(self, ask: Arc<Ask>, stopping: CancellationToken) -> Result<Value, Fault> {
        let inner = &self.inner;
        match ask.verb() {
            Ping::VERB => {
                ask.parameters::<Ping>()?;
                result(Pong { host_id: inner.host_id, at: Timestamp::now() })
            }
            Version::VERB => {
                ask.parameters::<Version>()?;
                let verbs = VERBS.iter().map(|verb| (*verb).to_owned()).collect();
                result(AgentVersion { agent_version: crate::VERSION.to_owned(), schema: SCHEMA_VERSION, verbs })
            }
            Sample::VERB => {
                ask.parameters::<Sample>()?;
                result::<Metrics>(ask_task(&inner.wanted.sample_now).await?)
            }
            TakeInventory::VERB => {
                ask.parameters::<TakeInventory>()?;
                result::<Inventory>(ask_task(&inner.wanted.inventory_now).await?)
            }
            SetInterval::VERB => {
                let interval_ms = ask.parameters::<SetInterval>()?.interval_ms;
                info!(interval_ms, "the interval is set by command");
                inner.interval.send_replace(Duration::from_millis(interval_ms));
                result(IntervalSet { interval_ms })
            }
            RotateKey::VERB => {
                ask.parameters::<RotateKey>()?;
                let Some(rotate) = &inner.wanted.rotate_now else {
                    let why = "this host has its key from its settings, where another one must be put";
                    return Err(fault(FaultCode::Unavailable, why));
                };
                info!("another key is asked for by command");
                result(KeyRotated { public_key: ask_task(rotate).await? })
            }
            Logs::VERB => {
                let wanted = ask.parameters::<Logs>()?;
                let Ok(_permit) = inner.logs.try_acquire() else {
                    return Err(fault(FaultCode::Busy, format!("{MOST_LOGS} logs are being read already; try again")));
                };
                let view = inner.view.borrow().clone();
                tokio::select! {
                    // A followed log notices the stop itself, and says what it has.
                    biased;
                    // cancel-safe: nothing is kept of a log that is read.
                    read = logs::read(&view, &wanted, &ask, &stopping) => result(read?),
                    // cancel-safe: only observed. A Docker that hangs must not hold up the stop.
                    () = stopping.cancelled() => Err(fault(FaultCode::Unavailable, "the agent is stopping")),
                }
            }
            unknown => {
                let unknown: String = unknown.chars().take(64).collect();
                Err(fault(
                    FaultCode::UnknownCommand,
                    format!("there is no command {unknown:?}; this agent knows {}", VERBS.join(", ")),
                ))
            }
        }
    }
}

/// How long a command may take.
fn deadline(verb: &str) -> Duration {
    Duration::from_secs(if verb == Logs::VERB { 330 } else { 20 })
}

fn result<R: Serialize>(result: R) -> Result<Value, Fault> {
    serde_json::to_value(result).map_err(|error| fault(FaultCode::Internal, error.to_string()))
}

fn fault(code: FaultCode, message: impl Into<String>) -> Fault {
    Fault { code, message: message.into() }
}

/// Asks the task behind `channel` and waits for what it made; the responder's deadline bounds the wait.
async fn ask_task<T>(channel: &mpsc::Sender<oneshot::Sender<T>>) -> Result<T, Fault> {
    let (asked, answer) = oneshot::channel();
    channel.try_send(asked).map_err(|_| fault(FaultCode::Busy, "the same is asked for already; try again"))?;
    answer.await.map_err(|_| fault(FaultCode::Unavailable, "the agent is stopping, or Docker takes too long"))
}
