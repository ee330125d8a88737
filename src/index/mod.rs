//! index
pub mod model;
