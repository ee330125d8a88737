//! Where a container's CRI log is, and the opening of it. Directories beneath the log directory may be writable by pods, so the
//! path is walked one name at a time and no link is followed; the log directory itself is the kubelet's word.
//!
//! (One name at a time does what openat2's RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS do for a path without `..`, makes missing
//! directories on its way, and works on kernels before 5.6.)

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, fsync, mkdirat, openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::error::Error;
use super::position::FileId;

/// Mode of a log file.
const FILE_MODE: u32 = 0o640;
/// Mode of a directory made on the way to one.
const DIRECTORY_MODE: u32 = 0o755;
/// Read as well as written, because what a crash has left is read again. NONBLOCK: should it be a fifo, don't wait for anyone.
const FILE_FLAGS: OFlags = OFlags::RDWR
    .union(OFlags::APPEND)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A log file's place: a directory, and a path beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPath {
    directory: PathBuf,
    /// Names only.
    beneath: PathBuf,
}

impl LogPath {
    /// From a request's `log_directory` (absolute) and `log_path` (relative to it); neither has `..` or NUL in it.
    pub fn new(directory: &str, log_path: &str) -> Result<LogPath, Error> {
        let bad_directory = |reason| Error::Directory { value: directory.to_owned(), reason };
        let bad_path = |reason| Error::Path { value: log_path.to_owned(), reason };
        if !directory.starts_with('/') {
            return Err(bad_directory("is not absolute"));
        }
        if log_path.starts_with('/') {
            return Err(bad_path("is not relative"));
        }
        if log_path.ends_with('/') || log_path.ends_with("/.") {
            return Err(bad_path("names a directory"));
        }
        let directory = clean(directory).map_err(bad_directory)?;
        let beneath = clean(log_path).map_err(bad_path)?;
        if beneath.as_os_str().is_empty() {
            return Err(bad_path("names no file"));
        }
        Ok(LogPath { directory: Path::new("/").join(directory), beneath })
    }

    /// From the joined path, as the container's label keeps it: its last two names count as beneath the directory.
    pub fn from_joined(path: &str) -> Result<LogPath, Error> {
        let mut slashes = path.rmatch_indices('/').map(|(at, _)| at);
        match slashes.nth(1).or_else(|| path.find('/')) {
            Some(at) => Self::new(&path[..=at], &path[at + 1..]),
            None => Err(Error::Directory { value: path.to_owned(), reason: "is not absolute" }),
        }
    }

    /// The whole path.
    pub fn as_joined(&self) -> PathBuf {
        self.directory.join(&self.beneath)
    }

    /// Opens the file for appending and reading, made (0640, less the umask) when it isn't there, with the directories between it
    /// and the log directory. A link in its place, as another adapter leaves one, is replaced by a file.
    pub(super) fn open(&self) -> Result<File, Error> {
        let opened = self.parent().and_then(|parent| self.open_in(&parent));
        let file = opened.map_err(|errno| self.failed(errno))?;
        match fstat(&file) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(File::from(file)),
            Ok(_) => Err(Error::NotAFile { path: self.as_joined() }),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Puts a link to Docker's file into the log's place; a link or file that is there is replaced.
    pub(super) fn link(&self, target: &Path) -> Result<(), Error> {
        let link = || {
            let (parent, name) = (self.parent()?, self.name());
            let is_there = readlinkat(&parent, name, Vec::new());
            if is_there.is_ok_and(|there| there.as_bytes() == target.as_os_str().as_bytes()) {
                return Ok(true);
            }
            let removed = remove_in(&parent, name)?;
            if removed {
                symlinkat(target, &parent, name)?;
            }
            Ok(removed)
        };
        self.unless_foreign(link())
    }

    /// Removes the log, be it a file or a link; one that isn't there is removed already.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let remove = || remove_in(&self.walk(open_directory)?, self.name());
        match remove() {
            Err(Errno::NOENT) => Ok(()),
            removed => self.unless_foreign(removed),
        }
    }

