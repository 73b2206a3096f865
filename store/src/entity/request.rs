//! `request`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;
use serde_json::Value;

/// What somebody wants done.
#[expect(missing_docs, reason = "each column means what the field of that name means in the bus's contract")]
#[derive(Debug, Clone, PartialEq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "request")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: String,
    pub operation_id: String,
    pub kind: String,
    pub target_id: String,
    pub verb: String,
    pub requested_by: String,
    pub requested_at: DateTime<Utc>,
    pub deadline_at: Option<DateTime<Utc>>,
    #[sea_orm(column_type = "JsonBinary")]
    pub parameters: Value,
    pub stream_sequence: i64,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
