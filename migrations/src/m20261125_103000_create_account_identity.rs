//! Who people are at the providers that they sign in with.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE account_identity (
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id text COLLATE \"C\" NOT NULL REFERENCES account ON DELETE CASCADE,
    email text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX account_identity_user ON account_identity (user_id)
";

const DOWN: &str = "DROP TABLE account_identity";

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
