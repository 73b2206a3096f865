//! Samples: rows that borrow what they can, a batch that holds them as Postgres reads them, the writer that hands a
//! batch over in one transaction, and the series that people look at.
//!
//! Encoding needs no connection: a batch can be filled while the one before it is on its way.

mod batch;
mod encode;
mod row;
mod series;

mod writer;

pub use batch::MetricsBatch;
pub use encode::{Json, OutOfRange};
pub use row::{HostMetricRow, PodMetricRow};

pub use series::{HostPoint, PodPoint, Resolution, Series, SeriesQuery};
pub use writer::{MetricsWriter, Written};
