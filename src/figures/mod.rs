//! Figures of our own work: how long what takes, how often it fails and what has failed lately, told by `dockershim status` and to
//! Prometheus (docs/prometheus.md). Each room notes its own where the work passes anyway; who asks reads them all.
//!
//! **Invariants**: to note a figure costs nanoseconds, and no memory once its name is known; names are few: an RPC's, an engine
//! call's without ids, a plugin's. The pods' own metrics are another thing (`metrics/`).

mod exposition;
mod failures;
pub mod family;
mod histogram;
mod sessions;
mod timings;

pub use exposition::{Exposition, Form};
pub use failures::{Failure, Failures};
pub use histogram::{Histogram, Reading};
pub use sessions::{Session, Sessions};
pub use timings::{Timed, Timings};
