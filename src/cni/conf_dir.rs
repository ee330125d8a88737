//! The directory of network configurations, watched: what is in use is known before anyone asks.
//!
//! ```text
//! watch ─▶ look ─▶ publish ─▶ (change, or a minute) ─▶ wait until it is quiet ─▶ watch …
//! ```
//!
//! A change is anything that could make a look end otherwise: a file written to its end, replaced or removed, the directory made,
//! moved or removed, a link on the way to either that leads elsewhere, as those do that a ConfigMap is mounted with.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::sync::watch;

use super::conflist::{self, Fault, NetworkList};
use super::error::{Error, Faults};
use super::watch::Watcher;

/// The most that is looked at in the directory.
const ENTRIES_LIMIT: usize = 1000;
/// Larger files are no configurations.
const FILE_LIMIT: u64 = 1 << 20;
/// After a change nothing is looked at until there has been none for so long,
const QUIET: Duration = Duration::from_millis(50);
/// but so often at most.
const WAITS_LIMIT: usize = 20;
/// A file system that is mounted over the directory tells nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The same when the directory can't be watched.
const LOOK_AGAIN_UNWATCHED: Duration = Duration::from_secs(5);

/// The directory, with what was last found in it.
pub(super) struct ConfDir {
    path: PathBuf,
    found: watch::Sender<Found>,
}

/// What was found at a look.
#[derive(Clone, Default)]
struct Found {
    list: Option<Arc<NetworkList>>,
    /// The files before it that can't be used.
    faults: Vec<Fault>,
    /// Why the directory can't be read.
    unread: Option<Arc<io::Error>>,
}

impl ConfDir {
    /// Takes a first look.
    pub(super) fn open(path: &Path) -> Arc<Self> {
        // one that has no absolute form is told by the look
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let conf_dir = ConfDir { path, found: watch::Sender::default() };
        conf_dir.look();
        Arc::new(conf_dir)
    }

    /// The network to use now: the first file by name that can be used. Costs no look.
    pub(super) fn current(&self) -> Result<Arc<NetworkList>, Error> {
        let Found { list, faults, unread } = self.found.borrow().clone();
        match (list, unread) {
            (Some(list), _) => Ok(list),
            (None, Some(source)) => Err(Error::ConfDir { dir: self.path.clone(), source }),
            (None, None) => Err(Error::NoConfig { dir: self.path.clone(), faults: Faults(faults) }),
        }
    }

    /// What is wrong with the files before the one in use.
    pub(super) fn faults(&self) -> Vec<String> {
        let found = self.found.borrow();
        found.faults.iter().map(|Fault { file, reason }| format!("{file} {reason}")).collect()
    }

    /// Tells when another network comes into use, or none is any more.
    pub(super) fn changes(&self) -> Changes {
        Changes { found: self.found.subscribe() }
    }

    /// Keeps what is known true, for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) {
        let mut told = false;
        loop {
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let watcher = watcher(&this.path);
                this.look();
                watcher
            });
            match looked.await {
                Ok(Ok(watcher)) => {
                    told = false;
                    if tokio::time::timeout(LOOK_AGAIN, watcher.changed()).await.is_ok() {
                        until_quiet(&watcher).await;
                    }
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut told, true) {
                        let dir = self.path.display();
                        tracing::warn!(%dir, %error, "CNI configuration directory can't be watched; looked at every {LOOK_AGAIN_UNWATCHED:?}");
                    }
                    tokio::time::sleep(LOOK_AGAIN_UNWATCHED).await;
                }
                // we are ending
                Err(_) => return,
            }
        }
    }

    /// Reads the files, and publishes and logs what is new.
    fn look(&self) {
        let found = match names(&self.path) {
            Ok(names) => {
                let read = |name: String| {
                    let content = read_file(&self.path.join(&name))?;
                    Some((name, content))
                };
                let (list, faults) = conflist::choose(names.into_iter().filter_map(read));
                Found { list: list.map(Arc::new), faults, unread: None }
            }
            Err(error) => Found { unread: Some(Arc::new(error)), ..Found::default() },
        };
        self.found.send_if_modified(|known| {
            for Fault { file, reason } in found.faults.iter().filter(|fault| !known.faults.contains(fault)) {
                let dir = self.path.display();
                tracing::warn!(%dir, file, reason, "CNI configuration can't be used; the next by name is tried");
            }
            known.faults = found.faults;
            known.unread = found.unread;
            if known.list == found.list {
                return false;
            }
            match &found.list {
                Some(list) => {
                    let NetworkList { file, name, version, .. } = &**list;
                    tracing::info!(file, network = name, version, "CNI configuration in use");
                }
                None => tracing::warn!(dir = %self.path.display(), "no usable CNI configuration any more"),
            }
            known.list = found.list;
            true
        });
    }
}

