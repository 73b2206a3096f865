//! `pinacle up`: everything on this machine, in the foreground.
//!
//! It starts parts in order, waits for each with a deadline, keeps them running, and stops them in order again.
//! Every part may be killed at any time, this one included: a later `up` finds all data again.

mod docker;
mod door;
mod filter;
mod ground;
mod home;
mod image;
mod log;
mod nats;
mod part;
mod ports;
mod postgres;
mod probe;
mod sample;
mod services;
mod settings;
mod signals;
mod ssh;
mod start;
mod summary;
mod supervise;
mod trust;

use std::time::Duration;

use tokio::time::{Instant, interval_at, sleep};

use crate::{
    args::{Global, UpArgs},
    failure::Failure,
    local::Folder,
    progress::Console,
    terminal::Terminal,
};
use home::Home;
use settings::UpSettings;
use signals::Signals;
use start::Start;
use supervise::Parts;

/// Stopped in this order: the agent says farewell while everybody can still hear it, ingest writes what is in hand
/// while Postgres is there, nobody sees the pods end with Docker as if they had died, and the bus goes last.
const STOP_ORDER: [&str; 8] = ["agent", "gateway", "orchestrator", "ingest", "ssh", "docker", "postgres", "nats"];
/// How long the farewell may take from the agent to the database.
const FAREWELL: Duration = Duration::from_millis(500);
const DISK_EVERY: Duration = Duration::from_secs(30);

/// `pinacle up`.
pub(crate) async fn run(args: UpArgs, global: &Global, terminal: &Terminal) -> Result<(), Failure> {
    let settings = UpSettings::read(&args, global)?;
    let given = global.data_dir.as_deref().unwrap_or(&settings.up.data_dir);
    let home = Home::open(Folder::find(Some(given))?, settings.up.min_free_mib).await?;
    let console = Console::new(terminal);
    let mut parts = Parts::new(home.folder.clone(), console.clone());
    let mut signals = Signals::new()?;
    let start = Start { settings: &settings, config: global.config.as_deref(), home: &home, console: &console };

    let outcome = tokio::select! {
        // cancel-safe: the parts that run are stopped below; what is half made is made anew by the next start.
        started = start.all(&mut parts) => match started {
            Ok(started) => {
                // That nobody reads how to look at it is no reason to stop.
                let _ = summary::print(terminal, &home, &started);
                Ok(())
            }
            Err(failure) => Err(failure),
        },
        // cancel-safe: the signal is the reason to end.
        name = signals.next() => {
            console.say(&format!("{name}: stopping before everything has started"));
            stop(&mut parts, &mut signals, &console).await;
            ground::clear(&home).await;
            return Ok(());
        }
    };
    if outcome.is_ok() {
        let name = until_signal(&mut signals, &home, settings.up.min_free_mib, &console).await;
        console.say(&format!("\n{name}: stopping everything in order (once more: at once)"));
    }
    stop(&mut parts, &mut signals, &console).await;
    ground::clear(&home).await;
    outcome
}

/// Waits for a signal; tells when the disk runs full meanwhile, before the servers stop taking anything in.
async fn until_signal(signals: &mut Signals, home: &Home, min_free_mib: u64, console: &Console) -> &'static str {
    let mut timer = interval_at(Instant::now() + DISK_EVERY, DISK_EVERY);
    let mut told = false;
    loop {
        tokio::select! {
            // cancel-safe: see Signals::next.
            name = signals.next() => return name,
            // cancel-safe: a timer.
            _ = timer.tick() => {
                let scarce = home::free_mib(home.folder.root()).filter(|free| *free < min_free_mib);
                if let (Some(free), false) = (scarce, told) {
                    let root = home.folder.root().display();
                    console.warn(&format!("the disk of {root} has {free} MiB left: make room, or nothing more can be stored"));
                }
                told = scarce.is_some();
            }
        }
    }
}

/// Stops what runs; a second signal cuts that short, and what still runs is killed with this process.
async fn stop(parts: &mut Parts, signals: &mut Signals, console: &Console) {
    let in_order = async {
        for name in STOP_ORDER {
            let began = Instant::now();
            let Some(outcome) = parts.stop(name).await else { continue };
            let time = began.elapsed().as_secs_f64();
            match outcome {
                Ok(()) => console.say(&format!("  {name:<12} stopped in {time:.1} s")),
                Err(how) => console.warn(&format!("  {name:<12} stopped in {time:.1} s: {how}")),
            }
            if name == "agent" {
                sleep(FAREWELL).await;
            }
        }
    };
    tokio::select! {
        // cancel-safe: what is left is killed when its handle is dropped.
        () = in_order => {}
        // cancel-safe: the signal is the reason to end.
        name = signals.next() => console.warn(&format!("{name}: killing what is left")),
    }
}
