//! What can go wrong on the way from cri-dockerd, and back.

use std::io;

use crate::{engine, record, server};

/// Why nothing, or no more, changes hands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pods are served.
    #[error(
        "dockershim (process {holder}) serves this node; stop it first: systemctl stop dockershim.socket dockershim.service"
    )]
    Running {
        /// Its process id.
        holder: String,
    },
    /// The state directory can't be used.
    #[error("{source}")]
    State {
        /// Why.
        source: server::Error,
    },
    /// The engine doesn't tell what there is.
    #[error("look at the node's pods: {source}")]
    Engine {
        /// The engine's words.
        source: engine::Error,
    },
    /// Our records or the checkpoints can't be reached.
    #[error("{source}")]
    Records {
        /// Which, and why.
        source: record::Error,
    },
    /// What is done can't be told.
    #[error("tell what is done: {source}")]
    Tell {
        /// The system's words.
        source: io::Error,
    },
}
