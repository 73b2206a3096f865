//! What people get by e-mail to prove that they are who they say, by its digest. A used one is deleted.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE account_token (
    token_hash bytea NOT NULL,
    user_id text COLLATE \"C\" NOT NULL REFERENCES account ON DELETE CASCADE,
    purpose text NOT NULL,
    email text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (token_hash)
);
CREATE INDEX account_token_user ON account_token (user_id)
";

const DOWN: &str = "DROP TABLE account_token";

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
