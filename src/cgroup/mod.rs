//! A container's cgroup: finds it, reads cpu and memory from its files, and writes what Docker's API can't say.
//!
//! ```text
//!   /proc/<pid>/cgroup ─┐                     ┌─ v1: one directory per controller ─┐
//!                       ├─▶ Cgroup::of_pid ──▶│                                    ├─▶ usage (v1.rs, v2.rs), write (write.rs)
//!   our own mountinfo ──┘                     └─ v2: one directory ────────────────┘
//! ```
//!
//! Which of the two holds is decided for each controller: on a hybrid node some are here and some there.
//! Reads and writes block, but only for as long as the kernel needs: none of these files is on a disk.
//! **Invariants**: it never asks the Engine; a cgroup that has vanished is told apart from one that can't be read.

#[cfg(test)]
mod fixture;
pub mod oom;
mod parse;
mod v1;
mod v2;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::io::Errno;

use parse::{Membership, Mount};

/// A limit of so many bytes is none: v1 has no `max`, but the largest multiple of a page.
const UNLIMITED: u64 = 1 << 62;

/// What v1 calls the controllers that usage is read from: every container has a cgroup of its own for them.
const READ: [&str; 2] = [CPU, MEMORY];
const CPU: &str = "cpuacct";
const MEMORY: &str = "memory";

/// What failed about a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup, or the process that led to it, has ended.
    #[error("{path} is gone")]
    Gone {
        /// What was looked for last.
        path: PathBuf,
    },
    /// The cgroup is there, but hasn't this file: its controller is off, or the kernel too old.
    #[error("the kernel has no {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file can't be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A file doesn't say what it should.
    #[error("{path} tells no {wanted}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for in it.
        wanted: &'static str,
    },
    /// The kernel refuses a value.
    #[error("write {value:?} to {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// No hierarchy that we can see has the controller.
    #[error("cgroup controller {controller} is not mounted here")]
    Unmounted {
        /// Such as `memory`.
        controller: String,
    },
    /// A wish that isn't the name of a file in a cgroup.
    #[error("{name:?} is not the name of a cgroup file")]
    Name {
        /// As it was asked for.
        name: String,
    },
    /// A wish for cgroup v2, but the controller is on v1.
    #[error("{name} needs cgroup v2, and this node has the controller on v1")]
    OnlyV2 {
        /// As it was asked for.
        name: String,
    },
}

impl Error {
    /// Whether the container has ended meanwhile.
    pub fn is_gone(&self) -> bool {
        matches!(self, Error::Gone { .. })
    }

    /// Tells a failed read of a file.
    fn reading(path: &Path, source: io::Error) -> Self {
        Error::vanished(path, &source).unwrap_or_else(|| Error::Read { path: path.to_owned(), source })
    }

    /// Whether a failure means that the file or its whole directory isn't there. A directory that is removed while
    /// one of its files is open says ENODEV, `/proc/<pid>` of an ended process ESRCH.
    fn vanished(path: &Path, failure: &io::Error) -> Option<Self> {
        let ended = [Errno::NODEV, Errno::SRCH].map(Errno::raw_os_error);
        let path = path.to_owned();
        match failure.raw_os_error() {
            Some(code) if ended.contains(&code) => Some(Error::Gone { path }),
            _ if failure.kind() != io::ErrorKind::NotFound => None,
            _ if path.parent().is_some_and(Path::exists) => Some(Error::Missing { path }),
            _ => Some(Error::Gone { path }),
        }
    }
}

/// What a cgroup and everything below it use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since the cgroup was made, nanoseconds of one core.
    pub cpu_usage_ns: u64,
    /// Memory now.
    pub memory: Memory,
}

/// Memory of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Everything charged, page cache too.
    pub usage_bytes: u64,
    /// Usage without the page cache that the kernel would drop first (inactive file pages): what eviction looks at.
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Since the cgroup was made.
    pub page_faults: u64,
    /// Those of them that had to wait for a disk.
    pub major_page_faults: u64,
    /// The limit less the working set; None without a limit.
    pub available_bytes: Option<u64>,
}

/// What both versions of the memory controller count.
struct Counters {
    usage_bytes: u64,
    limit_bytes: u64,
    inactive_file_bytes: u64,
    rss_bytes: u64,
    page_faults: u64,
    major_page_faults: u64,
}

impl From<Counters> for Memory {
    fn from(counted: Counters) -> Self {
        let working_set_bytes = counted.usage_bytes.saturating_sub(counted.inactive_file_bytes);
        let limit_bytes = Some(counted.limit_bytes).filter(|limit| *limit < UNLIMITED);
        Memory {
            usage_bytes: counted.usage_bytes,
            working_set_bytes,
            rss_bytes: counted.rss_bytes,
            page_faults: counted.page_faults,
            major_page_faults: counted.major_page_faults,
            available_bytes: limit_bytes.map(|limit| limit.saturating_sub(working_set_bytes)),
        }
    }
}

