//! Small JSON records on disk, one file each: what Docker can't hold for us. A record is replaced whole or not at all (written
//! beside, then renamed), and whatever a file may hold, reading it is no failure: what can't be understood counts as not there.
//!
//! Plain blocking calls; a caller on a hot path wraps them. Must not know what the records mean.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a record can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is no id: other characters than `[A-Za-z0-9_.-]`, empty, too long, or with a leading dot.
    #[error("record name {0:?} is not an id")]
    Name(String),
    /// The directory can't be made or cleaned.
    #[error("can't open the record directory {}: {source}", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The directory can't be listed.
    #[error("can't list the record directory {}: {source}", dir.display())]
    List {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The value has no JSON form.
    #[error("record {name:?} can't be encoded: {source}")]
    Encode {
        /// The record.
        name: String,
        /// serde's words.
        source: serde_json::Error,
    },
    /// The record can't be written.
    #[error("can't write {}: {source}", path.display())]
    Write {
        /// The record's file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The record is there and can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The record's file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The record can't be removed.
    #[error("can't remove {}: {source}", path.display())]
    Remove {
        /// The record's file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// Longest name: leaves room for what is added while it is written.
const NAME_LIMIT: usize = 200;

/// One directory of records. Nobody else writes in it.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens the directory, made with its parents (0700) when it isn't there; what an interrupted write left is removed.
    pub fn open(dir: PathBuf) -> Result<Self, Error> {
        let opened = DirBuilder::new().recursive(true).mode(0o700).create(&dir).and_then(|()| remove_leftovers(&dir));
        match opened {
            Ok(()) => Ok(Records { dir }),
            Err(source) => Err(Error::Open { dir, source }),
        }
    }

    /// Writes a record so that it survives a power loss: the old one or the new one is there, never a part of one.
    pub fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        self.write(name, value, true)
    }

    /// Writes a record so that it survives the death of this process at any instruction, but not a power loss: after one, an
    /// older record or none may be there. For what is written often and can be found out again.
    pub fn save_unsynced<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        self.write(name, value, false)
    }

    /// Reads a record; None when there is none, or one that can't be understood.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.path(name)?;
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        };
        match serde_json::from_slice(&content) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "record can't be understood; it counts as not there");
                Ok(None)
            }
        }
    }

    /// Removes a record; one that isn't there is removed already.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Remove { path, source }),
            _ => Ok(()),
        }
    }

    /// The names of all records, sorted.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                names.extend(entry?.file_name().into_string().ok().filter(|name| is_name(name)));
            }
            names.sort_unstable();
            Ok(names)
        };
        list().map_err(|source| Error::List { dir: self.dir.clone(), source })
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        if is_name(name) { Ok(self.dir.join(name)) } else { Err(Error::Name(name.to_owned())) }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, sync: bool) -> Result<(), Error> {
        let path = self.path(name)?;
        let content = serde_json::to_vec(value).map_err(|source| Error::Encode { name: name.to_owned(), source })?;
        let beside = self.dir.join(format!(".{name}.{}", next_number()));
        let replaced = replace(&self.dir, &beside, &path, &content, sync);
        replaced.map_err(|source| {
            // the failure is told; a leftover beside the record goes with the next opening
            let _ = fs::remove_file(&beside);
            Error::Write { path, source }
        })
    }
}

/// Tells apart the files of two writes of one record at the same time: the later rename wins, and both are whole.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn replace(dir: &Path, beside: &Path, path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
    file.write_all(content)?;
    if sync {
        file.sync_all()?;
    }
    fs::rename(beside, path)?;
    if sync {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !name.is_empty() && name.len() <= NAME_LIMIT && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    type Value = BTreeMap<String, u64>;

    /// A directory of one test, removed with it.
    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            Dir(std::env::temp_dir().join(format!("dockershim-record-{}-{}", std::process::id(), next_number())))
        }

        fn open(&self) -> Records {
            Records::open(self.0.join("deep/er")).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn value(n: u64) -> Value {
        BTreeMap::from([("n".to_owned(), n)])
    }

    #[test]
    fn a_record_is_replaced_listed_and_removed() {
        let dir = Dir::new();
        let records = dir.open();
        assert_eq!(records.load::<Value>("b").unwrap(), None);
        records.save("b", &value(1)).unwrap();
        records.save_unsynced("b", &value(2)).unwrap();
        records.save("a.json", &value(3)).unwrap();
        assert_eq!(records.load("b").unwrap(), Some(value(2)));
        assert_eq!(records.names().unwrap(), ["a.json", "b"]);
        records.remove("b").unwrap();
        records.remove("b").unwrap();
        assert_eq!(records.load::<Value>("b").unwrap(), None);
        assert_eq!(records.names().unwrap(), ["a.json"]);
    }

    #[test]
    fn directory_and_files_are_private_and_nothing_is_left_beside() {
        let dir = Dir::new();
        let records = dir.open();
        records.save("a", &value(1)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&records.dir), 0o700);
        assert_eq!(mode(&records.dir.join("a")), 0o600);
        assert_eq!(fs::read_dir(&records.dir).unwrap().count(), 1);
    }

    #[test]
    fn what_an_interrupted_write_left_goes_at_opening() {
        let dir = Dir::new();
        let records = dir.open();
        records.save("a", &value(1)).unwrap();
        fs::write(records.dir.join(".a.7"), "{").unwrap();
        let records = dir.open();
        assert_eq!(fs::read_dir(&records.dir).unwrap().count(), 1);
        assert_eq!(records.load("a").unwrap(), Some(value(1)));
    }

    #[test]
    fn a_name_that_is_no_id_is_refused() {
        let dir = Dir::new();
        let records = dir.open();
        for name in ["", ".", "..", ".a", "a/b", "../a", "a\0", "ä", &"a".repeat(NAME_LIMIT + 1)] {
            assert!(matches!(records.save(name, &value(1)), Err(Error::Name(_))), "{name:?}");
            assert!(matches!(records.load::<Value>(name), Err(Error::Name(_))), "{name:?}");
            assert!(matches!(records.remove(name), Err(Error::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_written_is_an_error_that_names_it() {
        let dir = Dir::new();
        let records = dir.open();
        fs::create_dir(records.dir.join("a")).unwrap();
        let error = records.save("a", &value(1)).unwrap_err().to_string();
        assert!(error.contains("deep/er/a"), "{error}");
        assert_eq!(fs::read_dir(&records.dir).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn any_content_is_read_as_a_record_or_as_none(content: Vec<u8>) {
            let dir = Dir::new();
            let records = dir.open();
            fs::write(records.dir.join("a"), &content).unwrap();
            let expected = serde_json::from_slice::<Value>(&content).ok();
            prop_assert_eq!(records.load("a").unwrap(), expected);
        }
    }
}