    /// An error when it could not be done, or was not because something else is in the log's place.
    fn unless_foreign(&self, done: Result<bool, Errno>) -> Result<(), Error> {
        match done {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotAFile { path: self.as_joined() }),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Makes sure that the log can be put into its place: the directories between it and the log directory are made.
    pub(super) fn make_parent(&self) -> Result<(), Error> {
        self.parent().map(drop).map_err(|errno| self.failed(errno))
    }

    /// Finds a file beside the log by its identity: the kubelet's rotation renames within the directory.
    pub(super) fn find_beside(&self, wanted: FileId) -> Result<Option<File>, Error> {
        let find = || -> Result<Option<OwnedFd>, Errno> {
            let parent = self.parent()?;
            for entry in Dir::read_from(&parent)? {
                let entry = entry?;
                if entry.ino() != wanted.inode
                    || !matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown)
                {
                    continue;
                }
                // renamed or removed meanwhile: that is not the kubelet's rotation, which waits for our answer
                let Ok(file) = openat(&parent, entry.file_name(), FILE_FLAGS, Mode::empty()) else { continue };
                let stat = fstat(&file)?;
                if (FileId { device: stat.st_dev, inode: stat.st_ino }) == wanted {
                    return Ok(Some(file));
                }
            }
            Ok(None)
        };
        find().map(|file| file.map(File::from)).map_err(|errno| self.failed(errno))
    }

    /// Waits until the names in the file's directory are on the disk.
    pub(super) fn sync_names(&self) -> Result<(), Error> {
        let sync = || fsync(self.walk(open_directory)?);
        sync().map_err(|errno| self.failed(errno))
    }

    /// The directory that the file is in, made when it isn't there.
    fn parent(&self) -> Result<OwnedFd, Errno> {
        self.walk(make_directory)
    }

    /// From the log directory to the one that the file is in.
    fn walk(&self, step: impl Fn(&OwnedFd, &OsStr) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
        let directory = openat(CWD, &self.directory, DIRECTORY_FLAGS, Mode::empty())?;
        self.beneath
            .parent()
            .into_iter()
            .flat_map(Path::iter)
            .try_fold(directory, |directory, name| step(&directory, name))
    }

    fn name(&self) -> &OsStr {
        self.beneath.file_name().unwrap_or_default()
    }

    fn open_in(&self, parent: &OwnedFd) -> Result<OwnedFd, Errno> {
        let name = self.name();
        let open = || openat(parent, name, FILE_FLAGS | OFlags::CREATE, Mode::from_raw_mode(FILE_MODE));
        match open() {
            Err(Errno::LOOP) if kind(parent, name)? == Some(FileType::Symlink) => {
                unlinkat(parent, name, AtFlags::empty())?;
                open()
            }
            opened => opened,
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::Open { path: self.as_joined(), source: errno.into() }
    }
}

impl std::fmt::Display for LogPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_joined().display().fmt(f)
    }
}

/// The names of a path, without `.`, empty ones and a leading `/`.
fn clean(path: &str) -> Result<PathBuf, &'static str> {
    if path.contains('\0') {
        return Err("has a NUL in it");
    }
    let mut cleaned = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => return Err("has .. in it"),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(cleaned)
}

/// Opens a directory beneath another. A link is refused (ENOTDIR).
fn open_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY_FLAGS | OFlags::NOFOLLOW, Mode::empty())
}

/// The same, made when it isn't there.
fn make_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match open_directory(parent, name) {
        Err(Errno::NOENT) => {
            match mkdirat(parent, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            open_directory(parent, name)
        }
        opened => opened,
    }
}

