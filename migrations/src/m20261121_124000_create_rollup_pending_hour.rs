//! Hours whose rollup is behind their minutes; only the rollup writes here.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE rollup_pending_hour (
    host_id text COLLATE \"C\" NOT NULL,
    hour timestamptz NOT NULL,
    PRIMARY KEY (host_id, hour)
);
CREATE INDEX rollup_pending_hour_hour ON rollup_pending_hour (hour)
";

const DOWN: &str = "DROP TABLE rollup_pending_hour";

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
