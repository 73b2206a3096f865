//! The store on a real Postgres: schema, samples, rollups, series, days, projections, faults.

mod errors;
mod fixture;
mod model;
mod partitions;
mod projections;
mod rollups;
mod schema;
mod scopes;
mod series;
mod writer;
