//! Tokens for the API, by their digest.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE api_token (
    token_id text COLLATE \"C\" NOT NULL,
    user_id text COLLATE \"C\" NOT NULL REFERENCES account ON DELETE CASCADE,
    name text NOT NULL,
    token_hash bytea NOT NULL,
    grants text[] NOT NULL,
    team_id text COLLATE \"C\" REFERENCES team ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    used_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (token_id)
);
CREATE UNIQUE INDEX api_token_token ON api_token (token_hash);
CREATE INDEX api_token_user ON api_token (user_id)
";

const DOWN: &str = "DROP TABLE api_token";

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
