#![doc = include_str!("../README.md")]

mod m20261121_100000_create_host;
mod m20261121_101000_create_pod;
mod m20261121_102000_create_host_event;
mod m20261121_103000_create_pod_event;
mod m20261121_104000_create_request;
mod m20261121_105000_create_operation;
mod m20261121_110000_create_operation_step;
mod m20261121_111000_create_exec_log;
mod m20261121_112000_create_dead_letter;
mod m20261121_113000_create_host_metrics;
mod m20261121_114000_create_pod_metrics;
mod m20261121_115000_create_host_metrics_1m;
mod m20261121_120000_create_pod_metrics_1m;
mod m20261121_121000_create_host_metrics_1h;
mod m20261121_122000_create_pod_metrics_1h;
mod m20261121_123000_create_rollup_pending;
mod m20261121_124000_create_rollup_pending_hour;
mod m20261124_100000_tell_who_asked_for_an_operation;
mod m20261124_101000_tell_what_a_step_waits_for;
mod m20261124_102000_find_commands_by_pod_and_host;
mod m20261124_103000_find_requests_by_operation;
mod m20261125_090000_create_account;
mod m20261125_090100_create_login;
mod m20261125_090200_create_team;
mod m20261125_090300_create_api_token;
mod m20261125_100000_create_account_token;
mod m20261125_101000_create_live_ticket;
mod m20261125_102000_create_account_factor;
mod m20261125_103000_create_account_identity;
mod m20261125_110000_tell_which_token_made_a_token;
mod m20261125_111000_create_team_invitation;
mod m20261125_112000_create_quota;
mod m20261125_113000_create_pod_claim;
mod m20261125_120000_tell_whose_a_host_is;
mod m20261125_121000_create_host_enrolment;
mod m20261125_122000_create_host_key;
mod m20261125_130000_create_data_key;
mod m20261125_131000_create_secret;
mod m20261125_140000_create_audit_entry;

use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
pub use sea_orm_migration::{MigrationStatus, MigratorTrait};
use sea_orm_migration::{MigrationTrait, async_trait, prelude::DbErr};

/// Held while migrating; `pinacle` in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(31640356219513957)";

/// Every change of the schema, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_100000_create_host::Migration),
            Box::new(m20261121_101000_create_pod::Migration),
            Box::new(m20261121_102000_create_host_event::Migration),
            Box::new(m20261121_103000_create_pod_event::Migration),
            Box::new(m20261121_104000_create_request::Migration),
            Box::new(m20261121_105000_create_operation::Migration),
            Box::new(m20261121_110000_create_operation_step::Migration),
            Box::new(m20261121_111000_create_exec_log::Migration),
            Box::new(m20261121_112000_create_dead_letter::Migration),
            Box::new(m20261121_113000_create_host_metrics::Migration),
            Box::new(m20261121_114000_create_pod_metrics::Migration),
            Box::new(m20261121_115000_create_host_metrics_1m::Migration),
            Box::new(m20261121_120000_create_pod_metrics_1m::Migration),
            Box::new(m20261121_121000_create_host_metrics_1h::Migration),
            Box::new(m20261121_122000_create_pod_metrics_1h::Migration),
            Box::new(m20261121_123000_create_rollup_pending::Migration),
            Box::new(m20261121_124000_create_rollup_pending_hour::Migration),
            Box::new(m20261124_100000_tell_who_asked_for_an_operation::Migration),
            Box::new(m20261124_101000_tell_what_a_step_waits_for::Migration),
            Box::new(m20261124_102000_find_commands_by_pod_and_host::Migration),
            Box::new(m20261124_103000_find_requests_by_operation::Migration),
            Box::new(m20261125_090000_create_account::Migration),
            Box::new(m20261125_090100_create_login::Migration),
            Box::new(m20261125_090200_create_team::Migration),
            Box::new(m20261125_090300_create_api_token::Migration),
            Box::new(m20261125_100000_create_account_token::Migration),
            Box::new(m20261125_101000_create_live_ticket::Migration),
            Box::new(m20261125_102000_create_account_factor::Migration),
            Box::new(m20261125_103000_create_account_identity::Migration),
            Box::new(m20261125_110000_tell_which_token_made_a_token::Migration),
            Box::new(m20261125_111000_create_team_invitation::Migration),
            Box::new(m20261125_112000_create_quota::Migration),
            Box::new(m20261125_113000_create_pod_claim::Migration),
            Box::new(m20261125_120000_tell_whose_a_host_is::Migration),
            Box::new(m20261125_121000_create_host_enrolment::Migration),
            Box::new(m20261125_122000_create_host_key::Migration),
            Box::new(m20261125_130000_create_data_key::Migration),
            Box::new(m20261125_140000_create_audit_entry::Migration),
            Box::new(m20261125_131000_create_secret::Migration),
        ]
    }
}

/// A change of the schema, and whether this database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name, which begins with its date.
    pub name: String,
    /// Whether it is applied.
    pub applied: bool,
}

/// Brings the schema up to date: all that is missing in one transaction, so that a failure leaves it as it was.
/// Several processes may do this at once; one works and the others find nothing left to do. Returns how many changes
/// were applied.
///
/// # Errors
/// When the database is away, or refuses a change.
pub async fn migrate(database: &DatabaseConnection) -> Result<usize, DbErr> {
    let transaction = database.begin().await?;
    transaction.execute_unprepared(LOCK).await?;
    let pending = Migrator::get_pending_migrations(&transaction).await?.len();
    Migrator::up(&transaction, None).await?;
    transaction.commit().await?;
    Ok(pending)
}

/// Every change of the schema and whether the database has it. Only reads.
///
/// # Errors
/// When the database is away.
pub async fn status(database: &DatabaseConnection) -> Result<Vec<Status>, DbErr> {
    let migrations = Migrator::get_migration_with_status_read_only(database).await?;
    Ok(migrations
        .iter()
        .map(|migration| Status {
            name: migration.name().to_owned(),
            applied: migration.status() == MigrationStatus::Applied,
        })
        .collect())
}
