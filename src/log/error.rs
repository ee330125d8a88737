//! What can go wrong with a log.

use std::io;
use std::path::PathBuf;

use crate::id::ContainerId;

/// Why a log can't be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request's `log_directory` can't be used.
    #[error("log directory {value:?} {reason}")]
    Directory {
        /// As it was given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The request's `log_path` can't be used.
    #[error("log path {value:?} {reason}")]
    Path {
        /// As it was given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The log file can't be opened or made.
    #[error("can't open the log {}: {source}", path.display())]
    Open {
        /// The log file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A directory, a fifo or a device is in the log file's place.
    #[error("the log {} is not a regular file", path.display())]
    NotAFile {
        /// The log file.
        path: PathBuf,
    },
    /// The log file can't be written, or what is in it can't be compared.
    #[error("can't write the log {}: {source}", path.display())]
    Write {
        /// The log file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Docker's file can't be read.
    #[error("can't read docker's log {}: {source}", path.display())]
    Spool {
        /// Docker's json-file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Nobody follows the container's log: it doesn't run.
    #[error("the log of container {0} is not being written: the container is not running")]
    NotFollowed(ContainerId),
    /// The log is a link to Docker's file.
    #[error(
        "the log of container {0} is a link to docker's own file (--log-format docker): docker rotates it, and it can't be reopened"
    )]
    Linked(ContainerId),
}
