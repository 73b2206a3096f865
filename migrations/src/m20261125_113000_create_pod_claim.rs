//! What each pod takes of its owner's quota, from the moment that it is asked for.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE pod_claim (
    owner text COLLATE \"C\" NOT NULL,
    pod_id text COLLATE \"C\" NOT NULL,
    cpu_millis bigint NOT NULL,
    memory_bytes bigint NOT NULL,
    disk_bytes bigint NOT NULL,
    claimed_at timestamptz NOT NULL,
    PRIMARY KEY (owner, pod_id)
)
";

const DOWN: &str = "
DROP TABLE pod_claim
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
