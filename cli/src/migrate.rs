//! `pinacle migrate`: the database's schema.

use std::time::Duration;

use anyhow::Context as _;
use pinacle_bus::settings::Secret;
use pinacle_migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, TransactionTrait};
use serde_json::json;

use crate::{
    args::{Global, MigrateCommand, MigrateRun},
    dead::confirm,
    failure::Failure,
    figures::count,
    local,
    terminal::{Terminal, Tone},
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// `pinacle migrate`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, args: MigrateRun) -> Result<(), Failure> {
    let url = local::database(global, args.database.as_deref())?;
    match args.command.unwrap_or(MigrateCommand::Up) {
        MigrateCommand::Up => {
            let changes = bring_up(&url).await?;
            if terminal.json {
                return terminal.document(&json!({ "applied": changes }));
            }
            terminal.line(&match changes {
                0 => "the schema is up to date already".to_owned(),
                changes => format!("{} applied", count(changes, "change")),
            })
        }
        MigrateCommand::Down { steps, yes } => {
            confirm(
                yes,
                &format!(
                    "take back {}, the newest first? What is in their tables is lost",
                    count(steps as usize, "change")
                ),
            )?;
            take_back(terminal, &connect(&url).await?, steps).await
        }
        MigrateCommand::Status => status(terminal, &url).await,
    }
}

/// Brings the schema up to this release; returns how many changes were made.
pub(crate) async fn bring_up(url: &Secret) -> Result<usize, Failure> {
    let database = connect(url).await?;
    Ok(pinacle_migrations::migrate(&database).await.context("cannot bring the schema up to this release")?)
}

async fn take_back(terminal: &Terminal, database: &DatabaseConnection, steps: u32) -> Result<(), Failure> {
    let before = applied(database).await?;
    let transaction = database.begin().await.context("cannot take changes back")?;
    Migrator::down(&transaction, Some(steps)).await.context("cannot take changes back")?;
    transaction.commit().await.context("cannot take changes back")?;
    let taken = before.saturating_sub(applied(database).await?);
    if terminal.json {
        return terminal.document(&json!({ "reverted": taken }));
    }
    terminal.line(&format!("{} taken back", count(taken, "change")))
}

async fn applied(database: &DatabaseConnection) -> Result<usize, Failure> {
    let status = pinacle_migrations::status(database).await.context("cannot read the schema's state")?;
    Ok(status.iter().filter(|change| change.applied).count())
}

async fn status(terminal: &Terminal, url: &Secret) -> Result<(), Failure> {
    let database = connect(url).await?;
    let changes = pinacle_migrations::status(&database).await.context("cannot read the schema's state")?;
    if terminal.json {
        let changes: Vec<_> =
            changes.iter().map(|change| json!({ "name": change.name, "applied": change.applied })).collect();
        return terminal.document(&changes);
    }
    let mut table = terminal.table(&["change", "state"]);
    for change in &changes {
        let (tone, word) = if change.applied { (Tone::Good, "applied") } else { (Tone::Warning, "pending") };
        table.add_row(vec![Tone::Plain.cell(&change.name), tone.cell(word)]);
    }
    terminal.print(&mut table)?;
    if changes.iter().any(|change| !change.applied) {
        terminal.hint("pinacle migrate up applies what is pending");
    }
    Ok(())
}

async fn connect(url: &Secret) -> Result<DatabaseConnection, Failure> {
    let mut options = ConnectOptions::new(url.expose());
    options.max_connections(2).connect_timeout(CONNECT_DEADLINE).acquire_timeout(CONNECT_DEADLINE).sqlx_logging(false);
    match Database::connect(options).await {
        Ok(database) => Ok(database),
        // The address holds a password and is not said.
        Err(error) => Err(Failure::failed(format!("cannot connect to the database: {error}"))),
    }
}
