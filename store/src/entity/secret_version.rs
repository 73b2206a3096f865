//! `secret_version`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A value of a secret.
#[expect(missing_docs, reason = "each column means what its name says")]
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "secret_version")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub secret_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i64,
    /// What the value is bound to, besides its owner.
    pub row_id: String,
    /// The value, encrypted.
    pub sealed: Vec<u8>,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
