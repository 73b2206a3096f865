//! Who asked for an operation, which host it works on, and how often it was taken over.

use sea_orm_migration::prelude::*;

const UP: &str = "
ALTER TABLE operation
    ADD COLUMN requested_by text NOT NULL DEFAULT '',
    ADD COLUMN host_id text COLLATE \"C\",
    ADD COLUMN takeovers integer NOT NULL DEFAULT 0
";

const DOWN: &str = "
ALTER TABLE operation
    DROP COLUMN requested_by,
    DROP COLUMN host_id,
    DROP COLUMN takeovers
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
