//! Data keys. They answer no person, so they take no scope: the vault alone asks for them.

use crate::{
    DataKeyRow, Database, StoreError,
    entity::data_key::{Column, Entity},
};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, Insert, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};

impl Database {
    /// The data key of an owner.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn data_key_get(&self, owner: &str) -> Result<Option<DataKeyRow>, StoreError> {
        self.within("find a data key", Entity::find_by_id(owner).one(self.orm())).await
    }

    /// Keeps a data key, unless its owner has one already.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn data_key_insert(&self, row: DataKeyRow) -> Result<(), StoreError> {
        let once = OnConflict::new().do_nothing().to_owned();
        let insert = Insert::one(row.into_active_model().reset_all()).on_conflict(once);
        self.within("keep a data key", insert.exec_without_returning(self.orm())).await.map(drop)
    }

    /// Data keys that another master key than this one wraps, by owner, behind `after`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn data_key_list_of_others(
        &self,
        master_key_id: &str,
        after: &str,
        limit: u64,
    ) -> Result<Vec<DataKeyRow>, StoreError> {
        let select = Entity::find()
            .filter(Column::MasterKeyId.ne(master_key_id))
            .filter(Column::Owner.gt(after))
            .order_by_asc(Column::Owner)
            .limit(limit);
        self.within("list data keys", select.all(self.orm())).await
    }

    /// How many data keys there are.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn data_key_count(&self) -> Result<u64, StoreError> {
        self.within("count data keys", Entity::find().count(self.orm())).await
    }

    /// Puts a data key under another master key; `false` when somebody else did so first.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub async fn data_key_rewrap(
        &self,
        before: &DataKeyRow,
        master_key_id: &str,
        wrapped: Vec<u8>,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let update = Entity::update_many()
            .col_expr(Column::MasterKeyId, master_key_id.into())
            .col_expr(Column::Wrapped, wrapped.into())
            .col_expr(Column::RewrappedAt, at.into())
            .filter(Column::Owner.eq(&before.owner))
            .filter(Column::Wrapped.eq(before.wrapped.clone()));
        Ok(self.within("rewrap a data key", update.exec(self.orm())).await?.rows_affected == 1)
    }
}
