//! Samples of pods, partitioned by day.
//!
//! The key serves a pod's series. The block-range index serves the rollups, which read all pods of one minute: it costs
//! next to nothing on insert, since samples come nearly in the order of time. The id's 32 bytes and the eight-byte
//! columns behind it leave no gaps; `host_id` stands last because it is of odd length.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE pod_metrics (
    pod_id text COLLATE \"C\" NOT NULL,
    time timestamptz NOT NULL,
    cpu_percent double precision NOT NULL,
    memory_bytes bigint NOT NULL,
    memory_limit_bytes bigint,
    disk_bytes bigint,
    network_rx_bytes bigint NOT NULL,
    network_tx_bytes bigint NOT NULL,
    block_read_bytes bigint NOT NULL,
    block_write_bytes bigint NOT NULL,
    pids bigint NOT NULL,
    throttled_ms bigint NOT NULL,
    oom_kills bigint NOT NULL,
    stream_sequence bigint NOT NULL,
    host_id text COLLATE \"C\" NOT NULL,
    PRIMARY KEY (pod_id, time)
) PARTITION BY RANGE (time);
CREATE INDEX pod_metrics_time ON pod_metrics USING brin (time) WITH (autosummarize = on)
";

const DOWN: &str = "DROP TABLE pod_metrics";

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
