//! `team`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A team.
#[expect(missing_docs, reason = "each column means what its name says")]
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "team")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub team_id: String,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
