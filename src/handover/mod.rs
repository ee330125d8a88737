//! Coming from cri-dockerd, and going back to it. The pods themselves need nothing: containers, their names and labels are the
//! same to both. What differs lies beside Docker.
//!
//! ```text
//!   cri-dockerd ──▶ us    migrate.rs: the old unit (unit.rs, words.rs) ─▶ its flags as our configuration (config/carry.rs)
//!                         checkpoint.rs: its checkpoint of a sandbox goes with the sandbox
//!   us ──▶ cri-dockerd    release.rs: checkpoints (checkpoint.rs) and links of logs, as it has them
//! ```
//!
//! **Invariant**: no container is touched, and nothing is changed while it can be in use.

pub mod checkpoint;
mod error;
pub mod migrate;
pub mod release;
mod unit;
mod words;

pub use error::Error;
