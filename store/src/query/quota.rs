//! How much owners may use, and what their pods take of it. A claim is made before a pod is asked for, in one transaction
//! under a lock of its owner's row: two copies of the gateway that see room for one pod find it one after the other.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, sea_query::OnConflict};
use sqlx::PgConnection;

use crate::{
    Database, PodClaimRow, QuotaRow, StoreError, StoreErrorKind,
    database::Outcome,
    entity::{pod_claim, quota},
};

const CLAIMS: &str =
    "SELECT owner, pod_id, cpu_millis, memory_bytes, disk_bytes, claimed_at FROM pod_claim WHERE owner = $1";
const QUOTA: &str =
    "SELECT owner, pods, cpu_millis, memory_bytes, disk_bytes, set_by, set_at FROM quota WHERE owner = $1";
const CLAIM: &str = "INSERT INTO pod_claim (owner, pod_id, cpu_millis, memory_bytes, disk_bytes, claimed_at) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (owner, pod_id) DO UPDATE SET claimed_at = excluded.claimed_at";

/// What an owner holds at the moment of a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdings {
    /// What an admin has set for this owner.
    pub quota: Option<QuotaRow>,
    /// Claims, also such as count no more.
    pub claims: Vec<PodClaimRow>,
}

type Claim = (String, String, i64, i64, i64, DateTime<Utc>);
type Quota = (String, Option<i64>, Option<i64>, Option<i64>, Option<i64>, String, DateTime<Utc>);

async fn holdings(connection: &mut PgConnection, owner: &str) -> Result<Holdings, sqlx::Error> {
    let quota: Option<Quota> = sqlx::query_as(QUOTA).bind(owner).fetch_optional(&mut *connection).await?;
    let claims: Vec<Claim> = sqlx::query_as(CLAIMS).bind(owner).fetch_all(connection).await?;
    let quota = quota.map(|(owner, pods, cpu_millis, memory_bytes, disk_bytes, set_by, set_at)| QuotaRow {
        owner,
        pods,
        cpu_millis,
        memory_bytes,
        disk_bytes,
        set_by,
        set_at,
    });
    let claims = claims.into_iter().map(|(owner, pod_id, cpu_millis, memory_bytes, disk_bytes, claimed_at)| {
        PodClaimRow { owner, pod_id, cpu_millis, memory_bytes, disk_bytes, claimed_at }
    });
    Ok(Holdings { quota, claims: claims.collect() })
}

/// Whether there is such an owner; whoever claims for the same one waits until then.
async fn lock(connection: &mut PgConnection, owner: &str) -> Result<bool, sqlx::Error> {
    const EITHER: [&str; 2] = [
        "SELECT user_id FROM account WHERE user_id = $1 FOR UPDATE",
        "SELECT team_id FROM team WHERE team_id = $1 FOR UPDATE",
    ];
    for sql in EITHER {
        if sqlx::query_scalar::<_, String>(sql).bind(owner).fetch_optional(&mut *connection).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Database {
    /// Makes a claim if `judge` lets it. It is told what the owner holds, nobody else claims meanwhile, and what it
    /// returns are the pods whose claims count no more; or why the claim is refused.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when there is no such owner, [`StoreErrorKind::Unavailable`].
    pub async fn claim_make<R>(
        &self,
        claim: &PodClaimRow,
        judge: impl FnOnce(&Holdings) -> Result<Vec<String>, R>,
    ) -> Result<Result<(), R>, StoreError> {
        self.settle("claim a part of a quota", async |connection| -> Outcome<Result<(), R>> {
            if !lock(connection, &claim.owner).await? {
                return Ok(Err(StoreErrorKind::NotFound));
            }
            let over = match judge(&holdings(connection, &claim.owner).await?) {
                Ok(over) => over,
                Err(refused) => return Ok(Ok(Err(refused))),
            };
            if !over.is_empty() {
                sqlx::query("DELETE FROM pod_claim WHERE owner = $1 AND pod_id = ANY($2)")
                    .bind(&claim.owner)
                    .bind(&over)
                    .execute(&mut *connection)
                    .await?;
            }
            sqlx::query(CLAIM)
                .bind(&claim.owner)
                .bind(&claim.pod_id)
                .bind(claim.cpu_millis)
                .bind(claim.memory_bytes)
                .bind(claim.disk_bytes)
                .bind(claim.claimed_at)
                .execute(connection)
                .await?;
            Ok(Ok(Ok(())))
        })
        .await
    }

    /// Gives claims up.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn claims_release(&self, owner: &str, pod_ids: &[String]) -> Result<(), StoreError> {
        let delete = pod_claim::Entity::delete_many()
            .filter(pod_claim::Column::Owner.eq(owner))
            .filter(pod_claim::Column::PodId.is_in(pod_ids));
        self.within("give claims up", delete.exec(self.orm())).await.map(drop)
    }

    /// What an owner holds.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn holdings(&self, owner: &str) -> Result<Holdings, StoreError> {
        self.transact("read what an owner holds", async |connection| holdings(connection, owner).await).await
    }

    /// Sets what an owner may use, in place of what was set before.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn quota_set(&self, row: QuotaRow) -> Result<(), StoreError> {
        let columns = quota::Column::Owner;
        let replace = OnConflict::column(columns)
            .update_columns([
                quota::Column::Pods,
                quota::Column::CpuMillis,
                quota::Column::MemoryBytes,
                quota::Column::DiskBytes,
                quota::Column::SetBy,
                quota::Column::SetAt,
            ])
            .to_owned();
        let insert = quota::Entity::insert(row.into_active_model()).on_conflict(replace);
        self.within("set a quota", insert.exec_without_returning(self.orm())).await.map(drop)
    }
}
