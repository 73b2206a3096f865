//! Pods on real hosts: see `pinacle_tests::lab`.

mod bare;
mod crashes;
mod faults;
mod frozen;
mod stage;
mod thirty;
