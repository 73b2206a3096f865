//! Secrets of people and teams: named values, each with its versions. Values are encrypted under their owner's data key.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE secret (
    secret_id text COLLATE \"C\" NOT NULL,
    owner text NOT NULL,
    project text NOT NULL,
    name text NOT NULL,
    version bigint NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (secret_id)
);
CREATE UNIQUE INDEX secret_name ON secret (owner, project, name);
CREATE TABLE secret_version (
    secret_id text COLLATE \"C\" NOT NULL REFERENCES secret ON DELETE CASCADE,
    version bigint NOT NULL,
    row_id text NOT NULL,
    sealed bytea NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (secret_id, version)
)
";

const DOWN: &str = "DROP TABLE secret_version; DROP TABLE secret";

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