/// Where a container's cgroup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Directory of each controller that is on a v1 hierarchy.
    legacy: BTreeMap<String, PathBuf>,
    /// Directory on the v2 hierarchy, which has all other controllers.
    unified: Option<PathBuf>,
}

impl Cgroup {
    /// Finds the cgroup of the container that a host process is the first of. It stays true as long as the container runs.
    pub fn of_pid(pid: i32) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = read_lossy(&path)?;
        Cgroup::of_memberships(&text, hierarchies()?).ok_or(Error::Gone { path })
    }

    /// None when the process is about to end. It then still has its place on v2, but the kernel shows it in the root of each
    /// v1 hierarchy, where no container is, and whose figures are the whole node's.
    fn of_memberships(text: &str, mounts: &[Mount]) -> Option<Self> {
        let lines: Vec<Membership<'_>> = parse::memberships(text).collect();
        let is_read = |line: &&Membership<'_>| line.legacy_controllers().any(|name| READ.contains(&name));
        let mut on_v1 = lines.iter().filter(is_read).peekable();
        let is_v1 = on_v1.peek().is_some();
        if lines.iter().any(Membership::is_deleted) || (is_v1 && on_v1.all(|line| line.path == "/")) {
            return None;
        }
        // on v1 not every runtime gives its containers a place on v2 as well: they are then in that of the Engine
        let mut unified = lines.iter().filter(|line| line.is_unified() && (!is_v1 || line.is_of_container()));
        let unified = unified.find_map(|line| directory(mounts, Mount::is_unified, line.container_path()));
        let mut legacy = BTreeMap::new();
        for line in &lines {
            for name in line.legacy_controllers() {
                let found = directory(mounts, |mount| mount.has_legacy(name), line.container_path());
                legacy.extend(found.map(|found| (name.to_owned(), found)));
            }
        }
        Some(Cgroup { legacy, unified })
    }

    /// Reads what it uses: four small files.
    pub fn usage(&self) -> Result<Usage, Error> {
        let mut reader = Reader::default();
        let cpu_usage_ns = match self.place(CPU)? {
            Place::V1(directory) => v1::cpu_usage_ns(&mut reader, directory)?,
            Place::V2(directory) => v2::cpu_usage_ns(&mut reader, directory)?,
        };
        let memory = match self.place(MEMORY)? {
            Place::V1(directory) => v1::memory(&mut reader, directory)?,
            Place::V2(directory) => v2::memory(&mut reader, directory)?,
        };
        Ok(Usage { cpu_usage_ns, memory })
    }

    /// Where a controller's files are.
    fn place(&self, controller: &str) -> Result<Place<'_>, Error> {
        let v1 = self.legacy.get(controller).map(|directory| Place::V1(directory));
        let place = v1.or_else(|| self.unified.as_deref().map(Place::V2));
        place.ok_or_else(|| Error::Unmounted { controller: controller.to_owned() })
    }
}

/// The directory that has a controller's files, and how they are named there.
enum Place<'a> {
    V1(&'a Path),
    V2(&'a Path),
}

/// The directory of a cgroup below the first fitting mount that reaches it.
fn directory(mounts: &[Mount], fits: impl Fn(&Mount) -> bool, path: &str) -> Option<PathBuf> {
    mounts.iter().filter(|mount| fits(mount)).find_map(|mount| mount.directory(path))
}

/// The hierarchies that we see. Read once: they are mounted at boot, and a node's mountinfo is long when it has many pods.
fn hierarchies() -> Result<&'static [Mount], Error> {
    static MOUNTS: OnceLock<Vec<Mount>> = OnceLock::new();
    if let Some(known) = MOUNTS.get() {
        return Ok(known);
    }
    let mounts = parse::mounts(&read_lossy(Path::new("/proc/self/mountinfo"))?);
    Ok(MOUNTS.get_or_init(|| mounts))
}

/// A file of /proc; the odd path of another mount in it may be no UTF-8.
fn read_lossy(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::reading(path, source))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads small files, one buffer for all of them.
#[derive(Default)]
struct Reader {
    buffer: String,
}

impl Reader {
    /// The number that a file holds alone.
    fn number(&mut self, path: &Path) -> Result<u64, Error> {
        parse::number(self.text(path)?).ok_or_else(|| Error::Content { path: path.to_owned(), wanted: "number" })
    }

    /// Values of a file of `key value` lines.
    fn values<const N: usize>(&mut self, path: &Path, keys: [&'static str; N]) -> Result<[u64; N], Error> {
        let text = self.text(path)?;
        let mut values = [0; N];
        for (value, wanted) in values.iter_mut().zip(keys) {
            *value = parse::value(text, wanted).ok_or_else(|| Error::Content { path: path.to_owned(), wanted })?;
        }
        Ok(values)
    }

    fn text(&mut self, path: &Path) -> Result<&str, Error> {
        self.buffer.clear();
        let read = File::open(path).and_then(|mut file| file.read_to_string(&mut self.buffer));
        read.map_err(|source| Error::reading(path, source))?;
        Ok(&self.buffer)
    }
}

#[cfg(test)]
mod tests;
