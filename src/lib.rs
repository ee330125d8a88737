#![doc = include_str!("../ARCHITECTURE.md")]

pub mod cgroup;
pub mod check;
pub mod cni;
pub mod config;
pub mod cri;
pub mod engine;
pub mod error;
pub mod etc;
pub mod figures;
pub mod handover;
pub mod id;
pub mod index;
pub mod journal;
mod locks;
pub mod log;
pub mod metrics;
pub mod pause;
pub mod process;
pub mod record;
pub mod server;
pub mod service;
pub mod status;
pub mod stream;
pub mod translate;
