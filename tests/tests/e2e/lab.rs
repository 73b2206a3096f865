//! Pods on real hosts: see `pinacle_tests::lab`.

mod bare;
mod command;
mod crashes;
mod faults;
mod frozen;
mod image;
mod isolation;
mod lifecycle;
mod limits;
mod stage;
mod thirty;
