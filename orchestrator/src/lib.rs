#![doc = include_str!("../README.md")]

pub mod accept;
pub mod admission;
pub mod announcement;
pub mod fleet;
pub mod follow;
pub mod keys;
pub mod lease;
pub mod ledger;
pub mod liveness;
pub mod names;
pub mod notice;
pub mod operation;
pub mod placement;
pub mod reconcile;
pub mod record;
pub mod registry;
pub mod settings;
pub mod ssh;
pub mod steps;
pub mod tell;
pub mod terms;
pub mod view;

#[cfg(test)]
mod sample;

use std::{sync::Arc, time::Duration};

use anyhow::{anyhow, bail};
use pinacle_bus::{
    client::Bus,
    contract::topology::{LEASES, PODS},
    crypto::Key,
    service::{Context, OnFailure},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    admission::Admission,
    follow::Follow,
    keys::{Keys, KeysError},
    ledger::Ledgers,
    names::Names,
    operation::{
        context::{Engine, PerHost},
        crash::CrashPoint,
        dispatch,
    },
    registry::Registry,
    settings::{DEVELOPMENT_KEY, Orchestrator, OrchestratorSettings},
    ssh::{Connections, SshSettings},
    terms::Terms,
    view::View,
};

/// The name of the service's connection to the bus.
pub const CONNECTION_NAME: &str = "pinacle-orchestrator";

const PATIENCE_WITH_TOPOLOGY: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);

/// Starts the orchestrator's tasks and returns.
///
/// # Errors
/// When the settings cannot lead to a connection to the bus. That NATS is away is none: it waits.
pub async fn start(context: Context, settings: OrchestratorSettings) -> anyhow::Result<()> {
    let condition = context.readiness.condition("host records", "they are not read yet");
    let bus = context.connect_bus(&settings.bus, CONNECTION_NAME).await?;
    let registry = open(&bus).await;
    let names = Names::default();
    let known = Arc::new(watch::Sender::new(false));

    let (topology_bus, shutdown) = (bus.clone(), context.shutdown.clone());
    context
        .supervisor
        .spawn("topology", OnFailure::Restart, move || keep_topology(topology_bus.clone(), shutdown.clone()));

    let follow = Follow {
        bus: bus.clone(),
        registry: registry.clone(),
        names: names.clone(),
        patience: settings.orchestrator.patience(),
        changes_at_once: settings.orchestrator.changes_at_once,
        condition,
        known: known.clone(),
        shutdown: context.shutdown.clone(),
    };
    context.supervisor.spawn("liveness", OnFailure::Restart, move || follow.clone().run());

    start_pods(&context, &bus, (&registry, &names), &settings).await?;

    let most_at_once = settings.orchestrator.inventories_at_once;
    let shutdown = context.shutdown.clone();
    context.supervisor.spawn("admission", OnFailure::Restart, move || {
        let admission = Admission::new(registry.clone(), names.clone());
        let (bus, shutdown, mut known) = (bus.clone(), shutdown.clone(), known.subscribe());
        async move {
            // Names that are taken must be known before another is given.
            tokio::select! {
                // cancel-safe: a watch keeps its value.
                told = known.wait_for(|known| *known) => drop(told?),
                // cancel-safe: only observed.
                () = shutdown.cancelled() => return Ok(()),
            }
            admission.run(&bus, most_at_once, shutdown).await;
            Ok(())
        }
    });
    Ok(())
}

/// Starts what takes in requests, works on pods, and compares them with their hosts.
async fn start_pods(
    context: &Context,
    bus: &Bus,
    (registry, names): (&Registry, &Names),
    settings: &OrchestratorSettings,
) -> anyhow::Result<()> {
    let (supervisor, shutdown) = (&context.supervisor, context.shutdown.clone());
    let own = Arc::new(settings.orchestrator.clone());
    let crash = CrashPoint::parse(&own.crash_at).map_err(|why| anyhow!("orchestrator.crash_at: {why}"))?;
    if !own.crash_at.is_empty() && !context.dev {
        bail!("orchestrator.crash_at is for tests; it needs the development mode (--dev)");
    }
    let keys = keys(bus, &own, shutdown.clone()).await?;
    let (followed, stop) = (keys.clone(), shutdown.clone());
    supervisor.spawn("keys", OnFailure::Restart, move || followed.clone().follow(stop.clone()));
    let view = View::default();
    let (following, followed, stop) = (view.clone(), bus.clone(), shutdown.clone());
    supervisor
        .spawn("live records", OnFailure::Restart, move || following.clone().follow(followed.clone(), stop.clone()));
    let engine = Engine {
        bus: bus.clone(),
        pods: bus.bucket(&PODS).await?,
        leases: bus.bucket(&LEASES).await?,
        ledgers: Ledgers::open(bus, view.clone()).await?,
        view,
        connections: Connections::new(SshSettings { keys: keys.ssh().clone(), ..SshSettings::from(&*own) }),
        keys,
        turns: PerHost::new(own.operations_per_host),
        images: PerHost::new(1),
        settings: own,
        holder: format!("{:032x}", rand::random::<u128>()).into(),
        crash,
        shutdown,
    };
    reconcile::start(supervisor, &engine).await?;
    let working = engine.clone();
    supervisor.spawn("operations", OnFailure::Restart, move || dispatch::run(working.clone()));
    let terms = Terms::new(bus.clone(), registry.clone(), names.clone());
    supervisor.spawn("requests", OnFailure::Restart, move || {
        let (engine, terms) = (engine.clone(), terms.clone());
        async move {
            accept::run(engine, terms).await;
            Ok(())
        }
    });
    Ok(())
}

/// The orchestrator's own keys, read or made as soon as the bus answers.
async fn keys(bus: &Bus, settings: &Orchestrator, shutdown: CancellationToken) -> anyhow::Result<Keys> {
    let mut key = settings.key.expose();
    if key.is_empty() {
        // Only reached with --dev: otherwise a missing key is a fault of the settings.
        warn!("development mode: the orchestrator's keys are under the key of the source code");
        key = DEVELOPMENT_KEY;
    }
    let wrapping = Key::from_hex(key).ok_or_else(|| anyhow!("orchestrator.key: must be 64 hexadecimal digits"))?;
    loop {
        match Keys::open(bus, wrapping.clone(), settings).await {
            Ok(keys) => return Ok(keys),
            Err(KeysError::Bus(error)) => warn!(%error, "the keys cannot be read; trying again"),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            // cancel-safe: a timer.
            () = tokio::time::sleep(PAUSE) => {}
            // cancel-safe: only observed.
            () = shutdown.cancelled() => bail!("stopped before the bus answered"),
        }
    }
}

/// Waits until the bus holds what the orchestrator works on, for as long as that takes.
async fn open(bus: &Bus) -> Registry {
    loop {
        let opened = match bus.await_topology(PATIENCE_WITH_TOPOLOGY).await {
            Ok(()) => Registry::open(bus).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(registry) => return registry,
            Err(error) => warn!(%error, "the bus is not as it must be; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Applies the topology after each reconnect: a server that restarted has forgotten its streams in memory.
async fn keep_topology(bus: Bus, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut connection = bus.connection();
    let mut applied = connection.borrow_and_update().connects;
    loop {
        let state = *connection.borrow_and_update();
        if state.connected && state.connects != applied {
            bus.await_topology(PATIENCE_WITH_TOPOLOGY).await?;
            info!("applied the bus's topology after a reconnect");
            applied = state.connects;
        }
        tokio::select! {
            // cancel-safe: a watch keeps its value.
            changed = connection.changed() => changed?,
            // cancel-safe: only observed.
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}
