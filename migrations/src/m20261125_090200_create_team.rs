//! Teams and who is in them.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE team (
    team_id text COLLATE \"C\" NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (team_id)
);
CREATE UNIQUE INDEX team_name ON team (name);
CREATE TABLE team_member (
    team_id text COLLATE \"C\" NOT NULL REFERENCES team ON DELETE CASCADE,
    user_id text COLLATE \"C\" NOT NULL REFERENCES account ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('member', 'admin', 'owner')),
    joined_at timestamptz NOT NULL,
    PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_member_user ON team_member (user_id)
";

const DOWN: &str = "DROP TABLE team_member; DROP TABLE team";

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
