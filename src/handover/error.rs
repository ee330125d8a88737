//! What can go wrong on the way from cri-dockerd, and back.

use std::io;
use std::path::PathBuf;

use crate::{config, engine, record, server};

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
    /// There is no such unit.
    #[error(
        "systemd has no unit {unit}; give cri-dockerd's unit with --from, or its arguments after --, as in \
         `dockershim migrate -- --network-plugin=cni`"
    )]
    NoUnit {
        /// Its name.
        unit: String,
    },
    /// A file can't be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A unit's command can't be known.
    #[error("{} {reason}; give cri-dockerd's arguments themselves: dockershim migrate -- ARGS", path.display())]
    Unit {
        /// The unit.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A unit runs something else.
    #[error(
        "{place} runs {program:?}, not cri-dockerd; give cri-dockerd's arguments themselves: dockershim migrate -- ARGS"
    )]
    OtherProgram {
        /// The unit and its drop-ins.
        place: String,
        /// What it runs.
        program: String,
    },
    /// The flags can't be ours.
    #[error("cri-dockerd's flags in {place} can't be taken over: {source}")]
    Flags {
        /// The unit and its drop-ins.
        place: String,
        /// Which, and why.
        source: config::Error,
    },
    /// There is a configuration.
    #[error("{} is there already; --force replaces it, --output writes elsewhere", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The configuration can't be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}
