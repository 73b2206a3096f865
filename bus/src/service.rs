//! The life of a service process: arguments, settings, telemetry, the admin server, supervised tasks, and a stop that
//! loses nothing. Each `main` is one call of [`main`].

mod admin;
mod readiness;
mod supervisor;
mod telemetry;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{CommandFactory, FromArgMatches, Parser};
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use readiness::{Condition, Readiness};
pub use supervisor::{OnFailure, Supervisor};

use crate::{
    client::Bus,
    settings::{self, AdminSettings, BusSettings, LogSettings, Settings},
};

/// Exit code for settings that cannot be used (`EX_USAGE`).
pub const EXIT_SETTINGS: u8 = 64;

/// The settings that every service has.
pub trait ServiceSettings: Settings {
    /// `[log]`
    fn log(&self) -> &LogSettings;
    /// `[admin]`
    fn admin(&self) -> &AdminSettings;
    /// `[bus]`
    fn bus(&self) -> &BusSettings;

    /// Secrets that are missing; without `--dev` the service refuses to start without them.
    fn missing_secrets(&self) -> Vec<String> {
        self.bus().missing_secrets()
    }
}

/// How many threads a service runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling one, for the smallest footprint.
    One,
    /// One a core.
    Many,
}

#[derive(Parser)]
#[command(version, disable_help_subcommand = true)]
struct Arguments {
    /// Read settings from this TOML file; PINACLE__SECTION__KEY in the environment wins over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The development mode: start without secrets.
    #[arg(long)]
    dev: bool,
    /// Print the settings in force, secrets redacted, and stop.
    #[arg(long)]
    print_config: bool,
    /// Print every setting with its default and its meaning, and stop.
    #[arg(long)]
    print_defaults: bool,
}

/// What a service's start function is given.
#[derive(Clone)]
pub struct Context {
    /// Starts named tasks.
    pub supervisor: Supervisor,
    /// What `/readyz` answers.
    pub readiness: Readiness,
    /// Cancelled when the service is to stop: take in nothing new, finish what is under way.
    pub shutdown: CancellationToken,
    /// Whether `--dev` was given.
    pub dev: bool,
    buses: std::sync::Arc<Mutex<Vec<Bus>>>,
}

impl Context {
    /// A context outside of [`main`], for tests and for tools that run a part of a service.
    pub fn detached() -> Self {
        let shutdown = CancellationToken::new();
        Self {
            supervisor: Supervisor::new(shutdown.clone()),
            readiness: Readiness::default(),
            shutdown,
            dev: true,
            buses: std::sync::Arc::default(),
        }
    }

    /// Connects to the bus as `name`; readiness follows the connection, and what is buffered is sent before the
    /// process ends.
    ///
    /// # Errors
    /// When the settings cannot lead to a connection. That NATS is away is none.
    pub async fn connect_bus(&self, settings: &BusSettings, name: &str) -> anyhow::Result<Bus> {
        let bus = Bus::connect(settings, name).await.context("connect to the bus")?;
        let condition = self.readiness.condition("bus", "connecting");
        let mut connection = bus.connection();
        let shutdown = self.shutdown.clone();
        self.supervisor.spawn_once("bus readiness", async move {
            loop {
                if connection.borrow_and_update().connected {
                    condition.met();
                } else {
                    condition.unmet("there is no connection to NATS");
                }
                tokio::select! {
                    // cancel-safe: the newest state is read at the top.
                    changed = connection.changed() => if changed.is_err() { return Ok(()) },
                    // cancel-safe: only observed.
                    () = shutdown.cancelled() => return Ok(()),
                }
            }
        });
        self.buses.lock().push(bus.clone());
        Ok(bus)
    }
}

