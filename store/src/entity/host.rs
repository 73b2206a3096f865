//! `host`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;
use serde_json::Value;

/// A host's live record, projected.
#[expect(missing_docs, reason = "each column means what the field of that name means in the bus's contract")]
#[derive(Debug, Clone, PartialEq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "host")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub host_id: String,
    pub name: String,
    pub state: String,
    pub cause: String,
    pub state_since: DateTime<Utc>,
    #[sea_orm(column_type = "JsonBinary")]
    pub evidence: Value,
    pub admitted_at: DateTime<Utc>,
    pub cordoned: bool,
    #[sea_orm(column_type = "JsonBinary")]
    pub labels: Value,
    #[sea_orm(column_type = "JsonBinary")]
    pub facts: Value,
    pub owner: Option<String>,
    pub notes: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub maintenance: Value,
    pub disabled: bool,
    pub deleted_at: Option<DateTime<Utc>>,
    pub stream_sequence: i64,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
