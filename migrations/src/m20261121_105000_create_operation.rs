//! Requests being carried out.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE operation (
    operation_id text COLLATE \"C\" NOT NULL,
    request_id text COLLATE \"C\" NOT NULL,
    kind text NOT NULL,
    target_id text COLLATE \"C\" NOT NULL,
    verb text NOT NULL,
    progress text NOT NULL,
    cause text,
    started_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    ended_at timestamptz,
    stream_sequence bigint NOT NULL,
    PRIMARY KEY (operation_id)
);
CREATE INDEX operation_target ON operation (target_id, operation_id);
CREATE INDEX operation_started ON operation (started_at)
";

const DOWN: &str = "DROP TABLE operation";

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
