//! Operations on pods: taken up from the live records, driven step by step under a lease, and brought to an end whatever
//! happens to the copy that drives them.
//!
//! - A record with a request in its queue, or with an operation, is work. [`dispatch`] takes the pod's lease and raises
//!   its fencing number; [`drive`] does the steps.
//! - What a step did is written into the record by compare-and-set before the next one begins, and told by an event. Who
//!   takes over runs the step at hand again: every step may be had twice.
//! - A copy that lost its lease finds a higher fencing number in the record and on the host, and can change neither.

pub mod context;
pub mod crash;
pub mod dispatch;
pub mod drive;
pub mod plan;
