//! A pod's samples of a minute, partitioned by day. The block-range index serves the rollup of an hour.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE pod_metrics_1m (
    pod_id text COLLATE \"C\" NOT NULL,
    time timestamptz NOT NULL,
    samples bigint NOT NULL,
    cpu_percent_avg double precision NOT NULL,
    cpu_percent_max double precision NOT NULL,
    memory_bytes_avg double precision NOT NULL,
    memory_bytes_max bigint NOT NULL,
    memory_limit_bytes bigint,
    disk_bytes bigint,
    network_rx_bytes bigint NOT NULL,
    network_tx_bytes bigint NOT NULL,
    block_read_bytes bigint NOT NULL,
    block_write_bytes bigint NOT NULL,
    pids_avg double precision NOT NULL,
    pids_max bigint NOT NULL,
    throttled_ms bigint NOT NULL,
    oom_kills bigint NOT NULL,
    host_id text COLLATE \"C\" NOT NULL,
    PRIMARY KEY (pod_id, time)
) PARTITION BY RANGE (time);
CREATE INDEX pod_metrics_1m_time ON pod_metrics_1m USING brin (time) WITH (autosummarize = on)
";

const DOWN: &str = "DROP TABLE pod_metrics_1m";

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
