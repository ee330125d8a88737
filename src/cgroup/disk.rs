//! What containers take of disks: the size of a directory tree, the file system under it, and the names of block devices.
//!
//! A writable layer is written to by its container while it is measured. Nothing here follows a link, or trusts a name to be
//! still what it was: each directory is opened from the one above it.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, Stat, fstat, major, minor, open, openat, stat, statat, statvfs,
};

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NOATIME);
/// As [`FLAGS`], for those who aren't the owner of a file.
const UNPRIVILEGED: OFlags = FLAGS.difference(OFlags::NOATIME);
/// Directories held open at once, at most: one for each level of a tree. What is deeper is not entered.
const LEVELS: usize = 512;
/// For the entries of a directory.
const BUFFER_BYTES: usize = 32 << 10;

/// What a directory tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Blocks in use, as `du` counts them: a hole takes nothing, a hard link nothing more.
    pub bytes: u64,
    /// Files and directories, each once.
    pub inodes: u64,
}

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Its size.
    pub total_bytes: u64,
    /// All inodes; 0 when it makes them as it needs them.
    pub inodes: u64,
    /// Those that are free.
    pub inodes_free: u64,
    /// Number of its device.
    pub device: (u32, u32),
}

/// A directory that is still to be read.
struct Pending {
    parent: Rc<OwnedFd>,
    name: CString,
    /// Parents held open by the time this is at the top, its own among them.
    held: usize,
}

/// Measures a tree; blocks for as long as it takes. What goes away meanwhile, or can't be read, is passed over.
pub fn measure(top: &Path) -> io::Result<Size> {
    let fd = open(top, FLAGS, Mode::empty()).or_else(|_| open(top, UNPRIVILEGED, Mode::empty()))?;
    let root = fstat(&fd)?;
    let mut walk = Walk { device: root.st_dev, linked: HashSet::new(), size: Size::default(), pending: Vec::new() };
    walk.count(&root);
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    walk.read(Rc::new(fd), 1, buffer.spare_capacity_mut());
    while let Some(Pending { parent, name, held }) = walk.pending.pop() {
        let opened = openat(&*parent, &name, FLAGS, Mode::empty())
            .or_else(|_| openat(&*parent, &name, UNPRIVILEGED, Mode::empty()));
        // the last of its parent's lets go of it
        let is_last = walk.pending.last().is_none_or(|next| !Rc::ptr_eq(&next.parent, &parent));
        drop(parent);
        if let Ok(fd) = opened {
            walk.read(Rc::new(fd), if is_last { held } else { held + 1 }, buffer.spare_capacity_mut());
        }
    }
    Ok(walk.size)
}

struct Walk {
    device: u64,
    /// Inodes with more than one name.
    linked: HashSet<u64>,
    size: Size,
    pending: Vec<Pending>,
}

impl Walk {
    /// Counts the entries of a directory, and remembers those that are to be read in turn; `held` are the directories that are
    /// then open.
    fn read(&mut self, fd: Rc<OwnedFd>, held: usize, buffer: &mut [MaybeUninit<u8>]) {
        let mut entries = RawDir::new(&*fd, buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if stat.st_dev != self.device {
                continue;
            }
            self.count(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && held <= LEVELS {
                self.pending.push(Pending { parent: fd.clone(), name: name.to_owned(), held });
            }
        }
    }

    fn count(&mut self, stat: &Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino) {
            return;
        }
        self.size.inodes += 1;
        self.size.bytes =
            self.size.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
    }
}

/// The file system that a directory is on.
pub fn file_system(directory: &Path) -> io::Result<FileSystem> {
    let counted = statvfs(directory)?;
    let device = stat(directory)?.st_dev;
    Ok(FileSystem {
        total_bytes: counted.f_blocks.saturating_mul(counted.f_frsize),
        inodes: counted.f_files,
        inodes_free: counted.f_ffree,
        device: (major(device), minor(device)),
    })
}

/// `/dev/vda`; a number (`0:52`) for what is no block device, such as btrfs.
pub fn device_name((major, minor): (u32, u32)) -> String {
    let known = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).unwrap_or_default();
    match known.lines().find_map(|line| line.strip_prefix("DEVNAME=")) {
        Some(name) => format!("/dev/{name}"),
        None => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::cgroup::fixture::Tree;

    fn blocks(path: &Path) -> u64 {
        fs::symlink_metadata(path).unwrap().blocks() * 512
    }

    #[test]
    fn every_file_is_counted_once_by_its_blocks() {
        let tree = Tree::new(&[("a", &"x".repeat(10_000)), ("b", "y")]);
        let top = tree.path();
        fs::create_dir_all(top.join("d/e")).unwrap();
        fs::hard_link(top.join("a"), top.join("d/e/again")).unwrap();
        fs::File::create(top.join("d/hole")).unwrap().set_len(1 << 30).unwrap();
        symlink("/", top.join("d/link")).unwrap();
        let names = ["", "a", "b", "d", "d/e", "d/hole", "d/link"];
        let bytes = names.iter().map(|name| blocks(&top.join(name))).sum();
        assert_eq!(measure(top).unwrap(), Size { bytes, inodes: 7 });
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_not_followed() {
        let tree = Tree::new(&[("a", "x")]);
        symlink(tree.path(), tree.path().join("link")).unwrap();
        assert!(measure(&tree.path().join("link")).is_err());
        assert!(measure(&tree.path().join("nothing")).is_err());
    }

    #[test]
    fn a_deep_chain_is_measured_beyond_the_longest_path_without_holding_it_open() {
        let tree = Tree::new(&[]);
        let name = "n".repeat(200);
        let mut at = open(tree.path(), UNPRIVILEGED, Mode::empty()).unwrap();
        for _ in 0..600 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = openat(&at, &name, UNPRIVILEGED, Mode::empty()).unwrap();
        }
        assert_eq!(measure(tree.path()).unwrap().inodes, 601);
    }

    /// A chain of directories, each with another beside it.
    fn chain(through: &str) -> u64 {
        let tree = Tree::new(&[]);
        let mut at = open(tree.path(), UNPRIVILEGED, Mode::empty()).unwrap();
        for _ in 0..LEVELS + 50 {
            for name in ["a", "b"] {
                rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            }
            at = openat(&at, through, UNPRIVILEGED, Mode::empty()).unwrap();
        }
        measure(tree.path()).unwrap().inodes
    }

    #[test]
    fn what_would_hold_too_much_open_is_not_entered() {
        let all = u64::try_from(2 * (LEVELS + 50) + 1).unwrap();
        // of two that wait in one directory, that which is read first has the other wait for all of its own
        let (one, other) = (chain("a"), chain("b"));
        assert_eq!(one.max(other), all);
        assert!(one.min(other) < all && one.min(other) > all / 2, "{one} {other}");
    }

    #[test]
    fn a_file_system_has_a_size_and_a_device() {
        let counted = file_system(Path::new("/proc/self")).unwrap();
        assert_eq!(device_name(counted.device), format!("0:{}", counted.device.1));
        assert!(file_system(&std::env::temp_dir()).unwrap().total_bytes > 0);
        assert!(file_system(Path::new("/nowhere")).is_err());
    }
}
