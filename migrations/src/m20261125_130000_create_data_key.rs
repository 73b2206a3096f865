//! Data keys: what an owner's secrets are encrypted with, each wrapped by a master key that the database never sees.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE data_key (
    owner text COLLATE \"C\" NOT NULL,
    master_key_id text NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL,
    rewrapped_at timestamptz,
    PRIMARY KEY (owner)
);
CREATE INDEX data_key_master_key ON data_key (master_key_id)
";

const DOWN: &str = "DROP TABLE data_key";

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
