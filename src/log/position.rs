//! How far a container's log has been pumped: what is kept on disk, and what two files are told apart by.
//!
//! Docker's rotation frees inodes and the file system gives them out again, so a spool generation is known by its inode *and* a
//! fingerprint of its first line, which holds a timestamp. The length of the log file says what had been written at that mark;
//! whatever is beyond it was written after the last save and is compared, not written again.
//!
//! **Invariant**: no line goes into a file before a saved position names it. So when the kubelet rotates while an earlier
//! crash is still being compared, the position names several files, in the order in which lines went into them.
//!
//! A position may be older than the files, never newer, so it needs no fsync: after the death of this process everything
//! written is still there. After a power loss the log file may be shorter than the position says, which shows, and then
//! the position counts for nothing.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// A file's identity, as long as it is held open; after that the number may be another file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A place in the spool: the lines before it have been taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The generation.
    pub(super) file: FileId,
    /// SHA-256 of its first line, shortened, hexadecimal.
    pub(super) fingerprint: String,
    /// In bytes; the start of a line.
    pub(super) offset: u64,
}

/// A log file, and how long it was when the mark had been reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    /// The file; its name may have changed since.
    pub(super) file: FileId,
    /// In bytes.
    pub(super) length: u64,
}

/// The record of one container, by its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// None: nothing has been taken yet.
    pub(super) spool: Option<Mark>,
    /// Where the lines after the mark are, as far as they have been written. The last is the one being written.
    pub(super) outputs: Vec<Written>,
}
