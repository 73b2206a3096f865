//! Invitations to teams, by the digest of their token.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE team_invitation (
    invitation_id text COLLATE \"C\" NOT NULL,
    team_id text COLLATE \"C\" NOT NULL REFERENCES team ON DELETE CASCADE,
    email text NOT NULL,
    role text NOT NULL CHECK (role IN ('member', 'admin', 'owner')),
    token_hash bytea NOT NULL,
    invited_by text COLLATE \"C\" NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (invitation_id)
);
CREATE UNIQUE INDEX team_invitation_token ON team_invitation (token_hash);
CREATE UNIQUE INDEX team_invitation_email ON team_invitation (team_id, email)
";

const DOWN: &str = "
DROP TABLE team_invitation
";

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
