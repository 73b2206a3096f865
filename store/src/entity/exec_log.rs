//! `exec_log`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;

/// One command on a host, with its result once it ended.
#[expect(missing_docs, reason = "each column means what the field of that name means in the bus's contract")]
#[derive(Debug, Clone, PartialEq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "exec_log")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub operation_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    pub host_id: String,
    pub pod_id: Option<String>,
    pub step: String,
    pub label: String,
    pub command: String,
    pub container_command: Option<String>,
    pub stdout: String,
    pub stderr: String,
    pub exit_code: Option<i32>,
    pub started_at: DateTime<Utc>,
    pub duration_ms: Option<i64>,
    pub stream_sequence: i64,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
