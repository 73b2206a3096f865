//! Samples as they came.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::keyset;
use crate::{
    Cursor, Database, HostSampleRow, Page, PageRequest, PodSampleRow, Scope, StoreError, StoreErrorKind,
    entity::{host_metrics, pod_metrics},
};

/// A cursor over time counts microseconds, as Postgres does.
fn time_of(cursor: &Cursor, query: &'static str) -> Result<DateTime<Utc>, StoreError> {
    let micros = cursor.key::<i64>(query)?;
    DateTime::from_timestamp_micros(micros).ok_or_else(|| StoreError::new(query, StoreErrorKind::BadCursor))
}

impl Database {
    /// A host's newest sample, if it has any.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when there is no such host, [`StoreErrorKind::Unavailable`].
    pub async fn host_sample_newest(
        &self,
        scope: &Scope,
        id_or_name: &str,
    ) -> Result<Option<HostSampleRow>, StoreError> {
        let host = self.host_get(scope, id_or_name).await?;
        let select = host_metrics::Entity::find()
            .filter(host_metrics::Column::HostId.eq(host.host_id))
            .order_by_desc(host_metrics::Column::Time);
        self.within("read a host's newest sample", select.one(self.orm())).await
    }

    /// A host's samples from `from` to before `to`.
    ///
    /// # Errors
    /// As for [`host_sample_newest`](Self::host_sample_newest), and [`StoreErrorKind::BadCursor`].
    pub async fn host_sample_list(
        &self,
        scope: &Scope,
        id_or_name: &str,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        page: &PageRequest,
    ) -> Result<Page<HostSampleRow>, StoreError> {
        const QUERY: &str = "read a host's samples";
        let host = self.host_get(scope, id_or_name).await?;
        let after = page.after.as_ref().map(|cursor| time_of(cursor, QUERY)).transpose()?;
        let select = host_metrics::Entity::find()
            .filter(host_metrics::Column::HostId.eq(host.host_id))
            .filter(host_metrics::Column::Time.gte(from))
            .filter(host_metrics::Column::Time.lt(to));
        let rows = self.within(QUERY, keyset(select, page, host_metrics::Column::Time, after).all(self.orm())).await?;
        Ok(page.page(rows, |row| row.time.timestamp_micros()))
    }

    /// A pod's newest sample, if it has any.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when there is no such pod in scope, [`StoreErrorKind::Unavailable`].
    pub async fn pod_sample_newest(&self, scope: &Scope, id_or_name: &str) -> Result<Option<PodSampleRow>, StoreError> {
        let pod = self.pod_get(scope, id_or_name).await?;
        let select = pod_metrics::Entity::find()
            .filter(pod_metrics::Column::PodId.eq(pod.pod_id))
            .order_by_desc(pod_metrics::Column::Time);
        self.within("read a pod's newest sample", select.one(self.orm())).await
    }

    /// A pod's samples from `from` to before `to`.
    ///
    /// # Errors
    /// As for [`pod_sample_newest`](Self::pod_sample_newest), and [`StoreErrorKind::BadCursor`].
    pub async fn pod_sample_list(
        &self,
        scope: &Scope,
        id_or_name: &str,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        page: &PageRequest,
    ) -> Result<Page<PodSampleRow>, StoreError> {
        const QUERY: &str = "read a pod's samples";
        let pod = self.pod_get(scope, id_or_name).await?;
        let after = page.after.as_ref().map(|cursor| time_of(cursor, QUERY)).transpose()?;
        let select = pod_metrics::Entity::find()
            .filter(pod_metrics::Column::PodId.eq(pod.pod_id))
            .filter(pod_metrics::Column::Time.gte(from))
            .filter(pod_metrics::Column::Time.lt(to));
        let rows = self.within(QUERY, keyset(select, page, pod_metrics::Column::Time, after).all(self.orm())).await?;
        Ok(page.page(rows, |row| row.time.timestamp_micros()))
    }
}
