//! `api_token`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A token for the API.
#[expect(missing_docs, reason = "each column means what its name says")]
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "api_token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_id: String,
    pub user_id: String,
    pub name: String,
    pub token_hash: Vec<u8>,
    pub grants: Vec<String>,
    pub team_id: Option<String>,
    pub made_by: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
