//! Tokens by which hosts join, and their exchange for a host's key.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, TransactionTrait, sea_query::LockType,
};

use super::keyset;
use crate::{
    Database, HostEnrolmentRow, HostKeyRow, Page, PageRequest, Scope, StoreError, StoreErrorKind,
    entity::{
        host_enrolment::{Column, Entity},
        host_key, team,
    },
};

/// What a machine comes with.
#[derive(Debug, Clone)]
pub struct EnrolmentClaim {
    /// SHA-256 of its token.
    pub token_hash: Vec<u8>,
    /// The public half of its key.
    pub public_key: String,
    /// The machine's own id; empty = it has none.
    pub machine_id: String,
    /// The id of the host that it becomes, unless it was one before.
    pub fresh_host_id: String,
    /// Now.
    pub at: DateTime<Utc>,
    /// When its grant will end.
    pub expires_at: DateTime<Utc>,
}

/// A token that was exchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The token, with its terms.
    pub enrolment: HostEnrolmentRow,
    /// The key that is good from now on.
    pub key: HostKeyRow,
    /// Whether another key of the host's was good until now.
    pub superseded: bool,
}

/// Why a token was not exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolmentRefused {
    /// There is no such token.
    Unknown,
    /// It has ended.
    Expired,
    /// Somebody took it back.
    Revoked,
    /// As many machines have joined by it as may.
    UsedUp,
    /// The key is a host's already.
    KeyKnown,
    /// The host that the machine was is disabled.
    Disabled,
    /// The host that the machine was is there, by its id: another machine has the same machine id.
    InUse(String),
}

impl Database {
    /// Writes a new token. `false` when its owner is a team that has ended.
    ///
    /// # Errors
    /// See [`StoreErrorKind`].
    pub async fn enrolment_create(&self, row: HostEnrolmentRow) -> Result<bool, StoreError> {
        self.within("write an enrolment token", async {
            let transaction = self.orm().begin().await?;
            // The team stays until the token is there, which keeps it.
            let team = team::Entity::find_by_id(&row.owner).lock(LockType::KeyShare).one(&transaction).await?;
            if row.owner.starts_with("team_") && team.is_none() {
                return Ok(false);
            }
            let insert = Entity::insert(row.into_active_model().reset_all());
            insert.exec_without_returning(&transaction).await?;
            transaction.commit().await?;
            Ok::<_, DbErr>(true)
        })
        .await
    }

    /// Tokens of the scope's owners, also those that have ended.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn enrolment_list(
        &self,
        scope: &Scope,
        page: &PageRequest,
    ) -> Result<Page<HostEnrolmentRow>, StoreError> {
        const QUERY: &str = "list enrolment tokens";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let select = keyset(Entity::find().filter(seen_by(scope)), page, Column::EnrolmentId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.enrolment_id.clone()))
    }

    /// Takes a token back. Once more changes nothing.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`], [`StoreErrorKind::Unavailable`].
    pub async fn enrolment_revoke(
        &self,
        scope: &Scope,
        enrolment_id: &str,
        at: DateTime<Utc>,
    ) -> Result<HostEnrolmentRow, StoreError> {
        const QUERY: &str = "take an enrolment token back";
        let found = Entity::find_by_id(enrolment_id).filter(seen_by(scope));
        let row = self.within(QUERY, found.one(self.orm())).await?;
        let row = row.ok_or_else(|| StoreError::new(QUERY, StoreErrorKind::NotFound))?;
        if row.revoked_at.is_some() {
            return Ok(row);
        }
        let mut change = row.into_active_model();
        change.revoked_at = Set(Some(at));
        self.within(QUERY, change.update(self.orm())).await
    }

    /// Exchanges a token for a place among the hosts, in one transaction: the token counts one use more, and the key is
    /// the host's only one from now on. The same key with the same token once more is answered again and not counted:
    /// the answer may have been lost. `is_there` tells whether a host is connected.
    ///
    /// # Errors
    /// See [`StoreErrorKind`]; the inner error says why the token is not good.
    pub async fn enrolment_claim(
        &self,
        claim: &EnrolmentClaim,
        is_there: impl Fn(&str) -> bool + Send,
    ) -> Result<Result<Claimed, EnrolmentRefused>, StoreError> {
        self.within("exchange an enrolment token", async {
            let transaction = self.orm().begin().await?;
            let claimed = exchange(&transaction, claim, is_there).await?;
            if claimed.is_ok() {
                transaction.commit().await?;
            } else {
                transaction.rollback().await?;
            }
            Ok::<_, DbErr>(claimed)
        })
        .await
    }
}

