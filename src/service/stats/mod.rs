//! Verbs about what containers use: read from their cgroups, never from the Engine.

mod cgroups;
mod container;
mod stream;

pub use cgroups::Cgroups;
pub use container::{container_stats, list_container_stats};
pub use stream::stream_container_stats;
