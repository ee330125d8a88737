//! dockershim
pub mod cri;
pub mod error;
pub mod id;
pub mod engine;
pub mod index;
pub mod translate;
