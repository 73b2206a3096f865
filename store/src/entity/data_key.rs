//! `data_key`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// What an owner's secrets are encrypted with, wrapped by a master key.
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "data_key")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub owner: String,
    /// Which master key wraps it.
    pub master_key_id: String,
    /// The key, encrypted.
    pub wrapped: Vec<u8>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When another master key last took it over.
    pub rewrapped_at: Option<DateTime<Utc>>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
