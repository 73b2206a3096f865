//! Second factors: a secret, sealed, and the last step whose code was used; and codes for when it is lost.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE account_factor (
    user_id text COLLATE \"C\" NOT NULL REFERENCES account ON DELETE CASCADE,
    secret bytea NOT NULL,
    confirmed_at timestamptz,
    last_step bigint NOT NULL,
    PRIMARY KEY (user_id)
);
CREATE TABLE recovery_code (
    user_id text COLLATE \"C\" NOT NULL REFERENCES account_factor ON DELETE CASCADE,
    code_hash bytea NOT NULL,
    PRIMARY KEY (user_id, code_hash)
)
";

const DOWN: &str = "DROP TABLE recovery_code; DROP TABLE account_factor";

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
