//! A host's samples of a minute, partitioned by day.

use sea_orm_migration::prelude::*;

const UP: &str = "
CREATE TABLE host_metrics_1m (
    host_id text COLLATE \"C\" NOT NULL,
    time timestamptz NOT NULL,
    samples bigint NOT NULL,
    cpu_percent_avg double precision NOT NULL,
    cpu_percent_max double precision NOT NULL,
    load_1_avg double precision NOT NULL,
    load_1_max double precision NOT NULL,
    load_5_avg double precision NOT NULL,
    load_5_max double precision NOT NULL,
    load_15_avg double precision NOT NULL,
    load_15_max double precision NOT NULL,
    memory_total_bytes bigint NOT NULL,
    memory_used_bytes_avg double precision NOT NULL,
    memory_used_bytes_max bigint NOT NULL,
    memory_cached_bytes_avg double precision NOT NULL,
    memory_cached_bytes_max bigint NOT NULL,
    swap_used_bytes_avg double precision NOT NULL,
    swap_used_bytes_max bigint NOT NULL,
    swap_total_bytes bigint NOT NULL,
    disk_total_bytes bigint NOT NULL,
    disk_used_bytes_avg double precision NOT NULL,
    disk_used_bytes_max bigint NOT NULL,
    disk_read_bytes bigint NOT NULL,
    disk_write_bytes bigint NOT NULL,
    network_rx_bytes bigint NOT NULL,
    network_tx_bytes bigint NOT NULL,
    disk_read_bytes_per_second_avg double precision NOT NULL,
    disk_read_bytes_per_second_max double precision NOT NULL,
    disk_write_bytes_per_second_avg double precision NOT NULL,
    disk_write_bytes_per_second_max double precision NOT NULL,
    network_rx_bytes_per_second_avg double precision NOT NULL,
    network_rx_bytes_per_second_max double precision NOT NULL,
    network_tx_bytes_per_second_avg double precision NOT NULL,
    network_tx_bytes_per_second_max double precision NOT NULL,
    pressure_cpu_some_percent_max double precision,
    pressure_memory_some_percent_max double precision,
    pressure_memory_full_percent_max double precision,
    pressure_io_some_percent_max double precision,
    pressure_io_full_percent_max double precision,
    PRIMARY KEY (host_id, time)
) PARTITION BY RANGE (time)
";

const DOWN: &str = "DROP TABLE host_metrics_1m";

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
