//! Whose a host is, and what people say of it.

use sea_orm_migration::prelude::*;

const UP: &str = "
ALTER TABLE host
    ADD COLUMN owner text COLLATE \"C\",
    ADD COLUMN notes text NOT NULL DEFAULT '',
    ADD COLUMN maintenance jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN disabled boolean NOT NULL DEFAULT false
";

const DOWN: &str = "
ALTER TABLE host
    DROP COLUMN owner,
    DROP COLUMN notes,
    DROP COLUMN maintenance,
    DROP COLUMN disabled
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
