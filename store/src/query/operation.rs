//! Requests, the operations that carry them out, and the commands that those ran.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};

use super::keyset;
use crate::{
    Database, ExecRow, OperationRow, OperationStepRow, Page, PageRequest, RequestRow, Scope, StoreError,
    StoreErrorKind,
    entity::{exec_log, operation, operation_step, pod, request},
};

/// The ids of an owner's pods, as a subquery.
fn pods_of(owner: &str) -> sea_orm::sea_query::SelectStatement {
    pod::Entity::find().select_only().column(pod::Column::PodId).filter(pod::Column::Owner.eq(owner)).into_query()
}

/// A request is its asker's.
fn requests_in(scope: &Scope) -> Condition {
    match scope.owner() {
        Some(owner) => Condition::all().add(request::Column::RequestedBy.eq(owner)),
        None => Condition::all(),
    }
}

/// An operation belongs to whoever owns the pod that it works on.
fn operations_in(scope: &Scope) -> Condition {
    match scope.owner() {
        Some(owner) => Condition::all().add(operation::Column::TargetId.in_subquery(pods_of(owner))),
        None => Condition::all(),
    }
}

impl Database {
    /// A request.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn request_get(&self, scope: &Scope, request_id: &str) -> Result<RequestRow, StoreError> {
        const QUERY: &str = "find a request";
        let wanted = requests_in(scope).add(request::Column::RequestId.eq(request_id));
        let select = request::Entity::find().filter(wanted);
        self.within(QUERY, select.one(self.orm()))
            .await?
            .ok_or_else(|| StoreError::new(QUERY, StoreErrorKind::NotFound))
    }

    /// Requests by id, that is by age; of one thing, if `target_id` names it.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn request_list(
        &self,
        scope: &Scope,
        target_id: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<RequestRow>, StoreError> {
        const QUERY: &str = "list requests";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let mut wanted = requests_in(scope);
        if let Some(target_id) = target_id {
            wanted = wanted.add(request::Column::TargetId.eq(target_id));
        }
        let select = keyset(request::Entity::find().filter(wanted), page, request::Column::RequestId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.request_id.clone()))
    }

    /// An operation with its steps in order.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn operation_get(
        &self,
        scope: &Scope,
        operation_id: &str,
    ) -> Result<(OperationRow, Vec<OperationStepRow>), StoreError> {
        const QUERY: &str = "find an operation";
        let wanted = operations_in(scope).add(operation::Column::OperationId.eq(operation_id));
        let select = operation::Entity::find().filter(wanted);
        let row = self.within(QUERY, select.one(self.orm())).await?;
        let row = row.ok_or_else(|| StoreError::new(QUERY, StoreErrorKind::NotFound))?;
        let steps = operation_step::Entity::find()
            .filter(operation_step::Column::OperationId.eq(operation_id))
            .order_by_asc(operation_step::Column::Position);
        Ok((row, self.within(QUERY, steps.all(self.orm())).await?))
    }

    /// Operations by id, that is by age; on one thing, if `target_id` names it.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn operation_list(
        &self,
        scope: &Scope,
        target_id: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<OperationRow>, StoreError> {
        const QUERY: &str = "list operations";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let mut wanted = operations_in(scope);
        if let Some(target_id) = target_id {
            wanted = wanted.add(operation::Column::TargetId.eq(target_id));
        }
        let select = keyset(operation::Entity::find().filter(wanted), page, operation::Column::OperationId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.operation_id.clone()))
    }

    /// The commands of an operation, in the order that they ran.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn exec_list(
        &self,
        scope: &Scope,
        operation_id: &str,
        page: &PageRequest,
    ) -> Result<Page<ExecRow>, StoreError> {
        const QUERY: &str = "list commands";
        let after = page.after.as_ref().map(|cursor| cursor.key::<i64>(QUERY)).transpose()?;
        let mut wanted = Condition::all().add(exec_log::Column::OperationId.eq(operation_id));
        if let Some(owner) = scope.owner() {
            wanted = wanted.add(exec_log::Column::PodId.in_subquery(pods_of(owner)));
        }
        let select = keyset(exec_log::Entity::find().filter(wanted), page, exec_log::Column::Sequence, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.sequence))
    }
}
