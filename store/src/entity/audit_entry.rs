//! `audit_entry`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;

/// Somebody did something, or tried to; chained to the entry before.
#[expect(missing_docs, reason = "each column means what the field of that name means in the bus's contract")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entry")]
pub struct Model {
    /// Its place in the chain, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub audit_id: String,
    pub at: DateTime<Utc>,
    pub actor: String,
    pub via: String,
    pub credential_id: Option<String>,
    pub address: String,
    pub action: String,
    pub target_kind: Option<String>,
    pub target_id: Option<String>,
    pub owner: Option<String>,
    pub outcome: String,
    pub status: Option<i32>,
    pub request_id: String,
    pub bus_request_id: Option<String>,
    pub operation_id: Option<String>,
    /// JSON as it is hashed, hence a text.
    pub detail: String,
    pub stream_sequence: i64,
    /// The hash of the entry before; of the first one, zeros.
    #[sea_orm(column_type = "Blob")]
    pub prev_hash: Vec<u8>,
    /// See [`digest`](Self::digest).
    #[sea_orm(column_type = "Blob")]
    pub hash: Vec<u8>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
