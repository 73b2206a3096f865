//! Pods.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};

use super::keyset;
use crate::{
    Database, Page, PageRequest, PodRow, Scope, StoreError, StoreErrorKind,
    entity::pod::{Column, Entity},
};

/// Which pods are wanted; the default is all in scope.
#[derive(Debug, Clone, Default)]
pub struct PodFilter {
    /// Only on this host.
    pub host_id: Option<String>,
    /// Only in this phase, as on the wire.
    pub phase: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
}

fn in_scope(scope: &Scope) -> Condition {
    let seen = Condition::all().add(Column::DeletedAt.is_null());
    match scope.owners() {
        Some(owners) => seen.add(Column::Owner.is_in(owners)),
        None => seen,
    }
}

impl Database {
    /// Pods by id, that is by creation.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn pod_list(
        &self,
        scope: &Scope,
        filter: &PodFilter,
        page: &PageRequest,
    ) -> Result<Page<PodRow>, StoreError> {
        const QUERY: &str = "list pods";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let mut wanted = in_scope(scope);
        let conditions =
            [(&filter.host_id, Column::HostId), (&filter.phase, Column::Phase), (&filter.name, Column::Name)];
        for (value, column) in conditions {
            if let Some(value) = value {
                wanted = wanted.add(column.eq(value));
            }
        }
        let select = keyset(Entity::find().filter(wanted), page, Column::PodId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.pod_id.clone()))
    }

    /// A pod by its id, or by its name; of several with that name the oldest.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], also when it is another owner's; [`StoreErrorKind::Unavailable`].
    pub async fn pod_get(&self, scope: &Scope, id_or_name: &str) -> Result<PodRow, StoreError> {
        const QUERY: &str = "find a pod";
        let missing = || StoreError::new(QUERY, StoreErrorKind::NotFound);
        if id_or_name.contains('\0') {
            return Err(missing());
        }
        let wanted =
            in_scope(scope).add(Condition::any().add(Column::PodId.eq(id_or_name)).add(Column::Name.eq(id_or_name)));
        let select = keyset(Entity::find().filter(wanted), &PageRequest::first(1), Column::PodId, None::<String>);
        self.within(QUERY, select.one(self.orm())).await?.ok_or_else(missing)
    }

    /// Whose these pods are or were, by the pods' ids; one that is not in scope is missing.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn pod_owners(
        &self,
        scope: &Scope,
        pods: impl IntoIterator<Item = &str>,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let mut wanted = Condition::all().add(Column::PodId.is_in(pods));
        if let Some(owners) = scope.owners() {
            wanted = wanted.add(Column::Owner.is_in(owners));
        }
        let select = Entity::find().select_only().columns([Column::PodId, Column::Owner]).filter(wanted);
        let rows: Vec<(String, String)> = self.within("find pods' owners", select.into_tuple().all(self.orm())).await?;
        Ok(rows.into_iter().collect())
    }
}