/// What has a name; None when nothing has.
fn kind(parent: &OwnedFd, name: &OsStr) -> Result<Option<FileType>, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes a file or link; false when something else has the name.
fn remove_in(parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    match kind(parent, name)? {
        None => Ok(true),
        Some(FileType::RegularFile | FileType::Symlink) => unlinkat(parent, name, AtFlags::empty()).map(|()| true),
        Some(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use proptest::prelude::*;

    use super::*;
    use crate::log::tests::Temp;

    fn path(temp: &Temp, beneath: &str) -> LogPath {
        LogPath::new(temp.path().to_str().unwrap(), beneath).unwrap()
    }

    #[test]
    fn both_parts_are_checked() {
        let good = LogPath::new("/var//log/./pods/", "./a/b.log").unwrap();
        assert_eq!(good.as_joined(), Path::new("/var/log/pods/a/b.log"));
        for directory in ["", "var/log", "/var/../etc", "/var/\0"] {
            assert!(matches!(LogPath::new(directory, "a"), Err(Error::Directory { .. })), "{directory:?}");
        }
        for beneath in ["", ".", "./.", "/a", "..", "../a", "a/../b", "a/..", "a/", "a/.", "a\0"] {
            assert!(matches!(LogPath::new("/var", beneath), Err(Error::Path { .. })), "{beneath:?}");
        }
    }

    #[test]
    fn of_a_joined_path_the_last_two_names_are_beneath() {
        let joined = |path| LogPath::from_joined(path).map(|path| (path.directory, path.beneath)).ok();
        let parts = |a: &str, b: &str| Some((PathBuf::from(a), PathBuf::from(b)));
        assert_eq!(joined("/var/log/pods/p/c/0.log"), parts("/var/log/pods/p", "c/0.log"));
        assert_eq!(joined("/p/0.log"), parts("/", "p/0.log"));
        assert_eq!(joined("/0.log"), parts("/", "0.log"));
        for bad in ["", "0.log", "a/b/c", "/a/../b/0.log", "/a/b/..", "/a/b/", "/"] {
            assert_eq!(joined(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_joined_path_comes_back_whole(names in prop::collection::vec("[a-z_.-]{1,5}", 1..6)) {
            let whole = format!("/{}", names.join("/"));
            if let Ok(path) = LogPath::from_joined(&whole) {
                let plain: PathBuf = Path::new(&whole).components().collect();
                prop_assert_eq!(path.as_joined(), plain);
            }
        }
    }

    #[test]
    fn a_file_is_made_with_its_directories_and_kept_when_there() {
        let temp = Temp::new();
        let path = path(&temp, "a/b/0.log");
        path.open().unwrap().write_all(b"one").unwrap();
        path.open().unwrap().write_all(b"two").unwrap();
        assert_eq!(fs::read_to_string(path.as_joined()).unwrap(), "onetwo");
        assert_eq!(fs::metadata(path.as_joined()).unwrap().permissions().mode() & 0o007, 0);
    }

    #[test]
    fn the_log_directory_itself_is_not_made() {
        let temp = Temp::new();
        let missing = LogPath::new(&format!("{temp}/missing"), "0.log").unwrap();
        assert!(missing.open().unwrap_err().to_string().contains("missing/0.log"));
        assert!(!temp.path().join("missing").exists());
    }

    #[test]
    fn a_linked_directory_beneath_is_refused() {
        let temp = Temp::new();
        let outside = Temp::new();
        symlink(outside.path(), temp.path().join("a")).unwrap();
        assert!(matches!(path(&temp, "a/0.log").open(), Err(Error::Open { .. })));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_the_files_place_is_replaced_and_its_target_left_alone() {
        let temp = Temp::new();
        let target = temp.path().join("target");
        fs::write(&target, "docker's").unwrap();
        for target in [target.clone(), temp.path().join("nowhere")] {
            symlink(&target, temp.path().join("0.log")).unwrap();
            path(&temp, "0.log").open().unwrap().write_all(b"ours").unwrap();
            assert_eq!(fs::read_to_string(temp.path().join("0.log")).unwrap(), "ours");
            fs::remove_file(temp.path().join("0.log")).unwrap();
        }
        assert_eq!(fs::read_to_string(target).unwrap(), "docker's");
        assert!(!temp.path().join("nowhere").exists());
    }

    #[test]
    fn a_directory_a_fifo_and_a_device_are_refused() {
        let temp = Temp::new();
        fs::create_dir(temp.path().join("directory")).unwrap();
        assert!(matches!(path(&temp, "directory").open(), Err(Error::Open { .. })));
        let made = rustix::fs::mknodat(CWD, temp.path().join("fifo"), FileType::Fifo, Mode::RWXU, 0);
        made.unwrap();
        assert!(matches!(path(&temp, "fifo").open(), Err(Error::NotAFile { .. })));
        assert!(matches!(LogPath::new("/dev", "null").unwrap().open(), Err(Error::NotAFile { .. })));
    }

    #[test]
    fn a_link_to_dockers_file_takes_the_logs_place() {
        let temp = Temp::new();
        let (path, target) = (path(&temp, "c/0.log"), temp.path().join("X-json.log"));
        fs::write(&target, "docker's").unwrap();
        path.link(&target).unwrap();
        assert_eq!(fs::read_link(path.as_joined()).unwrap(), target);
        let made = fs::symlink_metadata(path.as_joined()).unwrap().modified().unwrap();
        path.link(&target).unwrap();
        assert_eq!(fs::symlink_metadata(path.as_joined()).unwrap().modified().unwrap(), made, "left as it was");
        path.link(&temp.path().join("other")).unwrap();
        assert_eq!(fs::read_link(path.as_joined()).unwrap(), temp.path().join("other"));
        fs::remove_file(path.as_joined()).unwrap();
        fs::write(path.as_joined(), "an older file").unwrap();
        path.link(&target).unwrap();
        assert_eq!(fs::read_to_string(path.as_joined()).unwrap(), "docker's");
    }

    #[test]
    fn a_log_is_removed_and_nothing_else() {
        let temp = Temp::new();
        let (path, target) = (path(&temp, "c/0.log"), temp.path().join("X-json.log"));
        path.remove().unwrap();
        assert!(!temp.path().join("c").exists(), "nothing is made on the way");
        path.open().unwrap();
        fs::write(temp.path().join("c/0.log.20260102-030405"), "rotated").unwrap();
        path.remove().unwrap();
        path.remove().unwrap();
        fs::write(&target, "docker's").unwrap();
        path.link(&target).unwrap();
        path.remove().unwrap();
        assert!(target.exists());
        assert_eq!(fs::read_dir(temp.path().join("c")).unwrap().count(), 1, "what the kubelet rotated stays");
        fs::create_dir(path.as_joined()).unwrap();
        assert!(matches!(path.remove(), Err(Error::NotAFile { .. })));
        assert!(matches!(path.link(&target), Err(Error::NotAFile { .. })));
    }

    #[test]
    fn through_a_linked_directory_nothing_is_removed_or_linked() {
        let (temp, outside) = (Temp::new(), Temp::new());
        fs::write(outside.path().join("0.log"), "another's").unwrap();
        symlink(outside.path(), temp.path().join("c")).unwrap();
        assert!(path(&temp, "c/0.log").remove().is_err());
        assert!(path(&temp, "c/0.log").link(temp.path()).is_err());
        assert_eq!(fs::read_to_string(outside.path().join("0.log")).unwrap(), "another's");
    }

    #[test]
    fn a_file_in_the_directorys_place_is_told() {
        let temp = Temp::new();
        fs::write(temp.path().join("c"), "").unwrap();
        let error = path(&temp, "c/0.log").open().unwrap_err().to_string();
        assert!(error.contains("c/0.log") && error.contains("Not a directory"), "{error}");
    }

    #[test]
    fn a_renamed_file_is_found_beside() {
        let temp = Temp::new();
        let path = path(&temp, "0.log");
        let id = FileId::from(&path.open().unwrap().metadata().unwrap());
        fs::rename(path.as_joined(), temp.path().join("0.log.20260102-030405")).unwrap();
        let found = path.find_beside(id).unwrap().unwrap();
        assert_eq!(FileId::from(&found.metadata().unwrap()), id);
        assert!(path.find_beside(FileId { device: id.device + 1, ..id }).unwrap().is_none());
        assert!(path.find_beside(FileId { inode: u64::MAX, ..id }).unwrap().is_none());
    }
}
