//! CRI values in, Docker values out, and back: pure functions.
//!
//! **Invariant**: nothing here awaits, reads a clock, touches a file or knows the engine's transport; what a function needs
//! to know of the node comes in as an argument. Incoming CRI structs are taken apart without `..`, so that a new field
//! fails the build until someone decides what it means.

pub mod account;
pub mod auth;
pub mod container;
pub mod device;
pub mod dns;
pub mod etc;
pub mod event;
pub mod filter;
pub mod image;
pub mod label;
pub mod mount;
pub mod name;
pub mod namespace;
pub mod node;
pub mod port;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod signal;
pub mod state;
pub mod stats;
pub mod sysctl;
pub mod time;
