#![doc = include_str!("../README.md")]

mod clock;
mod gate;
mod known;
mod metrics;
mod projections;
mod settings;
mod throttle;

use std::time::Duration;

use anyhow::Context as _;
use pinacle_bus::{
    client::Bus,
    service::{Context, OnFailure},
};
use pinacle_store::{Database, Timeouts};
use tracing::warn;

pub use settings::{IngestProgram, IngestSettings};

use clock::Clock;
use gate::Gate;
use known::Known;
use metrics::Pipeline;
use projections::Projector;

/// Starts the service's tasks in `context`; they end when it shuts down.
///
/// # Errors
/// When the settings cannot lead to a connection to the bus or to Postgres. That either is away is none: the service
/// waits for it and is not ready meanwhile.
pub async fn start(context: Context, settings: IngestProgram) -> anyhow::Result<()> {
    let shutdown = context.shutdown.clone();
    let bus = context.connect_bus(&settings.bus, "ingest").await?;
    let timeouts =
        Timeouts { statement: Duration::from_millis(settings.database.statement_timeout_ms), ..Timeouts::default() };
    let database = Database::connect(settings.database.url.expose(), settings.database.max_connections, timeouts)
        .context("connect to Postgres")?;

    let gate = Gate::new(context.readiness.condition("database", "Postgres has not answered yet"));
    let (probe, probed) = (gate.clone(), database.clone());
    let stop = shutdown.clone();
    context.supervisor.spawn("database probe", OnFailure::Restart, move || {
        let (probe, database, stop) = (probe.clone(), probed.clone(), stop.clone());
        async move {
            probe.probe(database, stop).await;
            Ok(())
        }
    });
    let clock = Clock { database: database.clone(), gate: gate.clone(), settings: settings.ingest.clone(), shutdown };
    clock.spawn(&context.supervisor);

    let hosts = context.readiness.condition("hosts", "the known hosts have not been read yet");
    let pods = context.readiness.condition("pods", "the known pods have not been read yet");
    let tasks = context.clone();
    context.supervisor.spawn_once("start", async move {
        let shutdown = tasks.shutdown.clone();
        let known = tokio::select! {
            // cancel-safe: dropped only when the service stops.
            known = open(&bus) => known,
            // cancel-safe: only observed.
            () = shutdown.cancelled() => return Ok(()),
        };
        let (cache, primed, stop) = (known.clone(), hosts, shutdown.clone());
        tasks.supervisor.spawn("known hosts", OnFailure::Restart, move || {
            let (cache, primed, stop) = (cache.clone(), primed.clone(), stop.clone());
            async move {
                cache.follow_hosts(primed, stop).await;
                Ok(())
            }
        });
        let (cache, primed, stop) = (known.clone(), pods, shutdown.clone());
        tasks.supervisor.spawn("known pods", OnFailure::Restart, move || {
            let (cache, primed, stop) = (cache.clone(), primed.clone(), stop.clone());
            async move {
                cache.follow_pods(primed, stop).await;
                Ok(())
            }
        });
        let at_once = settings.ingest.projections_at_once;
        Projector {
            bus: bus.clone(),
            database: database.clone(),
            gate: gate.clone(),
            at_once,
            shutdown: shutdown.clone(),
        }
        .spawn(&tasks.supervisor);
        let pipeline = Pipeline { bus, database, gate, known, settings: settings.ingest, shutdown };
        tasks.supervisor.spawn("samples", OnFailure::Restart, move || pipeline.clone().run());
        Ok(())
    });
    Ok(())
}

/// Opens the buckets, however long the bus is away or the orchestrator has not made them.
async fn open(bus: &Bus) -> Known {
    loop {
        match Known::open(bus).await {
            Ok(known) => return known,
            Err(error) => {
                warn!(%error, "cannot open the buckets yet; trying again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
