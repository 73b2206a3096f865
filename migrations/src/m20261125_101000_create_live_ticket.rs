//! What a page opens one WebSocket with, by its digest. A used one is deleted.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE live_ticket (
    ticket_hash bytea NOT NULL,
    login_id text COLLATE \"C\" NOT NULL REFERENCES login ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (ticket_hash)
);
CREATE INDEX live_ticket_login ON live_ticket (login_id);
CREATE INDEX live_ticket_expires ON live_ticket (expires_at)
";

const DOWN: &str = "DROP TABLE live_ticket";

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
