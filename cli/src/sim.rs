//! `pinacle sim`: a fleet of agents from one process, over the real contract. For load, demonstrations and faults on
//! request. It counts what it published exactly, so that whoever looks at the other end can compare.

mod faults;
mod host;
mod plan;
mod pulse;
mod tally;
mod worker;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pinacle_bus::{
    client::Bus,
    contract::{Timestamp, grant::Role, topology::StreamName},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{args::Global, failure::Failure, figures, local, terminal::Terminal};
use faults::Faults;
use plan::Plan;
use pulse::Pulses;
use tally::{Report, Tally};
use worker::Worker;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// What one connection carries at ease when each message waits for its acknowledgement.
const HOSTS_A_CONNECTION: u32 = 500;
const MOST_CONNECTIONS: u32 = 64;
/// How long late samples and farewells may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// How often progress is told where no terminal shows it.
const TELL_EVERY: u64 = 10;

/// `pinacle sim`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The hosts are the same ones in each run with the same seed. Ctrl-C says farewell for all of them and
prints what was published.

Faults, in percent: late = samples that wait as in an agent's spool; duplicate = samples sent twice;
malformed = broken messages beside the good ones; gone = hosts that vanish without a farewell.

Examples:
  pinacle sim                                        ten hosts with five pods each
  pinacle sim --hosts 1000 --pods 50                 a load of 10,000 pod samples a second
  pinacle sim --hosts 100 --faults late=5,duplicate=2,malformed=0.5,gone=10
  pinacle sim --hosts 200 --duration 5m --json       exact counts at the end, for a program")]
pub(crate) struct SimArgs {
    /// How many hosts
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub hosts: u32,
    /// How many pods on each
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub pods: u32,
    /// The time between two samples of a host
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = pace)]
    pub interval: Duration,
    /// How long; without it until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Faults in percent, such as late=5,duplicate=2,malformed=0.5,gone=10
    #[arg(long, default_value = "", value_name = "FAULTS", hide_default_value = true)]
    pub faults: Faults,
    /// Which fleet: another number is other hosts
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// How many connections share the hosts [default: one for 500 hosts]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CONNECTIONS)))]
    pub connections: Option<u32>,
    /// The NATS server [default: that of the settings, or of the local `pinacle up`]
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// A NATS .creds file [default: as for --nats]
    #[arg(long, value_name = "FILE")]
    pub nats_credentials_file: Option<PathBuf>,
}

