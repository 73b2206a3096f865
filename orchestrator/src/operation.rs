//! Operations on pods.

pub mod plan;
