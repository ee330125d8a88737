#![doc = include_str!("../ARCHITECTURE.md")]

pub mod cgroup;
pub mod check;
pub mod cni;
pub mod config;
pub mod cri;
pub mod engine;
pub mod error;
pub mod id;
pub mod index;
pub mod log;
pub mod pause;
pub mod record;
pub mod server;
pub mod service;
pub mod stream;
pub mod translate;
