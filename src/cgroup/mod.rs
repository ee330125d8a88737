//! A container's cgroup: finds it, reads from its files what it uses, and writes what Docker's API can't say.
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

pub mod disk;
pub mod figures;
#[cfg(test)]
mod fixture;
mod kills;
pub mod oom;
pub mod parse;
#[cfg(test)]
mod recorded;
mod same;
mod usage;
mod v1;
mod v2;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::io::Errno;

pub use kills::OomKills;
pub(crate) use parse::unescape;
use parse::{Membership, Mount};
pub use usage::{CpuTimes, Detail, DeviceIo, HugePages, Memory, Pressure, Pressures, Stall, Swap, Throttling, Usage};

/// A limit of so many bytes is none: v1 has no `max`, but the largest multiple of a page.
const UNLIMITED: u64 = 1 << 62;

/// Most files are read at once into a buffer of this size; none is longer than that other one.
const BUFFER: usize = 8 << 10;
const LONGEST: u64 = 16 << 20;

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

    /// The cgroup around a container's own, which has all of a pod's when the pod was given one; None when this isn't a container's.
    pub fn parent(&self) -> Option<Cgroup> {
        let of = |directory: &PathBuf| {
            let name = directory.file_name()?.to_str()?;
            parse::names_container(name).then(|| directory.parent().map(Path::to_owned))?
        };
        let legacy: Option<BTreeMap<_, _>> =
            self.legacy.iter().map(|(name, directory)| Some((name.clone(), of(directory)?))).collect();
        let unified = match &self.unified {
            Some(directory) => Some(of(directory)?),
            None => None,
        };
        Some(Cgroup { legacy: legacy?, unified })
    }

    /// Reads what it uses: some five small files on v1, nine on v2.
    pub fn usage(&self) -> Result<Usage, Error> {
        let mut reader = Reader::default();
        let cpu_usage_ns = match self.place(CPU)? {
            Place::V1(directory) => v1::cpu_usage_ns(&mut reader, directory)?,
            Place::V2(directory) => v2::cpu_usage_ns(&mut reader, directory)?,
        };
        let (memory, swap) = match self.place(MEMORY)? {
            Place::V1(directory) => v1::memory(&mut reader, directory)?,
            Place::V2(directory) => v2::memory(&mut reader, directory)?,
        };
        let pressure = match &self.unified {
            Some(directory) => v2::pressures(&mut reader, directory)?,
            None => Pressures::default(),
        };
        Ok(Usage { cpu_usage_ns, memory, swap, pressure })
    }

    /// Reads what else is told of it: some fifteen small files. Only what has vanished is an error.
    pub fn detail(&self) -> Result<Detail, Error> {
        let mut reader = Reader::default();
        let mut detail = Detail::default();
        for (controller, of_v1, of_v2) in DETAILS {
            match self.place(controller) {
                Ok(Place::V1(directory)) => of_v1(&mut reader, directory, &mut detail)?,
                Ok(Place::V2(directory)) => of_v2(&mut reader, directory, &mut detail)?,
                Err(_unmounted) => {}
            }
        }
        Ok(detail)
    }

    /// The host pids of all its processes, those of cgroups below it too.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        let (Place::V1(top) | Place::V2(top)) = self.place(MEMORY)?;
        let mut reader = Reader::default();
        let mut pids = Vec::new();
        let mut directories = vec![top.to_owned()];
        while let Some(directory) = directories.pop() {
            match reader.text(&directory.join("cgroup.procs")) {
                Ok(text) => pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok())),
                // one below may have gone, or be of threads alone; those are counted where their process is
                Err(_) if directory != top => {}
                Err(error) => return Err(error),
            }
            let below = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            directories.extend(below.map(|entry| entry.path()));
        }
        Ok(pids)
    }

    /// Where a controller's files are.
    fn place(&self, controller: &str) -> Result<Place<'_>, Error> {
        let v1 = self.legacy.get(controller).map(|directory| Place::V1(directory));
        let place = v1.or_else(|| self.unified.as_deref().map(Place::V2));
        place.ok_or_else(|| Error::Unmounted { controller: controller.to_owned() })
    }
}

/// How the files of one controller are read into a [`Detail`].
type ReadDetail = fn(&mut Reader, &Path, &mut Detail) -> Result<(), Error>;

/// v1's name of each controller whose files tell more, and how they are read in either version.
const DETAILS: [(&str, ReadDetail, ReadDetail); 6] = [
    (CPU, v1::cpu_times, v2::cpu_times),
    ("cpu", v1::throttling, v2::throttling),
    (MEMORY, v1::memory_detail, v2::memory_detail),
    ("blkio", v1::devices, v2::devices),
    ("hugetlb", v1::huge_pages, v2::huge_pages),
    ("pids", threads, threads),
];

/// Threads are told alike by both versions.
fn threads(reader: &mut Reader, pids: &Path, detail: &mut Detail) -> Result<(), Error> {
    detail.threads = known(reader.number(&pids.join("pids.current")))?;
    detail.threads_max = known(reader.number(&pids.join("pids.max")))?.map(|max| if max < UNLIMITED { max } else { 0 });
    Ok(())
}

/// None for what the kernel doesn't tell, whatever the reason; an error only if the cgroup has vanished.
fn known<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_gone() => Err(error),
        Err(_) => Ok(None),
    }
}

/// The sizes of huge pages that the machine has, as the kernel names their files (`2MB`).
fn huge_page_sizes() -> &'static [String] {
    static SIZES: OnceLock<Vec<String>> = OnceLock::new();
    SIZES.get_or_init(|| {
        let all = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
        let mut sizes: Vec<u64> = all.filter_map(|entry| parse::huge_page_kib(entry.file_name().to_str()?)).collect();
        sizes.sort_unstable();
        sizes.into_iter().map(parse::huge_page_name).collect()
    })
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
struct Reader {
    buffer: String,
}

impl Default for Reader {
    fn default() -> Self {
        Reader { buffer: String::with_capacity(BUFFER) }
    }
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

    /// One more value of the file that was read last.
    fn value_again(&self, key: &str) -> Option<u64> {
        parse::value(&self.buffer, key)
    }

    fn text(&mut self, path: &Path) -> Result<&str, Error> {
        self.buffer.clear();
        // so that the kernel isn't asked for a size first, which none of these files has
        let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut self.buffer));
        read.map_err(|source| Error::reading(path, source))?;
        Ok(&self.buffer)
    }
}

#[cfg(test)]
mod tests;
