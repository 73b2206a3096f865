//! The connection to Postgres: one bounded pool, with a deadline on every statement on both sides of the wire.

mod nodelay;

use std::{future::Future, time::Duration};

use sea_orm::{ConnectionTrait, DatabaseConnection, SqlxPostgresConnector, Statement};
use sqlx::{
    Acquire, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    StoreError, StoreErrorKind,
    error::{Fault, Query},
};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To get a connection, made anew if need be.
    pub acquire: Duration,
    /// For one statement; Postgres cancels it then.
    pub statement: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { acquire: Duration::from_secs(3), statement: Duration::from_secs(30) }
    }
}

/// What became of work within a transaction: a fault of the driver's, or one that the work found itself.
pub(crate) type Outcome<T> = Result<Result<T, StoreErrorKind>, sqlx::Error>;

/// Past the statement's own timeout, the network is at fault.
const NETWORK_GRACE: Duration = Duration::from_secs(5);

/// Every query of Pinacle's, over one pool. Clones share it.
#[derive(Debug, Clone)]
pub struct Database {
    orm: DatabaseConnection,
    timeouts: Timeouts,
}

impl Database {
    /// A pool of at most `max_connections` to the Postgres at `url`. Connections are made when they are needed, so
    /// this succeeds while Postgres is away; [`ping`](Self::ping) tells.
    ///
    /// # Errors
    /// [`StoreErrorKind::Other`] when the URL is none.
    pub fn connect(url: &str, max_connections: u32, timeouts: Timeouts) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse().map_err(|fault: sqlx::Error| {
            StoreError::with_source("read the database's url", StoreErrorKind::Other, fault)
        })?;
        let milliseconds = timeouts.statement.as_millis().to_string();
        let options = options.application_name("pinacle").options([
            ("statement_timeout", milliseconds.as_str()),
            ("idle_in_transaction_session_timeout", "60000"),
            // The server notices a client that is gone without a word, and frees its locks.
            ("tcp_keepalives_idle", "15"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
            ("timezone", "UTC"),
            // Compiling a series' statement takes longer than running it.
            ("jit", "off"),
        ]);
        let port = options.get_port();
        let is_remote = options.get_socket().is_none() && !options.get_host().starts_with('/');
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(timeouts.acquire)
            .after_connect(move |_, _| {
                if is_remote {
                    nodelay::disable_nagle(port);
                }
                Box::pin(async { Ok(()) })
            })
            .connect_lazy_with(options);
        Ok(Self { orm: SqlxPostgresConnector::from_sqlx_postgres_pool(pool), timeouts })
    }

    /// The connection, for migrations. Queries belong into this crate.
    pub fn orm(&self) -> &DatabaseConnection {
        &self.orm
    }

    /// Whether Postgres answers.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.within("ping", self.orm.execute_unprepared("SELECT 1")).await.map(drop)
    }

    /// Closes all connections, once their statements have ended.
    pub async fn close(self) {
        // A connection that does not close is cut off by the process's end.
        let _ = tokio::time::timeout(NETWORK_GRACE, self.pool().close()).await;
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.orm.get_postgres_connection_pool()
    }

    /// Waits no longer than a statement may take, the way to the server included.
    pub(crate) async fn within<T, E: Fault>(
        &self,
        query: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        let deadline = self.timeouts.acquire + self.timeouts.statement + NETWORK_GRACE;
        match tokio::time::timeout(deadline, work).await {
            Ok(result) => result.query(query),
            Err(elapsed) => Err(StoreError::with_source(query, StoreErrorKind::Unavailable, elapsed)),
        }
    }

    /// Runs `work` in a transaction on a connection of its own, which is thrown away if the deadline cuts it off in the
    /// middle of a message.
    pub(crate) async fn transact<T>(
        &self,
        query: &'static str,
        work: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut connection = self.within(query, self.pool().acquire()).await?;
        let result = self.within(query, transact_on(&mut connection, work)).await;
        if matches!(&result, Err(error) if error.kind() == &StoreErrorKind::Unavailable) {
            connection.close_on_drop();
        }
        result
    }

    /// As [`transact`](Self::transact), and also undone when the work ends with a kind of fault of its own.
    pub(crate) async fn settle<T>(
        &self,
        query: &'static str,
        work: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Outcome<T>,
    ) -> Result<T, StoreError> {
        let mut refused = None;
        let settled = self.transact(query, async |connection| match work(connection).await? {
            Ok(value) => Ok(value),
            Err(kind) => {
                refused = Some(kind);
                Err(sqlx::Error::RowNotFound)
            }
        });
        let settled = settled.await;
        match refused {
            Some(kind) => Err(StoreError::new(query, kind)),
            None => settled,
        }
    }

    pub(crate) fn statement(sql: &str, values: impl IntoIterator<Item = sea_orm::Value>) -> Statement {
        Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, values)
    }
}

async fn transact_on<T>(
    connection: &mut PoolConnection<Postgres>,
    work: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let result = work(&mut transaction).await;
    match result {
        Ok(value) => transaction.commit().await.map(|()| value),
        Err(fault) => {
            // The first fault is the one to tell; a rollback that fails leaves a connection that the pool drops.
            let _ = transaction.rollback().await;
            Err(fault)
        }
    }
}