/// Tells when another network comes into use.
pub(super) struct Changes {
    found: watch::Receiver<Found>,
}

impl Changes {
    /// The network in use.
    pub(super) fn list(&mut self) -> Option<Arc<NetworkList>> {
        self.found.borrow_and_update().list.clone()
    }

    /// Returns when it is another than was last seen.
    pub(super) async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Watches for everything that a look at the directory depends on.
fn watcher(path: &Path) -> io::Result<Watcher> {
    let mut watcher = Watcher::new()?;
    let dir = watcher.follow(path)?;
    watcher.all_in(&dir)?;
    for entry in std::fs::read_dir(&dir).into_iter().flatten().take(ENTRIES_LIMIT).flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(conflist::is_config) && entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            watcher.follow(&dir.join(name))?;
        }
    }
    Ok(watcher)
}

/// Waits for the end of several changes at once.
async fn until_quiet(watcher: &Watcher) {
    for _ in 0..WAITS_LIMIT {
        tokio::time::sleep(QUIET).await;
        if tokio::time::timeout(Duration::ZERO, watcher.changed()).await.is_err() {
            return;
        }
    }
}

/// The names of the configuration files in a directory, sorted.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for (n, entry) in std::fs::read_dir(dir)?.enumerate() {
        if n == ENTRIES_LIMIT {
            return Err(io::Error::other(format!("it has more than {ENTRIES_LIMIT} entries")));
        }
        names.extend(entry?.file_name().into_string().ok().filter(|name| conflist::is_config(name)));
    }
    names.sort_unstable();
    Ok(names)
}

