//! Tokens by which hosts join, as their digests, and on which terms.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE host_enrolment (
    enrolment_id text COLLATE \"C\" NOT NULL,
    token_hash bytea NOT NULL,
    name text NOT NULL,
    labels jsonb NOT NULL,
    owner text COLLATE \"C\" NOT NULL,
    allowed_owners jsonb NOT NULL,
    host_id text COLLATE \"C\",
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    uses integer NOT NULL,
    used integer NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (enrolment_id),
    CONSTRAINT host_enrolment_token UNIQUE (token_hash),
    CONSTRAINT host_enrolment_uses CHECK (used BETWEEN 0 AND uses)
)
";

const DOWN: &str = "DROP TABLE host_enrolment";

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
