//! Coming from cri-dockerd, and going back to it. The pods themselves need nothing: containers, their names and labels are the
//! same to both. What differs lies beside Docker.
//!
//! **Invariant**: no container is touched, and nothing is changed while it can be in use.

pub mod checkpoint;
mod error;
pub mod release;

pub use error::Error;