/// A file's content, or why there is none; None for a directory, whatever its name.
fn read_file(path: &Path) -> Option<Result<Vec<u8>, String>> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        // a pipe must not hold us up
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let file = std::fs::File::from(file);
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(None);
        }
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut content = Vec::new();
        file.take(FILE_LIMIT + 1).read_to_end(&mut content)?;
        Ok(Some(content))
    };
    match read() {
        Ok(None) => None,
        Ok(Some(content)) if u64::try_from(content.len()).is_ok_and(|length| length <= FILE_LIMIT) => Some(Ok(content)),
        Ok(Some(_)) => Some(Err(format!("is larger than {FILE_LIMIT} bytes"))),
        Err(error) => Some(Err(format!("can't be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::testing::Dir;
    use super::*;

    fn config(name: &str) -> String {
        format!(r#"{{"name": "{name}", "type": "bridge"}}"#)
    }

    fn write(dir: &Dir, file: &str, name: &str) {
        fs::write(dir.path(file), config(name)).unwrap();
    }

    fn current(conf_dir: &ConfDir) -> String {
        conf_dir.current().map_or_else(|error| error.to_string(), |list| list.name.clone())
    }

    /// A directory that is watched, and what it is seen to hold in the end.
    struct Watched(Arc<ConfDir>, tokio::task::JoinHandle<()>);

    impl Watched {
        fn new(path: &Path) -> Self {
            let conf_dir = ConfDir::open(path);
            Watched(conf_dir.clone(), tokio::spawn(conf_dir.run()))
        }

        async fn shows(&self, expected: &str) {
            for _ in 0..500 {
                if current(&self.0).contains(expected) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("not {expected} but {}", current(&self.0));
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.abort();
        }
    }

    #[tokio::test]
    async fn files_written_replaced_and_removed_are_seen() {
        let dir = Dir::new();
        write(&dir, "20-b.conf", "second");
        let watched = Watched::new(&dir.path("."));
        watched.shows("second").await;
        write(&dir, "10-a.conf", "first");
        watched.shows("first").await;
        write(&dir, "10-a.conf.new", "newer");
        fs::rename(dir.path("10-a.conf.new"), dir.path("10-a.conf")).unwrap();
        watched.shows("newer").await;
        fs::remove_file(dir.path("10-a.conf")).unwrap();
        watched.shows("second").await;
        fs::remove_file(dir.path("20-b.conf")).unwrap();
        watched.shows("it holds no .conflist").await;
    }

    #[tokio::test]
    async fn a_file_half_written_is_named_and_used_once_it_is_whole() {
        use std::io::Write;
        let dir = Dir::new();
        let watched = Watched::new(&dir.path("."));
        let mut file = fs::File::create(dir.path("10-a.conf")).unwrap();
        file.write_all(br#"{"name": "#).unwrap();
        watched.shows("10-a.conf is not JSON").await;
        file.write_all(br#""whole", "type": "bridge"}"#).unwrap();
        drop(file);
        watched.shows("whole").await;
        // rewritten in place: the old one counts until the new one is whole
        let mut file = fs::File::create(dir.path("10-a.conf")).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(current(&watched.0), "whole");
        file.write_all(config("rewritten").as_bytes()).unwrap();
        drop(file);
        watched.shows("rewritten").await;
    }

    #[tokio::test]
    async fn the_directory_may_come_late_and_be_replaced_or_removed() {
        let dir = Dir::new();
        let watched = Watched::new(&dir.path("cni/net.d"));
        watched.shows("No such file").await;
        fs::create_dir(dir.path("cni")).unwrap();
        fs::create_dir(dir.path("cni/net.d")).unwrap();
        watched.shows("it holds no .conflist").await;
        write(&dir, "cni/net.d/10-a.conf", "late");
        watched.shows("late").await;
        fs::create_dir(dir.path("cni/new.d")).unwrap();
        write(&dir, "cni/new.d/10-a.conf", "replaced");
        fs::rename(dir.path("cni/net.d"), dir.path("cni/old.d")).unwrap();
        fs::rename(dir.path("cni/new.d"), dir.path("cni/net.d")).unwrap();
        watched.shows("replaced").await;
        fs::remove_dir_all(dir.path("cni")).unwrap();
        watched.shows("No such file").await;
    }

    #[tokio::test]
    async fn links_are_followed_as_a_config_map_is_mounted_and_elsewhere() {
        let dir = Dir::new();
        for (place, name) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir_all(dir.path("conf").join(place)).unwrap();
            write(&dir, &format!("conf/{place}/10-a.conf"), name);
        }
        symlink("..1", dir.path("conf/..data")).unwrap();
        symlink("..data/10-a.conf", dir.path("conf/10-a.conf")).unwrap();
        let watched = Watched::new(&dir.path("conf"));
        watched.shows("one").await;
        symlink("..2", dir.path("conf/..new")).unwrap();
        fs::rename(dir.path("conf/..new"), dir.path("conf/..data")).unwrap();
        watched.shows("two").await;
        write(&dir, "conf/..2/10-a.conf", "edited");
        watched.shows("edited").await;
        write(&dir, "target", "elsewhere");
        symlink(dir.path("target"), dir.path("conf/05-b.conf")).unwrap();
        watched.shows("elsewhere").await;
        write(&dir, "target.new", "moved");
        fs::rename(dir.path("target.new"), dir.path("target")).unwrap();
        watched.shows("moved").await;
    }

    #[tokio::test]
    async fn a_change_of_nothing_keeps_the_list() {
        let dir = Dir::new();
        write(&dir, "10-a.conf", "first");
        let watched = Watched::new(&dir.path("."));
        let (list, mut changes) = (watched.0.current().unwrap(), watched.0.changes());
        write(&dir, "10-a.conf", "first");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(Arc::ptr_eq(&list, &watched.0.current().unwrap()));
        write(&dir, "10-a.conf", "other");
        tokio::time::timeout(Duration::from_secs(5), changes.changed()).await.unwrap();
        assert_eq!(changes.list().unwrap().name, "other");
    }

    #[test]
    fn no_usable_configuration_is_told_with_directory_and_files() {
        let dir = Dir::new();
        let path = dir.path("conf").display().to_string();
        let missing = current(&ConfDir::open(&dir.path("conf")));
        assert!(missing.contains(&path) && missing.contains("No such file"), "{missing}");
        fs::create_dir_all(dir.path("conf/10-dir.conf")).unwrap();
        assert_eq!(
            current(&ConfDir::open(&dir.path("conf"))),
            format!("no usable CNI configuration in {path}: it holds no .conflist, .conf or .json file")
        );
        fs::write(dir.path("conf/10-a.conflist"), "{").unwrap();
        fs::write(dir.path("conf/20-b.conf"), vec![b' '; 2 << 20]).unwrap();
        symlink("30-c.conf", dir.path("conf/30-c.conf")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path("conf/40-d.conf")).unwrap();
        let faulty = current(&ConfDir::open(&dir.path("conf")));
        for fault in [
            "10-a.conflist is not JSON",
            "20-b.conf is larger than",
            "30-c.conf can't be read: Too many",
            "40-d.conf can't be read",
        ] {
            assert!(faulty.contains(fault), "{faulty}");
        }
        // the first that can be used counts, whatever is before it
        write(&dir, "conf/50-e.conf", "fifth");
        write(&dir, "conf/60-f.conf", "fifth");
        assert_eq!(current(&ConfDir::open(&dir.path("conf"))), "fifth");
    }
}
