//! What people wanted done.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE request (
    request_id text COLLATE \"C\" NOT NULL,
    operation_id text COLLATE \"C\" NOT NULL,
    kind text NOT NULL,
    target_id text COLLATE \"C\" NOT NULL,
    verb text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    deadline_at timestamptz,
    parameters jsonb NOT NULL,
    stream_sequence bigint NOT NULL,
    PRIMARY KEY (request_id)
);
CREATE INDEX request_target ON request (target_id, request_id);
CREATE INDEX request_asker ON request (requested_by, request_id);
CREATE INDEX request_at ON request (requested_at)
";

const DOWN: &str = "DROP TABLE request";

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
