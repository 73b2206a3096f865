//! Secrets of people and teams. Values go out sealed as they came in; only the vault opens them.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::SelectStatement,
};

use super::{keyset, team::hold};
use crate::{
    Database, Page, PageRequest, Scope, SecretRow, SecretVersionRow, StoreError, StoreErrorKind,
    entity::{secret, secret_version},
};

/// Which secrets are wanted; the default is all in scope.
#[derive(Debug, Clone, Default)]
pub struct SecretFilter {
    /// Only of this owner.
    pub owner: Option<String>,
    /// Only of this project; empty = only those for all projects.
    pub project: Option<String>,
}

/// A value to be kept as a secret's newest version.
#[derive(Debug, Clone)]
pub struct NewSecretVersion {
    /// What the value is bound to, besides its owner.
    pub row_id: String,
    /// The value, encrypted.
    pub sealed: Vec<u8>,
    /// Who gave it.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// The ids of an owner's secrets, as a subquery.
fn secrets_of(owner: &str) -> SelectStatement {
    let theirs = secret::Entity::find().select_only().column(secret::Column::SecretId);
    theirs.filter(secret::Column::Owner.eq(owner)).into_query()
}

fn in_scope(scope: &Scope) -> Condition {
    match scope.owners() {
        Some(owners) => Condition::all().add(secret::Column::Owner.is_in(owners.clone())),
        None => Condition::all(),
    }
}

impl Database {
    /// Secrets in the order of their making.
    ///
    /// # Errors
    /// [`StoreErrorKind::BadCursor`], [`StoreErrorKind::Unavailable`].
    pub async fn secret_list(
        &self,
        scope: &Scope,
        filter: &SecretFilter,
        page: &PageRequest,
    ) -> Result<Page<SecretRow>, StoreError> {
        const QUERY: &str = "list secrets";
        let after = page.after.as_ref().map(|cursor| cursor.key::<String>(QUERY)).transpose()?;
        let mut wanted = in_scope(scope);
        for (value, column) in [(&filter.owner, secret::Column::Owner), (&filter.project, secret::Column::Project)] {
            if let Some(value) = value {
                wanted = wanted.add(column.eq(value));
            }
        }
        let select = keyset(secret::Entity::find().filter(wanted), page, secret::Column::SecretId, after);
        let rows = self.within(QUERY, select.all(self.orm())).await?;
        Ok(page.page(rows, |row| row.secret_id.clone()))
    }

    /// A secret of an owner's by its project and name.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn secret_find(
        &self,
        scope: &Scope,
        owner: &str,
        project: &str,
        name: &str,
    ) -> Result<Option<SecretRow>, StoreError> {
        let wanted = in_scope(scope)
            .add(secret::Column::Owner.eq(owner))
            .add(secret::Column::Project.eq(project))
            .add(secret::Column::Name.eq(name));
        self.within("find a secret", secret::Entity::find().filter(wanted).one(self.orm())).await
    }

