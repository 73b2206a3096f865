//! Hosts.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use super::keyset;
use crate::{
    Cursor, Database, HostRow, Page, PageRequest, Scope, StoreError, StoreErrorKind,
    entity::host::{Column, Entity},
};

/// Which hosts are wanted; the default is all.
#[derive(Debug, Clone, Default)]
pub struct HostFilter {
    /// Only in this state, as on the wire.
    pub state: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
}

impl Database {
    /// Hosts by id, that is by admission. Those without an owner only [`Scope::All`] sees.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn host_list(
        &self,
        scope: &Scope,
        filter: &HostFilter,
        page: &PageRequest,
    ) -> Result<Page<HostRow>, StoreError> {
        const QUERY: &str = "list hosts";
        let after = page.after.as_ref().map(|cursor: &Cursor| cursor.key::<String>(QUERY)).transpose()?;
        let mut wanted = seen_by(scope).add(Column::DeletedAt.is_null());
        if let Some(state) = &filter.state {
            wanted = wanted.add(Column::State.eq(state));
        }
        if let Some(name) = &filter.name {
            wanted = wanted.add(Column::Name.eq(name));
        }
        let select = keyset(Entity::find().filter(wanted), page, Column::HostId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.host_id.clone()))
    }

    /// A host by its id, or by its name; of several with that name the oldest.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn host_get(&self, scope: &Scope, id_or_name: &str) -> Result<HostRow, StoreError> {
        const QUERY: &str = "find a host";
        let missing = || StoreError::new(QUERY, StoreErrorKind::NotFound);
        // Postgres takes no NUL, so nothing has such a name.
        if id_or_name.contains('\0') {
            return Err(missing());
        }
        let wanted = seen_by(scope)
            .add(Column::DeletedAt.is_null())
            .add(Condition::any().add(Column::HostId.eq(id_or_name)).add(Column::Name.eq(id_or_name)));
        let select = keyset(Entity::find().filter(wanted), &PageRequest::first(1), Column::HostId, None::<String>);
        self.within(QUERY, select.one(self.orm())).await?.ok_or_else(missing)
    }
}

fn seen_by(scope: &Scope) -> Condition {
    match scope {
        Scope::All => Condition::all(),
        Scope::Owners(owners) => Condition::all().add(Column::Owner.is_in(owners)),
    }
}
