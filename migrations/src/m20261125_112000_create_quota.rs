//! How much each owner may use, where that differs from the installation's settings.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE quota (
    owner text COLLATE \"C\" NOT NULL,
    pods bigint CHECK (pods >= 0),
    cpu_millis bigint CHECK (cpu_millis >= 0),
    memory_bytes bigint CHECK (memory_bytes >= 0),
    disk_bytes bigint CHECK (disk_bytes >= 0),
    set_by text NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (owner)
)
";

const DOWN: &str = "
DROP TABLE quota
";

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
