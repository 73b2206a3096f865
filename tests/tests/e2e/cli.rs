//! The command line as people and programs use it: what it prints, how it fails, and `pinacle up` from the first start
//! to the last process that is gone.

#![expect(clippy::disallowed_types, reason = "the time of another process is real time")]

mod commands;
mod fixture;
mod ground;
mod login;
mod operations;
mod owners;
mod refusals;
mod replay;
mod scripted;
mod strangers;
mod tls;
mod up;
