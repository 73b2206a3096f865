//! What the migrations make, and that the entities see the same.

use std::collections::BTreeMap;

use pinacle_migrations::{Migrator, MigratorTrait, migrate, status};
use pinacle_store::schema::{Table, TableColumn, tables};
use pinacle_tests::Postgres;
use sea_orm::DatabaseConnection;
use sqlx::{PgPool, Row};

/// SeaORM's own list of what is applied.
const BOOKKEEPING: &str = "seaql_migrations";

async fn empty() -> (Postgres, DatabaseConnection, PgPool) {
    let postgres = Postgres::start().await;
    let url = postgres.empty_database().await;
    (postgres, sea_orm::Database::connect(&url).await.unwrap(), PgPool::connect(&url).await.unwrap())
}

/// The schema as text: tables with how they are partitioned, columns, indexes, constraints, sequences. A column that is
/// dropped leaves a gap in Postgres's own numbers, so columns are counted here.
async fn catalogue(pool: &PgPool) -> String {
    let rows = sqlx::query(
        "SELECT format('%s %s %s', relkind, relname, pg_get_partkeydef(oid)) FROM pg_class \
         WHERE relnamespace = 'public'::regnamespace \
         UNION ALL SELECT format('%s.%s %s %s %s %s', table_name, column_name, \
         row_number() OVER (PARTITION BY table_name ORDER BY ordinal_position), data_type, is_nullable, \
         column_default) FROM information_schema.columns WHERE table_schema = 'public' \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' \
         UNION ALL SELECT format('%s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint \
         WHERE connamespace = 'public'::regnamespace ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.into_iter().filter(|line| !line.contains(BOOKKEEPING)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn up_down_and_up_again_leave_the_same_schema() {
    let (_postgres, database, pool) = empty().await;
    let before = catalogue(&pool).await;
    assert_eq!(migrate(&database).await.unwrap(), Migrator::migrations().len());
    let migrated = catalogue(&pool).await;
    Migrator::down(&database, None).await.unwrap();
    assert_eq!(catalogue(&pool).await, before);
    migrate(&database).await.unwrap();
    assert_eq!(catalogue(&pool).await, migrated);
}

#[tokio::test]
async fn each_change_can_be_taken_back_alone() {
    let (_postgres, database, pool) = empty().await;
    for migration in Migrator::migrations() {
        let before = catalogue(&pool).await;
        Migrator::up(&database, Some(1)).await.unwrap();
        let after = catalogue(&pool).await;
        assert_ne!(after, before, "{} changes nothing", migration.name());
        Migrator::down(&database, Some(1)).await.unwrap();
        assert_eq!(catalogue(&pool).await, before, "{} is not taken back", migration.name());
        Migrator::up(&database, Some(1)).await.unwrap();
        assert_eq!(catalogue(&pool).await, after);
    }
}

#[tokio::test]
async fn several_processes_may_migrate_at_once() {
    let (_postgres, database, _pool) = empty().await;
    assert!(status(&database).await.unwrap().iter().all(|change| !change.applied));
    let applied = futures_util::future::join_all((0..6).map(|_| migrate(&database))).await;
    let mut applied: Vec<usize> = applied.into_iter().map(Result::unwrap).collect();
    applied.sort_unstable();
    assert_eq!(applied, [0, 0, 0, 0, 0, Migrator::migrations().len()]);
    assert!(status(&database).await.unwrap().iter().all(|change| change.applied));
}

#[tokio::test]
async fn the_entities_see_the_migrated_schema() {
    let postgres = Postgres::start().await;
    let pool = PgPool::connect(&postgres.database().await).await.unwrap();
    let rows = sqlx::query(
        "SELECT relname::text, attname::text, format_type(atttypid, atttypmod), NOT attnotnull, \
         coalesce(attnum = ANY (conkey), false) \
         FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid \
         LEFT JOIN pg_constraint ON conrelid = pg_class.oid AND contype = 'p' \
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition \
         AND attnum > 0 AND NOT attisdropped AND relname <> $1",
    )
    .bind(BOOKKEEPING)
    .fetch_all(&pool)
    .await
    .unwrap();
    let mut migrated: BTreeMap<String, Vec<TableColumn>> = BTreeMap::new();
    for row in rows {
        let column = TableColumn { name: row.get(1), data_type: row.get(2), nullable: row.get(3), key: row.get(4) };
        migrated.entry(row.get(0)).or_default().push(column);
    }
    let by_name = |mut columns: Vec<TableColumn>| {
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        columns
    };
    let entities: BTreeMap<String, Vec<TableColumn>> =
        tables().into_iter().map(|Table { name, columns }| (name, by_name(columns))).collect();
    let migrated = migrated.into_iter().map(|(name, columns)| (name, by_name(columns))).collect();
    assert_eq!(entities, migrated);
}
