//! Requests, the operations that carry them out, and the commands that those ran.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait, Condition, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, QueryTrait};

use super::keyset;
use crate::{
    Database, Direction, ExecRow, OperationRow, OperationStepRow, Page, PageRequest, RequestRow, Scope, StoreError,
    StoreErrorKind,
    entity::{exec_log, host, operation, operation_step, pod, request},
};

/// Which operations are wanted; the default is all in scope.
#[derive(Debug, Clone, Default)]
pub struct OperationFilter {
    /// Only on the thing with this id.
    pub target_id: Option<String>,
    /// Only on this host.
    pub host_id: Option<String>,
    /// Only as far as this, as on the wire.
    pub progress: Option<String>,
}

/// Which commands are wanted; the default is all in scope.
#[derive(Debug, Clone, Default)]
pub struct ExecFilter {
    /// Only for this pod.
    pub pod_id: Option<String>,
    /// Only on this host.
    pub host_id: Option<String>,
    /// Only of this operation.
    pub operation_id: Option<String>,
    /// Only what ran inside of pods.
    pub container_only: bool,
}

/// The ids of these owners' pods, as a subquery.
fn pods_of(owners: &BTreeSet<String>) -> sea_orm::sea_query::SelectStatement {
    pod::Entity::find().select_only().column(pod::Column::PodId).filter(pod::Column::Owner.is_in(owners)).into_query()
}

/// The ids of these owners' hosts, as a subquery.
fn hosts_of(owners: &BTreeSet<String>) -> sea_orm::sea_query::SelectStatement {
    host::Entity::find()
        .select_only()
        .column(host::Column::HostId)
        .filter(host::Column::Owner.is_in(owners))
        .into_query()
}

/// Whether a column names a pod or a host of these owners'.
fn theirs(target: impl ColumnTrait, owners: &BTreeSet<String>) -> Condition {
    Condition::any().add(target.in_subquery(pods_of(owners))).add(target.in_subquery(hosts_of(owners)))
}

/// A request belongs to whoever owns the pod or the host that it is about. Before there is one it is its asker's.
fn requests_in(scope: &Scope) -> Condition {
    let Some(owners) = scope.owners() else { return Condition::all() };
    let pods = pod::Entity::find().select_only().column(pod::Column::PodId).into_query();
    let hosts = host::Entity::find().select_only().column(host::Column::HostId).into_query();
    let asked = Condition::all()
        .add(request::Column::RequestedBy.is_in(owners))
        .add(request::Column::TargetId.not_in_subquery(pods))
        .add(request::Column::TargetId.not_in_subquery(hosts));
    Condition::all().add(theirs(request::Column::TargetId, owners).add(asked))
}

/// An operation belongs to whoever owns the pod or the host that it is done to.
fn operations_in(scope: &Scope) -> Condition {
    match scope.owners() {
        Some(owners) => Condition::all().add(theirs(operation::Column::TargetId, owners)),
        None => Condition::all(),
    }
}

/// A command belongs to whoever owns the pod that it was for, or else the host itself.
fn commands_in(scope: &Scope) -> Condition {
    let Some(owners) = scope.owners() else { return Condition::all() };
    let of_host = Condition::all()
        .add(exec_log::Column::PodId.is_null())
        .add(exec_log::Column::HostId.in_subquery(hosts_of(owners)));
    Condition::all().add(Condition::any().add(exec_log::Column::PodId.in_subquery(pods_of(owners))).add(of_host))
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

    /// Operations by id, that is by age.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn operation_list(
        &self,
        scope: &Scope,
        filter: &OperationFilter,
        page: &PageRequest,
    ) -> Result<Page<OperationRow>, StoreError> {
        const QUERY: &str = "list operations";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let mut wanted = operations_in(scope);
        if let Some(target_id) = &filter.target_id {
            wanted = wanted.add(operation::Column::TargetId.eq(target_id));
        }
        if let Some(host_id) = &filter.host_id {
            wanted = wanted.add(operation::Column::HostId.eq(host_id));
        }
        if let Some(progress) = &filter.progress {
            wanted = wanted.add(operation::Column::Progress.eq(progress));
        }
        let select = keyset(operation::Entity::find().filter(wanted), page, operation::Column::OperationId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.operation_id.clone()))
    }

    /// Commands in the order of their operations' ids, and within one as they ran. A cursor is an operation's id and a
    /// sequence.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn exec_list(
        &self,
        scope: &Scope,
        filter: &ExecFilter,
        page: &PageRequest,
    ) -> Result<Page<ExecRow>, StoreError> {
        const QUERY: &str = "list commands";
        let (operation, sequence) = (exec_log::Column::OperationId, exec_log::Column::Sequence);
        let mut wanted = commands_in(scope);
        if let Some(cursor) = &page.after {
            let text = cursor.key::<String>(QUERY)?;
            let bad = || StoreError::new(QUERY, StoreErrorKind::BadCursor);
            let (id, number) = text.split_once('.').ok_or_else(bad)?;
            let number: i64 = number.parse().map_err(|_| bad())?;
            let behind = match page.direction {
                Direction::Forward => (operation.gt(id), sequence.gt(number)),
                Direction::Backward => (operation.lt(id), sequence.lt(number)),
            };
            let same = Condition::all().add(operation.eq(id)).add(behind.1);
            wanted = wanted.add(Condition::any().add(behind.0).add(same));
        }
        for (column, value) in [
            (exec_log::Column::PodId, &filter.pod_id),
            (exec_log::Column::HostId, &filter.host_id),
            (operation, &filter.operation_id),
        ] {
            if let Some(value) = value {
                wanted = wanted.add(column.eq(value));
            }
        }
        if filter.container_only {
            wanted = wanted.add(exec_log::Column::ContainerCommand.is_not_null());
        }
        let order = match page.direction {
            Direction::Forward => Order::Asc,
            Direction::Backward => Order::Desc,
        };
        let select = exec_log::Entity::find()
            .filter(wanted)
            .order_by(operation, order.clone())
            .order_by(sequence, order)
            .limit(page.fetch());
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| format!("{}.{}", row.operation_id, row.sequence)))
    }

    /// The request that an operation carries out.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn request_of_operation(&self, scope: &Scope, operation_id: &str) -> Result<RequestRow, StoreError> {
        const QUERY: &str = "find an operation's request";
        let wanted = requests_in(scope).add(request::Column::OperationId.eq(operation_id));
        let select = request::Entity::find().filter(wanted);
        self.within(QUERY, select.one(self.orm()))
            .await?
            .ok_or_else(|| StoreError::new(QUERY, StoreErrorKind::NotFound))
    }
}