    /// How many secrets an owner has.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn secret_count(&self, owner: &str) -> Result<u64, StoreError> {
        let wanted = secret::Entity::find().filter(secret::Column::Owner.eq(owner));
        self.within("count secrets", wanted.count(self.orm())).await
    }

    /// The versions of a secret that are kept, oldest first; none when it is not this owner's any more.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn secret_versions(&self, row: &SecretRow) -> Result<Vec<SecretVersionRow>, StoreError> {
        let wanted = secret_version::Entity::find()
            .filter(secret_version::Column::SecretId.eq(&row.secret_id))
            .filter(secret_version::Column::SecretId.in_subquery(secrets_of(&row.owner)))
            .order_by_asc(secret_version::Column::Version);
        self.within("list a secret's versions", wanted.all(self.orm())).await
    }

    /// The newest values of an owner's secrets of these names. One of the project goes before one for all projects.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn secret_values(
        &self,
        owner: &str,
        project: &str,
        names: &[String],
    ) -> Result<Vec<(SecretRow, SecretVersionRow)>, StoreError> {
        let wanted = secret::Entity::find()
            .filter(secret::Column::Owner.eq(owner))
            .filter(secret::Column::Project.is_in(["", project]))
            .filter(secret::Column::Name.is_in(names))
            .order_by_asc(secret::Column::Name)
            .order_by_desc(secret::Column::Project);
        let mut rows = self.within("find secrets", wanted.all(self.orm())).await?;
        rows.dedup_by(|later, kept| later.name == kept.name);
        let mut newest = Condition::any();
        for row in &rows {
            let version = Condition::all()
                .add(secret_version::Column::SecretId.eq(&row.secret_id))
                .add(secret_version::Column::Version.eq(row.version));
            newest = newest.add(version);
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        // One that is given away meanwhile is sealed for its new owner.
        let still_theirs = secret_version::Column::SecretId.in_subquery(secrets_of(owner));
        let wanted = secret_version::Entity::find().filter(newest).filter(still_theirs);
        let versions = self.within("find secrets' values", wanted.all(self.orm())).await?;
        let version_of = |row: &SecretRow| versions.iter().find(|version| version.secret_id == row.secret_id).cloned();
        Ok(rows.into_iter().filter_map(|row| version_of(&row).map(|version| (row, version))).collect())
    }

    /// Makes a secret with its first value, or gives one that is there another; `None` when it was removed or given away, or
    /// another made under its name, since it was looked for. Of its versions the newest `kept` stay.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when its owner is a team that has ended, [`StoreErrorKind::Unavailable`].
    pub async fn secret_put(
        &self,
        row: &SecretRow,
        value: &NewSecretVersion,
        kept: i64,
    ) -> Result<Option<i64>, StoreError> {
        const MAKE: &str = "INSERT INTO secret (secret_id, owner, project, name, version, created_by, created_at, \
                            updated_by, updated_at) VALUES ($1, $2, $3, $4, 0, $5, $6, $5, $6) ON CONFLICT DO NOTHING";
        // Also what keeps two at once apart.
        const COUNT: &str = "UPDATE secret SET version = version + 1, updated_by = $2, updated_at = $3 \
                             WHERE secret_id = $1 AND owner = $4 RETURNING version";
        const KEEP: &str = "INSERT INTO secret_version (secret_id, version, row_id, sealed, created_by, created_at) \
                            VALUES ($1, $2, $3, $4, $5, $6)";
        self.settle("keep a secret", async |connection| {
            if row.version == 0 {
                if !hold(connection, &row.owner).await? {
                    return Ok(Err(StoreErrorKind::NotFound));
                }
                sqlx::query(MAKE)
                    .bind(&row.secret_id)
                    .bind(&row.owner)
                    .bind(&row.project)
                    .bind(&row.name)
                    .bind(&value.by)
                    .bind(value.at)
                    .execute(&mut *connection)
                    .await?;
            }
            let counted = sqlx::query_scalar::<_, i64>(COUNT).bind(&row.secret_id).bind(&value.by).bind(value.at);
            let counted = counted.bind(&row.owner).fetch_optional(&mut *connection).await?;
            let Some(version) = counted else { return Ok(Ok(None)) };
            sqlx::query(KEEP)
                .bind(&row.secret_id)
                .bind(version)
                .bind(&value.row_id)
                .bind(&value.sealed)
                .bind(&value.by)
                .bind(value.at)
                .execute(&mut *connection)
                .await?;
            sqlx::query("DELETE FROM secret_version WHERE secret_id = $1 AND version <= $2")
                .bind(&row.secret_id)
                .bind(version.saturating_sub(kept))
                .execute(&mut *connection)
                .await?;
            Ok(Ok(Some(version)))
        })
        .await
    }

    /// Gives a secret to another owner, with its `versions` as they are sealed for them. `false` when it was changed, given
    /// away or removed since it was looked for.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when the owner is a team that has ended, [`StoreErrorKind::Conflict`] when they have one
    /// of its name, [`StoreErrorKind::Unavailable`].
    pub async fn secret_pass_on(
        &self,
        row: &SecretRow,
        owner: &str,
        versions: &[SecretVersionRow],
    ) -> Result<bool, StoreError> {
        // Whoever puts a value counts the version up: those that were read are all there are.
        const GIVE: &str = "UPDATE secret SET owner = $4 WHERE secret_id = $1 AND owner = $2 AND version = $3";
        self.settle("give a secret to another owner", async |connection| {
            if !hold(connection, owner).await? {
                return Ok(Err(StoreErrorKind::NotFound));
            }
            let given = sqlx::query(GIVE).bind(&row.secret_id).bind(&row.owner).bind(row.version).bind(owner);
            if given.execute(&mut *connection).await?.rows_affected() == 0 {
                return Ok(Ok(false));
            }
            for version in versions {
                sqlx::query("UPDATE secret_version SET sealed = $3 WHERE secret_id = $1 AND version = $2")
                    .bind(&row.secret_id)
                    .bind(version.version)
                    .bind(&version.sealed)
                    .execute(&mut *connection)
                    .await?;
            }
            Ok(Ok(true))
        })
        .await
    }

    /// Removes a secret with all of its values; `false` when it is not there.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    pub async fn secret_delete(&self, secret_id: &str) -> Result<bool, StoreError> {
        let delete = secret::Entity::delete_by_id(secret_id).exec(self.orm());
        Ok(self.within("remove a secret", delete).await?.rows_affected > 0)
    }
}
