#![doc = include_str!("../README.md")]

pub mod accounts;
pub mod api;
pub mod audit;
mod connection;
mod cors;
mod extract;
pub mod identity;
mod install;
pub mod limits;
pub mod live;
pub mod problem;
mod proxies;
mod quota;
mod request;
pub mod settings;
mod tls;
mod trust;
pub mod vault;
mod web;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::serve::Listener;
use pinacle_bus::{client::Bus, service::Context, settings::Secret};
use pinacle_store::{Database, Timeouts};
use tracing::{info, warn};

use crate::{
    accounts::Accounts,
    api::App,
    audit::Audit,
    connection::{Guarded, Peer},
    identity::Keys,
    install::Install,
    limits::RateLimits,
    live::{Live, feed},
    settings::{DEVELOPMENT_MASTER_KEY, DEVELOPMENT_TOKEN, Gateway, GatewaySettings},
    tls::Tls,
    trust::Trust,
    vault::Vault,
};

/// A connection on which nothing moves for so long is closed, unless something of ours takes longer.
const IDLE: Duration = Duration::from_secs(75);

/// Starts the gateway's tasks and returns.
///
/// # Errors
/// When the address is taken, or the settings cannot be used. That NATS or Postgres is away is none.
pub async fn start(context: Context, settings: GatewaySettings) -> anyhow::Result<()> {
    // First of all: a service whose conditions are not known yet looks ready.
    let arrived = context.readiness.condition("live", "the live state has not arrived yet");
    let token = installation_token(&settings.gateway)?;
    let tls = Tls::read(&settings.gateway)?;
    let install = Install::read(&settings.gateway, tls.as_ref())?;
    let listener = listen(&settings.gateway, tls)?;
    let bus = context.connect_bus(&settings.bus, "gateway").await?;
    let database = Database::connect(
        settings.database.url.expose(),
        settings.database.max_connections,
        Timeouts { statement: Duration::from_millis(settings.database.statement_timeout_ms), ..Timeouts::default() },
    )
    .context("read database.url")?;

    let trust = Trust::start(&context, &settings.gateway, &settings.bus, &database).await?;
    let vault = Arc::new(vault(&settings.gateway, &database)?);
    let accounts = accounts(&context, &settings.gateway, &database, &vault)?;
    let keys = Keys::new(&token, database.clone(), accounts.sessions.clone(), accounts.public_url());
    let audit = audit(&context, &bus);
    let live = Arc::new(Live::new(bus, settings.gateway, &token, audit, context.shutdown.clone()));
    feed::start(&context.supervisor, &live, arrived);

    let limits = RateLimits::new(&live.settings);
    let app = App {
        live: live.clone(),
        database: database.clone(),
        limits,
        vault,
        accounts,
        keys: Arc::new(keys),
        trust,
        install,
    };
    let router = api::router(Arc::new(app));
    let shutdown = context.shutdown.clone();
    context.supervisor.spawn_once("http", async move {
        axum::serve(listener, router.into_make_service_with_connect_info::<Peer>())
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
            .context("serve HTTP")?;
        // WebSockets are no requests any more: their farewells are waited for here.
        live.sessions.close();
        live.sessions.wait().await;
        database.close().await;
        Ok(())
    });
    Ok(())
}

/// People, with the task that writes to them.
fn accounts(
    context: &Context,
    settings: &Gateway,
    database: &Database,
    vault: &Arc<Vault>,
) -> anyhow::Result<Arc<Accounts>> {
    let (accounts, errands) = Accounts::new(settings, database.clone(), vault.clone(), context.dev)?;
    let accounts = Arc::new(accounts);
    let (runner, stop) = (accounts.clone(), context.shutdown.clone());
    context.supervisor.spawn_once("errands", async move {
        runner.run_errands(errands, stop).await;
        Ok(())
    });
    Ok(accounts)
}

fn audit(context: &Context, bus: &Bus) -> Audit {
    let (audit, waiting) = Audit::new();
    let (bus, stop) = (bus.clone(), context.shutdown.clone());
    context.supervisor.spawn_once("audit log", async move {
        waiting.run(bus, stop).await;
        Ok(())
    });
    audit
}

fn installation_token(settings: &Gateway) -> anyhow::Result<String> {
    if !settings.admin_token.is_empty() {
        return Ok(settings.admin_token.expose().to_owned());
    }
    // Only reached with --dev: otherwise a missing token is a fault of the settings.
    let loopback = settings.listen.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
    anyhow::ensure!(loopback, "with no gateway.admin_token, gateway.listen must be a loopback address");
    warn!("development mode: anybody on this machine is admin, with the token of the documentation");
    Ok(DEVELOPMENT_TOKEN.to_owned())
}

fn vault(settings: &Gateway, database: &Database) -> anyhow::Result<Vault> {
    let mut setting = settings.master_key.clone();
    if setting.is_empty() {
        // Only reached with --dev: otherwise a missing key is a fault of the settings.
        warn!("development mode: what is kept encrypted is under the key of the source code");
        setting = Secret::new(DEVELOPMENT_MASTER_KEY);
    }
    Vault::new(setting, database.clone()).map_err(|why| anyhow::anyhow!("gateway.master_key: {why}"))
}

fn listen(settings: &Gateway, tls: Option<Tls>) -> anyhow::Result<Guarded> {
    let address: SocketAddr = settings.listen.parse().context("read gateway.listen")?;
    let idle = IDLE
        .max(Duration::from_millis(settings.live_ping_ms) * 3)
        .max(settings.request_timeout() + Duration::from_secs(15));
    let listener = Guarded::bind(address, settings.max_connections, idle, tls.map(|tls| tls.acceptor))
        .with_context(|| format!("listen on {address} (gateway.listen); is it taken?"))?;
    info!(address = %listener.local_addr()?, "the gateway listens");
    Ok(listener)
}
