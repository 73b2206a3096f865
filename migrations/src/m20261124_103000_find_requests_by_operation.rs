//! Requests by the operation that carries them out.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE INDEX request_operation ON request (operation_id)
";

const DOWN: &str = "
DROP INDEX request_operation
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
