//! Ingest as a real process between a real bus and a real Postgres: what was published is in the tables, exactly,
//! whatever is killed on the way.

mod crashes;
mod fuzz;
mod model;
mod projections;
mod refusals;
mod samples;
pub mod stage;
