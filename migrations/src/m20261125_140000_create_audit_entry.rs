//! The audit log. Rows are only added: a trigger refuses the rest, and a chain of hashes shows what was done without it.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE audit_entry (
    seq bigint NOT NULL,
    audit_id text COLLATE \"C\" NOT NULL,
    at timestamptz NOT NULL,
    actor text COLLATE \"C\" NOT NULL,
    via text NOT NULL,
    credential_id text,
    address text NOT NULL,
    action text COLLATE \"C\" NOT NULL,
    target_kind text,
    target_id text COLLATE \"C\",
    owner text COLLATE \"C\",
    outcome text NOT NULL,
    status integer,
    request_id text COLLATE \"C\" NOT NULL,
    bus_request_id text COLLATE \"C\",
    operation_id text COLLATE \"C\",
    detail text NOT NULL,
    stream_sequence bigint NOT NULL,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (seq)
);
CREATE UNIQUE INDEX audit_entry_id ON audit_entry (audit_id);
CREATE INDEX audit_entry_actor ON audit_entry (actor, audit_id);
CREATE INDEX audit_entry_owner ON audit_entry (owner, audit_id) WHERE owner IS NOT NULL;
CREATE INDEX audit_entry_target ON audit_entry (target_id, audit_id) WHERE target_id IS NOT NULL;
CREATE INDEX audit_entry_request ON audit_entry (request_id);
CREATE INDEX audit_entry_bus_request ON audit_entry (bus_request_id) WHERE bus_request_id IS NOT NULL;
CREATE INDEX audit_entry_operation ON audit_entry (operation_id) WHERE operation_id IS NOT NULL;

CREATE FUNCTION audit_entry_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_is_append_only()
";

const DOWN: &str = "DROP TABLE audit_entry; DROP FUNCTION audit_entry_is_append_only()";

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
