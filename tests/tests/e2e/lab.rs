//! Pods on real hosts: see `pinacle_tests::lab`.

mod away;
mod bare;
mod cancels;
mod command;
mod crashes;
mod faults;
mod frozen;
mod hands;
mod image;
mod isolation;
mod join;
mod lifecycle;
mod limits;
mod markers;
mod rotation;
mod services;
mod stage;
mod thirty;
mod traces;
