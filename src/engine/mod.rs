//! engine
pub mod feature;
pub mod model;
