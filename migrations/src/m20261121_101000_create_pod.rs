//! Pods, as their live records have them.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE pod (
    pod_id text COLLATE \"C\" NOT NULL,
    name text NOT NULL,
    owner text NOT NULL,
    host_id text COLLATE \"C\",
    phase text NOT NULL,
    cause text,
    phase_since timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    operation_id text COLLATE \"C\",
    tier text NOT NULL,
    image text NOT NULL,
    external_port integer,
    fence bigint NOT NULL,
    deleted_at timestamptz,
    stream_sequence bigint NOT NULL,
    PRIMARY KEY (pod_id)
);
CREATE INDEX pod_owner ON pod (owner, pod_id);
CREATE INDEX pod_host ON pod (host_id)
";

const DOWN: &str = "DROP TABLE pod";

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
