//! Tells when a name that a path is followed through may lead elsewhere, or a directory may hold something else. A watcher is for
//! one look: set up before it, so that no change after the look is missed, and thrown away at the first change.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// Links followed on the way to one file, as the kernel has it.
const LINKS_LIMIT: usize = 40;

/// Watches set up for one look.
pub(super) struct Watcher {
    inotify: AsyncFd<OwnedFd>,
    /// Directories by watch.
    watched: HashMap<i32, Names>,
}

/// The names in a directory that matter.
#[derive(Default)]
struct Names {
    all: bool,
    some: HashSet<OsString>,
}

impl Watcher {
    /// Watches nothing yet.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may change their descriptor; an OwnedFd can't"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let inotify = AsyncFd::new(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?;
        Ok(Watcher { inotify, watched: HashMap::new() })
    }

    /// Watches each name on the way of an absolute path, links included, as far as the way is there; gives where it ends.
    pub(super) fn follow(&mut self, path: &Path) -> io::Result<PathBuf> {
        let (mut at, mut ahead, mut links) = (PathBuf::from("/"), Vec::new(), 0);
        let push = |ahead: &mut Vec<OsString>, path: &Path| {
            let parts = path.components().rev();
            let parts = parts.filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
            ahead.extend(parts.map(|part| part.as_os_str().to_owned()));
        };
        push(&mut ahead, path);
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let here = self.watch(&at)?;
            if let Some(names) = here {
                names.some.insert(name.clone());
            }
            let next = at.join(&name);
            match std::fs::read_link(&next) {
                Ok(target) if links < LINKS_LIMIT => {
                    links += 1;
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    push(&mut ahead, &target);
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// Watches all names in a directory, if it is there.
    pub(super) fn all_in(&mut self, dir: &Path) -> io::Result<()> {
        if let Some(names) = self.watch(dir)? {
            names.all = true;
        }
        Ok(())
    }

    /// Returns at the first change of what is watched.
    pub(super) async fn changed(&self) {
        while let Ok(mut ready) = self.inotify.readable().await {
            match self.read_events() {
                None => return,
                Some(Errno::WOULDBLOCK) => ready.clear_ready(),
                Some(Errno::INTR) => {}
                Some(errno) => {
                    tracing::error!(error = %io::Error::from(errno), "inotify can't be read; the CNI configuration directory is looked at again each minute");
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Reads what there is, up to the first event that matters; None if there is one.
    fn read_events(&self) -> Option<Errno> {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if self.matters(&event) => return None,
                Ok(_) => {}
                Err(errno) => return Some(errno),
            }
        }
    }

    fn matters(&self, event: &Event<'_>) -> bool {
        let of_itself = ReadFlags::QUEUE_OVERFLOW
            | ReadFlags::DELETE_SELF
            | ReadFlags::MOVE_SELF
            | ReadFlags::UNMOUNT
            | ReadFlags::IGNORED;
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        event.events().intersects(of_itself)
            || self
                .watched
                .get(&event.wd())
                .zip(name)
                .is_some_and(|(names, name)| names.all || names.some.contains(name))
    }

    /// Watches a directory; None if there is none. A file counts when it has been written whole, not from its first byte on.
    fn watch(&mut self, dir: &Path) -> io::Result<Option<&mut Names>> {
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, dir, flags) {
            Ok(watch) => Ok(Some(self.watched.entry(watch).or_default())),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::super::testing::Dir;
    use super::*;

    async fn tells(watcher: &Watcher) -> bool {
        tokio::time::timeout(Duration::from_millis(300), watcher.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn each_name_on_the_way_is_watched_and_no_other() {
        let dir = Dir::new();
        fs::create_dir_all(dir.path("a/b")).unwrap();
        symlink("a/b", dir.path("link")).unwrap();
        let mut watcher = Watcher::new().unwrap();
        let end = watcher.follow(&dir.path("link/file")).unwrap();
        assert_eq!(end, dir.path("a/b/file"));
        for other in ["other", "a/other", "a/b/other"] {
            fs::write(dir.path(other), "").unwrap();
        }
        assert!(!tells(&watcher).await);
        fs::write(dir.path("a/b/file"), "").unwrap();
        assert!(tells(&watcher).await);
    }

    #[tokio::test]
    async fn what_is_not_there_yet_is_seen_when_it_comes() {
        let dir = Dir::new();
        let mut watcher = Watcher::new().unwrap();
        watcher.follow(&dir.path("a/b")).unwrap();
        watcher.all_in(&dir.path("a/b")).unwrap();
        assert!(!tells(&watcher).await);
        fs::create_dir(dir.path("a")).unwrap();
        assert!(tells(&watcher).await);
    }

    #[tokio::test]
    async fn a_link_that_leads_to_itself_has_an_end() {
        let dir = Dir::new();
        symlink("self", dir.path("self")).unwrap();
        Watcher::new().unwrap().follow(&dir.path("self/x")).unwrap();
    }
}
