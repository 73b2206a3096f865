//! What a step of an operation is at, or waits for.

use sea_orm_migration::prelude::*;

const UP: &str = "
ALTER TABLE operation_step ADD COLUMN note text
";

const DOWN: &str = "
ALTER TABLE operation_step DROP COLUMN note
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