/// Runs a service: reads arguments and settings, calls `start`, which spawns the service's tasks and returns, and waits
/// for SIGTERM, SIGINT or the failure of a task that the service cannot do without.
///
/// Exit codes: 0 stopped as asked, 1 failed, [`EXIT_SETTINGS`] for settings that cannot be used.
pub fn main<S, F, Fut>(name: &'static str, threads: Threads, start: F) -> ExitCode
where
    S: ServiceSettings,
    F: FnOnce(Context, S) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    // The program's own name, not this crate's.
    let matches = Arguments::command().name(name).try_get_matches();
    let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_SETTINGS } else { 0 };
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if arguments.print_defaults {
        return print(&S::DEFAULTS.join("\n"));
    }
    let settings = match read_settings::<S>(&arguments) {
        Ok(settings) => settings,
        Err(faults) => {
            let lines: Vec<String> = faults.iter().map(|fault| format!("{name}: {fault}\n")).collect();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), lines.concat().as_bytes());
            return ExitCode::from(EXIT_SETTINGS);
        }
    };
    if arguments.print_config {
        return print(&settings::print(&settings).unwrap_or_else(|error| error.to_string()));
    }
    telemetry::start(name, settings.log());
    let mut runtime = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many => tokio::runtime::Builder::new_multi_thread(),
    };
    let outcome = runtime.enable_all().build().context("start the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(run(name, arguments.dev, settings, start));
        // A blocking call that hangs must not hold up the end.
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{name} failed: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn read_settings<S: ServiceSettings>(arguments: &Arguments) -> Result<S, Vec<String>> {
    let settings: S = settings::load(arguments.config.as_deref(), std::env::vars()).map_err(|error| error.faults)?;
    let missing = settings.missing_secrets();
    if arguments.dev || arguments.print_config || missing.is_empty() { Ok(settings) } else { Err(missing) }
}

async fn run<S, F, Fut>(name: &'static str, dev: bool, settings: S, start: F) -> anyhow::Result<()>
where
    S: ServiceSettings,
    F: FnOnce(Context, S) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let context = Context { dev, ..Context::detached() };
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let drain = Duration::from_millis(settings.admin().drain_ms);
    // Without it a service would count as ready before it has said what it waits for.
    let starting = context.readiness.condition("start", "starting");
    let admin = admin::serve(settings.admin(), name, &context).await?;
    info!(version = env!("CARGO_PKG_VERSION"), "{name} starts");

    let mut failed = context.supervisor.failures();
    let outcome = tokio::select! {
        // cancel-safe: dropped only when the process ends.
        outcome = async {
            start(context.clone(), settings).await.with_context(|| format!("start {name}"))?;
            starting.met();
            let failure = failed.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
            Err(anyhow::anyhow!("task {} failed", failure.unwrap_or_default()))
        } => outcome,
        // cancel-safe: the signal is the reason to end, also while the service still starts.
        _ = terminate.recv() => { info!("SIGTERM: {name} stops"); Ok(()) }
        // cancel-safe: as above.
        _ = interrupt.recv() => { info!("SIGINT: {name} stops"); Ok(()) }
    };
    context.shutdown.cancel();
    let drained = tokio::select! {
        // cancel-safe: dropped only when the process ends.
        drained = context.supervisor.drain(drain) => drained,
        // cancel-safe: a second signal cuts the drain off.
        _ = terminate.recv() => Err(vec!["a second SIGTERM".into()]),
        // cancel-safe: as above.
        _ = interrupt.recv() => Err(vec!["a second SIGINT".into()]),
    };
    let buses = std::mem::take(&mut *context.buses.lock());
    for bus in buses.iter().filter(|bus| bus.is_connected()) {
        if let Err(error) = bus.flush(Duration::from_secs(2)).await {
            warn!(%error, "cannot send what is buffered");
        }
    }
    drop(admin);
    match (outcome, drained) {
        (Err(failure), _) => Err(failure),
        (Ok(()), Err(left)) => Err(anyhow::anyhow!("stopped with work left: {}", left.join(", "))),
        (Ok(()), Ok(())) => {
            info!("{name} stopped");
            Ok(())
        }
    }
}
