//! Commands by the pod that they were for and the host that they ran on.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE INDEX exec_log_pod ON exec_log (pod_id, operation_id, sequence);
CREATE INDEX exec_log_host ON exec_log (host_id, operation_id, sequence)
";

const DOWN: &str = "
DROP INDEX exec_log_pod;
DROP INDEX exec_log_host
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
