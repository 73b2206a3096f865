//! Minutes whose rollup is behind their samples: appended to with each batch of samples, never unique, so that
//! writers do not wait for one another.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE rollup_pending (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host_id text COLLATE \"C\" NOT NULL,
    minute timestamptz NOT NULL
);
CREATE INDEX rollup_pending_minute ON rollup_pending (minute, host_id)
";

const DOWN: &str = "DROP TABLE rollup_pending";

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
