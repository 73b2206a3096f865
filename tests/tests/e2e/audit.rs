//! The audit log: from what somebody does to the chain in the database, whatever fails on the way.

mod chain;
