//! Dead letters. They belong to the installation: only [`Scope::All`] sees any.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use super::keyset;
use crate::{
    Database, DeadLetterRow, Page, PageRequest, Scope, StoreError, StoreErrorKind,
    entity::dead_letter::{Column, Entity},
};

impl Database {
    /// Dead letters in the order of their stream: all, or only those that nobody has sent again or dropped.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn dead_letter_list(
        &self,
        scope: &Scope,
        only_open: bool,
        page: &PageRequest,
    ) -> Result<Page<DeadLetterRow>, StoreError> {
        const QUERY: &str = "list dead letters";
        let after = page.after.as_ref().map(|cursor| cursor.key::<i64>(QUERY)).transpose()?;
        if !scope.is_all() {
            return Ok(page.page(Vec::new(), |row: &DeadLetterRow| row.dead_sequence));
        }
        let mut wanted = Condition::all();
        if only_open {
            wanted = wanted.add(Column::ResentAt.is_null()).add(Column::DroppedAt.is_null());
        }
        let select = keyset(Entity::find().filter(wanted), page, Column::DeadSequence, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.dead_sequence))
    }

    /// A dead letter.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn dead_letter_get(&self, scope: &Scope, dead_letter_id: &str) -> Result<DeadLetterRow, StoreError> {
        const QUERY: &str = "find a dead letter";
        let missing = || StoreError::new(QUERY, StoreErrorKind::NotFound);
        if !scope.is_all() || dead_letter_id.contains('\0') {
            return Err(missing());
        }
        let select = Entity::find_by_id(dead_letter_id);
        self.within(QUERY, select.one(self.orm())).await?.ok_or_else(missing)
    }
}
