//! Messages that consumers gave up on.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE dead_letter (
    dead_letter_id text COLLATE \"C\" NOT NULL,
    at timestamptz NOT NULL,
    stream text NOT NULL,
    consumer text NOT NULL,
    stream_sequence bigint NOT NULL,
    subject text NOT NULL,
    schema bigint NOT NULL,
    reason text NOT NULL,
    tries bigint NOT NULL,
    payload bytea NOT NULL,
    payload_bytes bigint NOT NULL,
    resent_at timestamptz,
    dropped_at timestamptz,
    dead_sequence bigint NOT NULL,
    PRIMARY KEY (dead_letter_id)
);
CREATE UNIQUE INDEX dead_letter_message ON dead_letter (stream, consumer, stream_sequence);
CREATE INDEX dead_letter_sequence ON dead_letter (dead_sequence);
CREATE INDEX dead_letter_at ON dead_letter (at)
";

const DOWN: &str = "DROP TABLE dead_letter";

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
