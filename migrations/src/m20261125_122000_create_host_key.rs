//! The keys of agents, by their public halves, and until when each may be used.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE host_key (
    public_key text COLLATE \"C\" NOT NULL,
    host_id text COLLATE \"C\" NOT NULL,
    owner text COLLATE \"C\" NOT NULL,
    machine_id text COLLATE \"C\" NOT NULL,
    enrolment_id text COLLATE \"C\" NOT NULL,
    state text NOT NULL,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (public_key),
    CONSTRAINT host_key_state CHECK (state IN ('active', 'disabled', 'revoked'))
);
CREATE INDEX host_key_host ON host_key (host_id);
CREATE INDEX host_key_machine ON host_key (machine_id, owner) WHERE state <> 'revoked';
CREATE INDEX host_key_revoked ON host_key (expires_at) WHERE revoked_at IS NOT NULL
";

const DOWN: &str = "DROP TABLE host_key";

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
