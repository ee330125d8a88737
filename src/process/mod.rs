//! What `/proc` tells of a container through its first process: the network that it sees, its open files, its root, the mounts that it
//! is made of; of what a process has started; of all that run on this node; and of our own.
//!
//! **Invariants**: nobody's namespace is entered, nothing is asked of the Engine; a process that has ended is told apart from
//! what can't be read, but where they are only counted.

mod descendants;
mod files;
mod mounts;
mod network;
mod own;
mod root;
mod running;

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

pub(crate) use descendants::descendants;
pub(crate) use files::soft_limit;
pub use files::{OpenFiles, open_files, open_files_limit};
pub use mounts::{Place, mounts_of_parent, place_of};
pub use network::{Interface, interfaces, interfaces_of};
pub use own::{Own, own};
pub use root::{upper_directory, upper_of};
pub(crate) use running::{Running, named, running};

/// A file of `/proc` can't be read.
#[derive(Debug, thiserror::Error)]
#[error("read {path}: {source}")]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Error {
    /// Whether the process has ended meanwhile.
    pub fn is_gone(&self) -> bool {
        has_ended(&self.source)
    }
}

/// Whether a file of a process can't be read or written because that has ended, before it was opened or after.
pub fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// A file below `/proc/<pid>`; what another has written into it may be no UTF-8.
fn read(pid: i32, name: &str) -> Result<String, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    match std::fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(Error { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_process_is_gone() {
        assert!(interfaces(i32::MAX).unwrap_err().is_gone());
        assert!(open_files(i32::MAX).unwrap_err().is_gone());
        assert!(upper_directory(i32::MAX).unwrap_err().is_gone());
        assert!(open_files_limit(i32::MAX).unwrap_err().is_gone());
    }

    #[test]
    fn of_our_own_process_all_is_told() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = open_files(pid).unwrap();
        assert!(open.sockets >= 1 && open.descriptors > open.sockets, "{open:?}");
        drop(listener);
        assert!(open_files_limit(pid).unwrap().is_some_and(|limit| limit > 0));
        interfaces(pid).unwrap();
        upper_directory(pid).unwrap();
    }
}
