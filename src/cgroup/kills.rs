//! How many processes of a container were killed for want of memory, as the kernel counts them in its cgroup.
//!
//! The count is true as soon as the process has ended, long before the Engine tells of it, and gone with the cgroup, which the
//! runtime removes some milliseconds later: whoever wants it must be there.

use std::path::PathBuf;

use super::{Cgroup, Error, MEMORY, Place, Reader};

/// Where a container's count is. It stays true as long as the cgroup is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomKills {
    file: PathBuf,
}

impl OomKills {
    /// Of the container that a host process is the first of.
    pub fn of_pid(pid: i32) -> Result<Self, Error> {
        let cgroup = Cgroup::of_pid(pid)?;
        let file = match cgroup.place(MEMORY)? {
            Place::V1(directory) => directory.join("memory.oom_control"),
            Place::V2(directory) => directory.join("memory.events"),
        };
        Ok(OomKills { file })
    }

    /// Reads it. Kernels before 4.13 have none on cgroup v1.
    pub fn count(&self) -> Result<u64, Error> {
        let [count] = Reader::default().values(&self.file, ["oom_kill"])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fixture::Tree;

    fn count(content: &str) -> Result<u64, Error> {
        let tree = Tree::new(&[("file", content)]);
        OomKills { file: tree.path().join("file") }.count()
    }

    #[test]
    fn both_versions_are_read() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n").unwrap(), 0);
        assert_eq!(count("low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\noom_group_kill 0\n").unwrap(), 1);
    }

    #[test]
    fn what_does_not_tell_is_no_verdict() {
        assert!(matches!(count("oom_kill_disable 0\nunder_oom 0\n"), Err(Error::Content { .. })));
        assert!(matches!(count("oom_kill x\n"), Err(Error::Content { .. })));
        let gone = OomKills { file: "/nowhere/memory.events".into() };
        assert!(gone.count().unwrap_err().is_gone());
    }
}
