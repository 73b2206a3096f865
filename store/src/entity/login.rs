//! `login`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A person's session in a browser.
#[expect(missing_docs, reason = "each column means what its name says")]
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "login")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub login_id: String,
    pub user_id: String,
    pub token_hash: Vec<u8>,
    pub csrf_hash: Vec<u8>,
    pub created_at: DateTime<Utc>,
    pub seen_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub remote_address: String,
    pub user_agent: String,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
