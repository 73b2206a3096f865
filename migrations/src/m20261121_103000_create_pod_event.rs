//! What happened to pods.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE pod_event (
    event_id text COLLATE \"C\" NOT NULL,
    pod_id text COLLATE \"C\" NOT NULL,
    at timestamptz NOT NULL,
    what text NOT NULL,
    message text NOT NULL,
    detail jsonb NOT NULL,
    stream_sequence bigint NOT NULL,
    PRIMARY KEY (event_id)
);
CREATE INDEX pod_event_sequence ON pod_event (stream_sequence);
CREATE INDEX pod_event_pod ON pod_event (pod_id, stream_sequence);
CREATE INDEX pod_event_at ON pod_event (at)
";

const DOWN: &str = "DROP TABLE pod_event";

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
