//! The directory of network configurations. It is looked through at every question, but files are read only when one has changed.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::conflist::{self, Fault, NetworkList};
use super::error::{Error, Faults};

/// The most that is looked at in the directory.
const ENTRIES_LIMIT: usize = 1000;
/// Larger files are no configurations.
const FILE_LIMIT: u64 = 1 << 20;

/// The directory, with what was last found in it.
pub(super) struct ConfDir {
    path: PathBuf,
    last: Mutex<Option<Found>>,
}

/// What was found, and the state of the files then.
struct Found {
    stamps: Vec<Stamp>,
    list: Option<Arc<NetworkList>>,
    faults: Vec<Fault>,
}

/// Changes whenever a file is written or replaced.
#[derive(PartialEq, Eq)]
struct Stamp {
    file: String,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl ConfDir {
    /// Nothing is read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        ConfDir { path, last: Mutex::new(None) }
    }

    /// The network to use now: the first file by name that can be used.
    pub(super) fn current(&self) -> Result<Arc<NetworkList>, Error> {
        let stamps = stamps(&self.path).map_err(|source| Error::ConfDir { dir: self.path.clone(), source })?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match last.take() {
            Some(found) if found.stamps == stamps => found,
            _ => self.read(stamps),
        };
        let found = last.insert(found);
        match &found.list {
            Some(list) => Ok(list.clone()),
            None => Err(Error::NoConfig { dir: self.path.clone(), faults: Faults(found.faults.clone()) }),
        }
    }

    fn read(&self, stamps: Vec<Stamp>) -> Found {
        let files = stamps.iter().map(|stamp| (stamp.file.clone(), read_file(&self.path.join(&stamp.file))));
        let (list, faults) = conflist::choose(files);
        for Fault { file, reason } in &faults {
            tracing::warn!(dir = %self.path.display(), file, reason, "CNI configuration can't be used");
        }
        if let Some(list) = &list {
            tracing::info!(file = list.file, network = list.name, version = list.version, "CNI configuration in use");
        }
        Found { stamps, list: list.map(Arc::new), faults }
    }
}

/// The configuration files in a directory, sorted by name.
fn stamps(dir: &Path) -> io::Result<Vec<Stamp>> {
    let mut stamps = Vec::new();
    for (n, entry) in std::fs::read_dir(dir)?.enumerate() {
        if n == ENTRIES_LIMIT {
            return Err(io::Error::other(format!("it has more than {ENTRIES_LIMIT} entries")));
        }
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        // followed if it is a link, as those are that a ConfigMap is mounted with; gone by now is as never there
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        if conflist::is_config(&file) && metadata.is_file() {
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            stamps.push(Stamp { file, inode: metadata.ino(), length: metadata.len(), modified });
        }
    }
    stamps.sort_unstable_by(|a, b| a.file.cmp(&b.file));
    Ok(stamps)
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut content));
    match read.map(u64::try_from) {
        Ok(Ok(length)) if length <= FILE_LIMIT => Ok(content),
        Ok(_) => Err(format!("is larger than {FILE_LIMIT} bytes")),
        Err(error) => Err(format!("can't be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Dir;
    use super::*;

    fn write(dir: &Dir, file: &str, name: &str) {
        std::fs::write(dir.path(file), format!(r#"{{"name": "{name}", "type": "bridge"}}"#)).unwrap();
    }

    fn current(conf_dir: &ConfDir) -> String {
        conf_dir.current().map_or_else(|error| error.to_string(), |list| list.name.clone())
    }

    #[test]
    fn the_first_by_name_is_in_use_and_changes_are_seen() {
        let dir = Dir::new();
        let conf_dir = ConfDir::new(dir.path("."));
        write(&dir, "20-b.conf", "second");
        assert_eq!(current(&conf_dir), "second");
        write(&dir, "10-a.conf", "first");
        assert_eq!(current(&conf_dir), "first");
        write(&dir, "10-a.conf.new", "newer");
        std::fs::rename(dir.path("10-a.conf.new"), dir.path("10-a.conf")).unwrap();
        assert_eq!(current(&conf_dir), "newer");
        std::fs::remove_file(dir.path("10-a.conf")).unwrap();
        assert_eq!(current(&conf_dir), "second");
    }

    #[test]
    fn unchanged_files_are_not_read_again() {
        let dir = Dir::new();
        let conf_dir = ConfDir::new(dir.path("."));
        write(&dir, "10-a.conf", "first");
        let list = conf_dir.current().unwrap();
        assert!(Arc::ptr_eq(&list, &conf_dir.current().unwrap()));
    }

    #[test]
    fn no_usable_configuration_is_told_with_directory_and_files() {
        let dir = Dir::new();
        let conf_dir = ConfDir::new(dir.path("conf"));
        let path = dir.path("conf").display().to_string();
        let missing = current(&conf_dir);
        assert!(missing.contains(&path) && missing.contains("No such file"), "{missing}");
        std::fs::create_dir_all(dir.path("conf/10-dir.conf")).unwrap();
        assert_eq!(
            current(&conf_dir),
            format!("no usable CNI configuration in {path}: it holds no .conflist, .conf or .json file")
        );
        std::fs::write(dir.path("conf/10-a.conflist"), "{").unwrap();
        std::fs::write(dir.path("conf/20-b.conf"), vec![b' '; 2 << 20]).unwrap();
        let faulty = current(&conf_dir);
        assert!(faulty.contains("10-a.conflist is not JSON"), "{faulty}");
        assert!(faulty.contains("20-b.conf is larger than"), "{faulty}");
    }
}
