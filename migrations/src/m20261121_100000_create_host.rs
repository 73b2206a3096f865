//! Hosts, as their live records have them.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE host (
    host_id text COLLATE \"C\" NOT NULL,
    name text NOT NULL,
    state text NOT NULL,
    cause text NOT NULL,
    state_since timestamptz NOT NULL,
    evidence jsonb NOT NULL,
    admitted_at timestamptz NOT NULL,
    cordoned boolean NOT NULL,
    labels jsonb NOT NULL,
    facts jsonb NOT NULL,
    deleted_at timestamptz,
    stream_sequence bigint NOT NULL,
    PRIMARY KEY (host_id)
)
";

const DOWN: &str = "DROP TABLE host";

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
