//! People. The gateway writes them.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE account (
    user_id text COLLATE \"C\" NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    password_hash text,
    email_verified_at timestamptz,
    is_admin boolean NOT NULL,
    suspended_at timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id)
);
CREATE UNIQUE INDEX account_email ON account (email)
";

const DOWN: &str = "DROP TABLE account";

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
