//! The token that another was made with: both end together.

use sea_orm_migration::prelude::*;

const UP: &str = "
ALTER TABLE api_token ADD COLUMN made_by text COLLATE \"C\" REFERENCES api_token ON DELETE CASCADE;
CREATE INDEX api_token_made_by ON api_token (made_by) WHERE made_by IS NOT NULL
";

const DOWN: &str = "
ALTER TABLE api_token DROP COLUMN made_by
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
