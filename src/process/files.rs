//! The open files of a process: how many, how many of them are sockets, and how many are allowed.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Error, read};

/// What a process holds open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// Everything, sockets too.
    pub descriptors: u64,
    /// Sockets.
    pub sockets: u64,
}

/// Counts the open files of a process; each is looked at, for what it is.
pub fn open_files(pid: i32) -> Result<OpenFiles, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/fd"));
    let entries = std::fs::read_dir(&path).map_err(|source| Error { path, source })?;
    let mut open = OpenFiles::default();
    for entry in entries.flatten() {
        open.descriptors += 1;
        let is_socket =
            std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str().as_bytes().starts_with(b"socket:"));
        open.sockets += u64::from(is_socket);
    }
    Ok(open)
}

/// How many files the process may open (the soft limit); None when any number.
pub fn open_files_limit(pid: i32) -> Result<Option<u64>, Error> {
    Ok(soft_limit(&read(pid, "limits")?))
}

/// The same from the text of `/proc/<pid>/limits`, whose columns have names with spaces in them.
pub(crate) fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_of_its_line() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max processes             1                    2                    processes \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(text), Some(1024));
        for text in ["", "Max open files", "Max open files  unlimited  unlimited  files"] {
            assert_eq!(soft_limit(text), None);
        }
    }
}
