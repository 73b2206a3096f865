//! `dead_letter`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde::Serialize;

/// A message that a consumer gave up on. `stream_sequence` is the message's in its own stream, as in the
/// contract; `dead_sequence` is the dead letter's in the stream of dead letters.
#[expect(missing_docs, reason = "each column means what the field of that name means in the bus's contract")]
#[derive(Debug, Clone, PartialEq, Serialize, DeriveEntityModel)]
#[sea_orm(table_name = "dead_letter")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub dead_letter_id: String,
    pub at: DateTime<Utc>,
    pub stream: String,
    pub consumer: String,
    pub stream_sequence: i64,
    pub subject: String,
    pub schema: i64,
    pub reason: String,
    pub tries: i64,
    pub payload: Vec<u8>,
    pub payload_bytes: i64,
    pub resent_at: Option<DateTime<Utc>>,
    pub dropped_at: Option<DateTime<Utc>>,
    pub dead_sequence: i64,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
