//! `pod`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;

/// A pod's live record, projected.
#[expect(missing_docs, reason = "each column means what the field of that name means in the bus's contract")]
#[derive(Debug, Clone, PartialEq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "pod")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub pod_id: String,
    pub name: String,
    pub owner: String,
    pub host_id: Option<String>,
    pub phase: String,
    pub cause: Option<String>,
    pub phase_since: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub operation_id: Option<String>,
    pub tier: String,
    pub image: String,
    pub external_port: Option<i32>,
    pub fence: i64,
    pub deleted_at: Option<DateTime<Utc>>,
    pub stream_sequence: i64,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
