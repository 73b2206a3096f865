#![doc = include_str!("../README.md")]

pub mod client;
pub mod contract;
pub mod crypto;
pub mod service;
pub mod settings;
pub mod trust;
