#![doc = include_str!("../README.md")]

mod cgroup;
mod commands;
mod delivery;
mod docker;
mod enrolment;
mod gateway;
mod heartbeat;
mod identity;
mod inventory;
mod procfs;
mod reading;
mod sample;
mod settings;
mod spool;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use parking_lot::Mutex;
use pinacle_bus::service::{Context, OnFailure};
use tokio::sync::{Notify, mpsc, watch};

pub use settings::{AgentProgram, AgentSettings};

use crate::{
    commands::{Commands, Wanted},
    delivery::{Delivery, Wishes},
    docker::{Looks, measure_disks, watch_docker},
    enrolment::{Keeper, Membership},
    heartbeat::Heart,
    identity::Taken,
    inventory::{Inspector, InventoryTask},
    sample::{Roots, Sampler},
    spool::Spool,
};

/// The agent's release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Starts the agent's tasks and returns.
///
/// # Errors
/// When the state directory cannot be used, or another agent has it; when the settings lead to no connection.
pub async fn start(context: Context, program: AgentProgram) -> anyhow::Result<()> {
    let (settings, mut bus_settings) = (program.agent, program.bus);
    let taken = Taken::new(&settings.state_dir)?;
    let membership = enrolment::join(&settings, &mut bus_settings).await?;
    let user = bus_settings.user().context("read bus.credentials")?;
    let named = user.map(|user| user.name().parse()).transpose().context("bus.credentials are not a host's")?;
    let identity = taken.identity(membership.as_ref().map(Membership::host_id).or(named))?;
    let host_id = identity.host_id;
    tracing::info!(%host_id, state_dir = %settings.state_dir.display(), "this host");
    let spool = Spool::open(&settings.state_dir.join("spool"), settings.spool_max_bytes).context("open the spool")?;
    let bus = context.connect_bus(&bus_settings, &format!("agent {host_id}")).await?;
    let roots = Roots::new(&settings);
    let supervisor = &context.supervisor;
    let shutdown = &context.shutdown;

    let (view_writer, view) = docker::channel();
    let looks = Looks::new(view.clone());
    let socket = settings.docker_socket.clone();
    supervisor.spawn("docker", OnFailure::Restart, {
        let (looks, shutdown) = (looks.clone(), shutdown.clone());
        move || watch_docker(socket.clone(), view_writer.clone(), looks.clone(), shutdown.clone())
    });
    if settings.disk_interval_seconds > 0 {
        let (view, shutdown) = (view.clone(), shutdown.clone());
        let interval = Duration::from_secs(settings.disk_interval_seconds);
        supervisor
            .spawn("disk sizes", OnFailure::Restart, move || measure_disks(interval, view.clone(), shutdown.clone()));
    }

    let heart = Heart { host_id, bus: bus.clone(), view: view.clone(), proc: settings.proc_dir.clone() };
    supervisor.spawn_once("heartbeat", heart.beat(shutdown.clone()));

    let delivery = Delivery {
        identity: Arc::new(identity),
        bus: bus.clone(),
        spool: Arc::new(Mutex::new(spool)),
        spooled: Arc::new(Notify::new()),
    };
    let (interval_writer, interval) = watch::channel(settings.interval());
    let (sample_now, now) = mpsc::channel(4);
    supervisor.spawn("spool", OnFailure::Restart, {
        let (delivery, shutdown) = (delivery.clone(), shutdown.clone());
        move || delivery.clone().drain_spool(shutdown.clone())
    });
    let sampler = Sampler::new(host_id, &roots);
    supervisor
        .spawn_once("samples", delivery.sample(sampler, view.clone(), Wishes { interval, now }, shutdown.clone()));

    let (inventory_now, wanted) = mpsc::channel(4);
    let inspector = Inspector::new(host_id, &settings);
    let inspector = Arc::new(inspector);
    let task = InventoryTask { bus: bus.clone(), inspector, view: view.clone(), wanted, looks };
    supervisor.spawn_once("inventory", task.run(shutdown.clone()));

    let (rotate_now, rotate) = mpsc::channel(1);
    let rotate_now = membership.is_some().then_some(rotate_now);
    if let Some(membership) = membership {
        let keeper = Keeper { membership, bus: bus.clone(), rotate };
        supervisor.spawn_once("grant", keeper.run(shutdown.clone()));
    }
    let commands = Commands::new(host_id, view, Wanted { sample_now, inventory_now, rotate_now }, interval_writer);
    let shutdown = shutdown.clone();
    supervisor.spawn("commands", OnFailure::Restart, move || commands.clone().answer(bus.clone(), shutdown.clone()));

    Ok(())
}
