//! `host_enrolment`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use serde_json::Value;

/// A token by which hosts join.
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "host_enrolment")]
pub struct Model {
    /// This token.
    #[sea_orm(primary_key, auto_increment = false)]
    pub enrolment_id: String,
    /// SHA-256 of the token.
    pub token_hash: Vec<u8>,
    /// What its host is to be called; empty = as the machine calls itself.
    pub name: String,
    /// Labels that its hosts begin with: an object of strings.
    #[sea_orm(column_type = "JsonBinary")]
    pub labels: Value,
    /// Whose its hosts are.
    pub owner: String,
    /// Whose pods its hosts take: a list of strings; empty = everybody's.
    #[sea_orm(column_type = "JsonBinary")]
    pub allowed_owners: Value,
    /// The host that joins again by it; null = a new one, or the one that the machine was.
    pub host_id: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// How many machines may join by it.
    pub uses: i32,
    /// How many have.
    pub used: i32,
    /// When somebody took it back.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
