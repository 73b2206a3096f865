//! `quota`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// How much an owner may use; null = as the settings say.
#[expect(missing_docs, reason = "each column means what its name says")]
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "quota")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub owner: String,
    pub pods: Option<i64>,
    pub cpu_millis: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub disk_bytes: Option<i64>,
    pub set_by: String,
    pub set_at: DateTime<Utc>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
