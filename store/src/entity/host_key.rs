//! `host_key`.

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A key of an agent.
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "host_key")]
pub struct Model {
    /// Its public half.
    #[sea_orm(primary_key, auto_increment = false)]
    pub public_key: String,
    /// The host.
    pub host_id: String,
    /// Who let it join.
    pub owner: String,
    /// The machine's own id, as it said.
    pub machine_id: String,
    /// The token by which it joined.
    pub enrolment_id: String,
    /// `active`, `disabled` or `revoked`.
    pub state: String,
    /// When its host joined with it.
    pub issued_at: DateTime<Utc>,
    /// When the newest grant for it ends.
    pub expires_at: DateTime<Utc>,
    /// Grants made up to then count for nothing, also when it is active again.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// None: the tables are joined where a query says so.
#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
