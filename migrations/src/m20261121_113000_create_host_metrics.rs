//! Samples of hosts, partitioned by day. Partitions come and go with the clock, not with migrations.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE host_metrics (
    host_id text COLLATE \"C\" NOT NULL,
    time timestamptz NOT NULL,
    interval_ms bigint NOT NULL,
    late boolean NOT NULL,
    cpu_percent double precision NOT NULL,
    load_1 double precision NOT NULL,
    load_5 double precision NOT NULL,
    load_15 double precision NOT NULL,
    memory_total_bytes bigint NOT NULL,
    memory_used_bytes bigint NOT NULL,
    memory_available_bytes bigint NOT NULL,
    memory_cached_bytes bigint NOT NULL,
    swap_total_bytes bigint NOT NULL,
    swap_used_bytes bigint NOT NULL,
    disk_read_bytes bigint NOT NULL,
    disk_write_bytes bigint NOT NULL,
    disk_read_bytes_per_second double precision NOT NULL,
    disk_write_bytes_per_second double precision NOT NULL,
    network_rx_bytes bigint NOT NULL,
    network_tx_bytes bigint NOT NULL,
    network_rx_bytes_per_second double precision NOT NULL,
    network_tx_bytes_per_second double precision NOT NULL,
    pressure_cpu_some_percent double precision,
    pressure_memory_some_percent double precision,
    pressure_memory_full_percent double precision,
    pressure_io_some_percent double precision,
    pressure_io_full_percent double precision,
    cpu_cores_percent real[] NOT NULL,
    disks jsonb NOT NULL,
    networks jsonb NOT NULL,
    temperatures jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    stream_sequence bigint NOT NULL,
    PRIMARY KEY (host_id, time)
) PARTITION BY RANGE (time)
";

const DOWN: &str = "DROP TABLE host_metrics";

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