fn seen_by(scope: &Scope) -> Condition {
    match scope {
        Scope::All => Condition::all(),
        Scope::Owners(owners) => Condition::all().add(Column::Owner.is_in(owners)),
    }
}

async fn exchange(
    transaction: &DatabaseTransaction,
    claim: &EnrolmentClaim,
    is_there: impl Fn(&str) -> bool,
) -> Result<Result<Claimed, EnrolmentRefused>, DbErr> {
    let found = Entity::find().filter(Column::TokenHash.eq(claim.token_hash.clone())).lock_exclusive();
    let Some(enrolment) = found.one(transaction).await? else { return Ok(Err(EnrolmentRefused::Unknown)) };
    if enrolment.revoked_at.is_some() {
        return Ok(Err(EnrolmentRefused::Revoked));
    }
    if enrolment.expires_at <= claim.at {
        return Ok(Err(EnrolmentRefused::Expired));
    }
    if let Some(key) = host_key::Entity::find_by_id(&claim.public_key).one(transaction).await? {
        let again = key.enrolment_id == enrolment.enrolment_id && key.state == "active";
        return Ok(if again {
            Ok(Claimed { enrolment, key, superseded: false })
        } else {
            Err(EnrolmentRefused::KeyKnown)
        });
    }
    if enrolment.used >= enrolment.uses {
        return Ok(Err(EnrolmentRefused::UsedUp));
    }
    let before = before(transaction, &enrolment, claim).await?;
    let host_id = match (&enrolment.host_id, &before) {
        (Some(named), _) => named.clone(),
        (None, Some(key)) if is_there(&key.host_id) => {
            return Ok(Err(EnrolmentRefused::InUse(key.host_id.clone())));
        }
        (None, Some(key)) => key.host_id.clone(),
        (None, None) => claim.fresh_host_id.clone(),
    };
    if before.as_ref().is_some_and(|key| key.state == "disabled") {
        return Ok(Err(EnrolmentRefused::Disabled));
    }
    super::host_key::revoke(transaction, &host_id, claim.at).await?;
    let key = HostKeyRow {
        public_key: claim.public_key.clone(),
        host_id,
        owner: enrolment.owner.clone(),
        machine_id: claim.machine_id.clone(),
        enrolment_id: enrolment.enrolment_id.clone(),
        state: "active".into(),
        issued_at: claim.at,
        expires_at: claim.expires_at,
        revoked_at: None,
    };
    host_key::Entity::insert(key.clone().into_active_model().reset_all()).exec_without_returning(transaction).await?;
    let used = enrolment.used + 1;
    let mut change = enrolment.into_active_model();
    change.used = Set(used);
    let enrolment = change.update(transaction).await?;
    Ok(Ok(Claimed { enrolment, key, superseded: before.is_some() }))
}

/// The newest key of the host that the token names, or of the host that the machine was for the same owner.
async fn before(
    transaction: &DatabaseTransaction,
    enrolment: &HostEnrolmentRow,
    claim: &EnrolmentClaim,
) -> Result<Option<HostKeyRow>, DbErr> {
    let is_it = match &enrolment.host_id {
        Some(host_id) => Condition::all().add(host_key::Column::HostId.eq(host_id)),
        None if claim.machine_id.is_empty() => return Ok(None),
        None => Condition::all()
            .add(host_key::Column::MachineId.eq(&claim.machine_id))
            .add(host_key::Column::Owner.eq(&enrolment.owner)),
    };
    let good = host_key::Entity::find().filter(is_it).filter(host_key::Column::State.ne("revoked"));
    good.order_by_desc(host_key::Column::IssuedAt).limit(1).one(transaction).await
}
