//! Commands on hosts and their results.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE exec_log (
    operation_id text COLLATE \"C\" NOT NULL,
    sequence bigint NOT NULL,
    host_id text COLLATE \"C\" NOT NULL,
    pod_id text COLLATE \"C\",
    step text NOT NULL,
    label text NOT NULL,
    command text NOT NULL,
    container_command text,
    stdout text NOT NULL,
    stderr text NOT NULL,
    exit_code integer,
    started_at timestamptz NOT NULL,
    duration_ms bigint,
    stream_sequence bigint NOT NULL,
    PRIMARY KEY (operation_id, sequence)
);
CREATE INDEX exec_log_started ON exec_log (started_at)
";

const DOWN: &str = "DROP TABLE exec_log";

/// See the module.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}