/// A time between samples, as agents allow it. A bare number is seconds.
fn pace(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let parsed = match seconds {
        Some(parsed) => parsed,
        None => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if parsed >= Duration::from_millis(100) && parsed <= Duration::from_secs(60) {
        Ok(parsed)
    } else {
        Err("must be from 100ms to 60s".into())
    }
}

/// Runs the fleet until its time is over or a signal comes.
pub(crate) async fn run(global: &Global, terminal: &Terminal, args: SimArgs) -> Result<(), Failure> {
    let settings = local::bus(global, args.nats.as_deref(), args.nats_credentials_file.as_deref(), Role::Simulator)?;
    let connections = args
        .connections
        .unwrap_or_else(|| args.hosts.div_ceil(HOSTS_A_CONNECTION))
        .clamp(1, MOST_CONNECTIONS)
        .min(args.hosts);
    let mut buses = Vec::new();
    for _ in 0..connections {
        let bus = Bus::connect(&settings, "pinacle sim").await.map_err(|error| Failure::input(error.to_string()))?;
        if bus.connected(CONNECT_DEADLINE).await.is_err() {
            return Err(Failure::failed(format!(
                "NATS at {} cannot be reached, or refuses the login: start everything with make up, or name another with --nats",
                settings.url
            )));
        }
        buses.push(bus);
    }
    if let Some(bus) = buses.first() {
        bus.stream_bounds(StreamName::Metrics).await.map_err(|error| {
            Failure::failed(format!("the bus has no streams yet; start a service of Pinacle's on it first: {error}"))
        })?;
    }
    let tally = Arc::new(Tally::default());
    let stop = CancellationToken::new();
    let began = (Instant::now(), Timestamp::now());
    let mut workers = JoinSet::new();
    for (connection, bus) in (0..).zip(buses) {
        let plan = Plan {
            hosts: args.hosts,
            pods: args.pods,
            seed: args.seed,
            interval: args.interval,
            duration: args.duration,
            faults: args.faults,
            connection,
            connections,
            began: began.0,
        };
        workers.spawn(Pulses::new(bus.clone(), &plan, tally.clone()).run(stop.clone()));
        workers.spawn(Worker::new(bus, &plan, tally.clone()).run(stop.clone()));
    }
    let interrupted = watch(terminal, &args, &tally, began.0, &mut workers).await?;
    stop.cancel();
    let deadline = Instant::now() + LAST_WORDS;
    let mut interrupt = signal(SignalKind::interrupt())?;
    while !workers.is_empty() {
        tokio::select! {
            // cancel-safe: joining an ended task loses nothing.
            ended = workers.join_next() => if let Some(Err(error)) = ended {
                return Err(Failure::failed(format!("a part of the fleet failed: {error}")));
            },
            // cancel-safe: a timer.
            () = sleep_until(deadline) => break,
            // cancel-safe: a second signal cuts the farewells off.
            _ = interrupt.recv() => break,
        }
    }
    let left = workers.len();
    workers.shutdown().await;
    let report = Report::new(&args, connections, &tally, began, interrupted);
    if terminal.json {
        terminal.document(&report)?
    } else {
        report.print(terminal)?
    }
    if left > 0 {
        return Err(Failure::failed("not all late samples and farewells could be sent; the counts are of what was"));
    }
    Ok(())
}

/// Shows progress until the time is over or a signal comes; returns whether it was a signal.
async fn watch(
    terminal: &Terminal,
    args: &SimArgs,
    tally: &Tally,
    began: Instant,
    workers: &mut JoinSet<()>,
) -> Result<bool, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let target = if terminal.progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let spinner = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        spinner.set_style(style);
    }
    let mut timer = interval(Duration::from_secs(1));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = (Instant::now(), tally.published());
    let end = args.duration.map(|duration| began + duration);
    let interrupted = loop {
        let over = async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // cancel-safe: a timer, made anew from the same moment.
            () = over => break false,
            // cancel-safe: the signal is the reason to end.
            _ = interrupt.recv() => break true,
            // cancel-safe: as above.
            _ = terminate.recv() => break true,
            // cancel-safe: joining an ended task loses nothing; a worker that ends early has failed.
            Some(ended) = workers.join_next() => {
                let why = ended.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
                return Err(Failure::failed(format!("a part of the fleet failed: {why}")));
            }
            // cancel-safe: a timer.
            _ = timer.tick() => {
                let now = (Instant::now(), tally.published());
                let line = progress(args, tally, began, before, now);
                before = now;
                spinner.set_message(line.clone());
                spinner.tick();
                if !terminal.progress && !terminal.json && began.elapsed().as_secs() % TELL_EVERY == TELL_EVERY - 1 {
                    terminal.hint(&line);
                }
            }
        }
    };
    spinner.finish_and_clear();
    if terminal.progress {
        terminal.hint("saying farewell for all hosts …");
    }
    Ok(interrupted)
}

type Seen = (Instant, (u64, u64));

fn progress(args: &SimArgs, tally: &Tally, began: Instant, before: Seen, now: Seen) -> String {
    let seconds = now.0.saturating_duration_since(before.0).as_secs_f64().max(0.001);
    let samples = now.1.0.saturating_sub(before.1.0) as f64 / seconds;
    let bytes = now.1.1.saturating_sub(before.1.1) as f64 / seconds;
    let behind = tally.take_behind_ms();
    let behind = if behind >= 100 { format!(", {:.1} s behind", behind as f64 / 1000.0) } else { String::new() };
    format!(
        "{}: {}, {} so far, {samples:.0}/s, {}{behind}",
        figures::span(began.elapsed().as_secs()),
        figures::count(usize::try_from(args.hosts).unwrap_or(usize::MAX), "host"),
        figures::count(usize::try_from(now.1.0).unwrap_or(usize::MAX), "sample"),
        figures::rate(bytes),
    )
}

/// Sends what is buffered; a bus that is away has had its chance.
async fn flush(bus: &Bus) {
    let _ = timeout(CONNECT_DEADLINE, bus.flush(CONNECT_DEADLINE)).await;
}
