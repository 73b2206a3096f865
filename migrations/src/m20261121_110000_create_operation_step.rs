//! The steps of operations.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE operation_step (
    operation_id text COLLATE \"C\" NOT NULL,
    position integer NOT NULL,
    label text NOT NULL,
    progress text NOT NULL,
    cause text,
    started_at timestamptz,
    ended_at timestamptz,
    stream_sequence bigint NOT NULL,
    PRIMARY KEY (operation_id, position)
)
";

const DOWN: &str = "DROP TABLE operation_step";

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
