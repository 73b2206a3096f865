//! One error for every query: which query, and the kind of fault, so that callers decide by [`StoreErrorKind`] and
//! never by text.

use std::{error::Error, fmt};

use sea_orm::{DbErr, RuntimeErr, TransactionError};

/// A query that did not end well. `Display` tells what and why in short; the driver's own words are its source.
#[derive(Debug, thiserror::Error)]
#[error("{query}: {kind}")]
pub struct StoreError {
    query: &'static str,
    kind: StoreErrorKind,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of fault it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// What was asked for does not exist, or not for this scope.
    NotFound,
    /// A unique or foreign key, by its name, refuses the row.
    Conflict {
        /// The constraint's name.
        constraint: String,
    },
    /// Postgres cannot be reached, is starting, stopping, full or too busy, or cut this transaction off. The same call
    /// may succeed later.
    Unavailable,
    /// The row itself is unacceptable: a value out of range, a NUL, a check. Trying again cannot help.
    Data,
    /// No partition takes a row of this time. Helps: [`partitions_ensure`](crate::Database::partitions_ensure).
    NoPartition,
    /// The cursor is not one that this list gave out.
    BadCursor,
    /// The database lacks a table or column, or refuses by its rights: not migrated, or set up wrongly.
    Schema,
    /// Anything else: a fault in this program.
    Other,
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::Conflict { constraint } => write!(f, "conflicts with {constraint}"),
            Self::Unavailable => f.write_str("the database is unavailable"),
            Self::Data => f.write_str("the row cannot be stored"),
            Self::NoPartition => f.write_str("no partition for a row of this time"),
            Self::BadCursor => f.write_str("not a cursor of this list"),
            Self::Schema => f.write_str("the database is not as this release needs it, run the migrations"),
            Self::Other => f.write_str("the query failed"),
        }
    }
}

impl StoreError {
    /// An error that no driver reported.
    pub(crate) fn new(query: &'static str, kind: StoreErrorKind) -> Self {
        Self { query, kind, source: None }
    }

    pub(crate) fn with_source(
        query: &'static str,
        kind: StoreErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { query, kind, source: Some(source.into()) }
    }

    /// The kind of fault.
    pub fn kind(&self) -> &StoreErrorKind {
        &self.kind
    }

    /// Postgres's own code for the fault, if it reported one.
    pub(crate) fn state(&self) -> Option<String> {
        match self.source.as_ref()?.downcast_ref::<sqlx::Error>()? {
            sqlx::Error::Database(fault) => fault.code().map(Into::into),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody doing anything about the data.
    pub fn is_retryable(&self) -> bool {
        self.kind == StoreErrorKind::Unavailable
    }
}

/// Names the query in an error of the drivers.
pub(crate) trait Query<T> {
    fn query(self, query: &'static str) -> Result<T, StoreError>;
}

impl<T, E: Fault> Query<T> for Result<T, E> {
    fn query(self, query: &'static str) -> Result<T, StoreError> {
        self.map_err(|fault| StoreError { query, kind: fault.kind(), source: Some(Box::new(fault)) })
    }
}

/// An error of a driver.
pub(crate) trait Fault: Error + Send + Sync + 'static {
    fn kind(&self) -> StoreErrorKind;
}

impl Fault for sqlx::Error {
    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Database(fault) => {
                let state = fault.code().unwrap_or_default();
                kind_of_state(&state, fault.constraint(), fault.message())
            }
            Self::RowNotFound => StoreErrorKind::NotFound,
            Self::Io(_) | Self::Tls(_) | Self::Protocol(_) => StoreErrorKind::Unavailable,
            Self::PoolTimedOut | Self::PoolClosed | Self::WorkerCrashed => StoreErrorKind::Unavailable,
            Self::Encode(_) => StoreErrorKind::Data,
            Self::ColumnNotFound(_) | Self::TypeNotFound { .. } => StoreErrorKind::Schema,
            _ => StoreErrorKind::Other,
        }
    }
}

impl Fault for DbErr {
    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Conn(RuntimeErr::SqlxError(fault))
            | Self::Exec(RuntimeErr::SqlxError(fault))
            | Self::Query(RuntimeErr::SqlxError(fault)) => fault.kind(),
            Self::ConnectionAcquire(_) | Self::Conn(_) => StoreErrorKind::Unavailable,
            Self::RecordNotFound(_) => StoreErrorKind::NotFound,
            _ => StoreErrorKind::Other,
        }
    }
}

impl<E: Fault> Fault for TransactionError<E> {
    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Connection(fault) => fault.kind(),
            Self::Transaction(fault) => fault.kind(),
        }
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn kind_of_state(state: &str, constraint: Option<&str>, message: &str) -> StoreErrorKind {
    match state {
        "23505" | "23503" | "23P01" => {
            StoreErrorKind::Conflict { constraint: constraint.unwrap_or_default().to_owned() }
        }
        // Postgres has no state of its own for a row that no partition takes; only that one comes without a constraint.
        "23514" if constraint.is_none() && message.contains("partition") => StoreErrorKind::NoPartition,
        // Read-only: a failover is under way, or the disk is guarded.
        "25006" | "57P05" => StoreErrorKind::Unavailable,
        _ => match state.get(..2).unwrap_or_default() {
            // Connection; transaction rolled back (deadlock, serialisation); resources (disk, memory, connections);
            // lock not available; operator (cancelled, shutdown, starting up); system (I/O).
            "08" | "40" | "53" | "55" | "57" | "58" => StoreErrorKind::Unavailable,
            // Data exceptions; integrity (check, not null); too large a row or array.
            "22" | "23" | "54" => StoreErrorKind::Data,
            // Login; database does not exist; undefined tables and columns, rights.
            "28" | "3D" | "3F" | "42" => StoreErrorKind::Schema,
            _ => StoreErrorKind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_fall_into_the_kinds_that_callers_act_on() {
        let conflict = StoreErrorKind::Conflict { constraint: "pk".into() };
        for (state, constraint, kind) in [
            ("23505", Some("pk"), conflict),
            ("23514", None, StoreErrorKind::NoPartition),
            ("23514", Some("some_check"), StoreErrorKind::Data),
            ("57P01", None, StoreErrorKind::Unavailable),
            ("57P03", None, StoreErrorKind::Unavailable),
            ("53100", None, StoreErrorKind::Unavailable),
            ("53300", None, StoreErrorKind::Unavailable),
            ("40P01", None, StoreErrorKind::Unavailable),
            ("55P03", None, StoreErrorKind::Unavailable),
            ("22003", None, StoreErrorKind::Data),
            ("22021", None, StoreErrorKind::Data),
            ("42P01", None, StoreErrorKind::Schema),
            ("XX000", None, StoreErrorKind::Other),
        ] {
            let message = "no partition of relation \"x\" found for row";
            assert_eq!(kind_of_state(state, constraint, message), kind, "{state}");
        }
    }

    #[test]
    fn display_does_not_repeat_its_source() {
        let error = Err::<(), _>(sqlx::Error::PoolClosed).query("list hosts").unwrap_err();
        assert_eq!(error.to_string(), "list hosts: the database is unavailable");
        assert!(error.is_retryable());
        assert!(Error::source(&error).is_some());
    }
}
