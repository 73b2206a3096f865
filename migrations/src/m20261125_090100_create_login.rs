//! People's sessions in browsers, by the digest of their cookie.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE login (
    login_id text COLLATE \"C\" NOT NULL,
    user_id text COLLATE \"C\" NOT NULL REFERENCES account ON DELETE CASCADE,
    token_hash bytea NOT NULL,
    csrf_hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    remote_address text NOT NULL,
    user_agent text NOT NULL,
    PRIMARY KEY (login_id)
);
CREATE UNIQUE INDEX login_token ON login (token_hash);
CREATE INDEX login_user ON login (user_id);
CREATE INDEX login_expires ON login (expires_at)
";

const DOWN: &str = "DROP TABLE login";

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
