//! The state directory is one process's: a lock on `<dir>/lock` is held as long as it lives.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::Error;

/// Containers reach the files that they mount from below it; what is in it stays unlisted.
const MODE: u32 = 0o711;

/// The lock; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

/// Makes the directory where there is none, and takes its lock.
pub(crate) fn claim(dir: &Path) -> Result<StateLock, Error> {
    let failed = |source: io::Error| Error::StateDir { path: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(MODE).create(dir).map_err(failed)?;
    let path = dir.join("lock");
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed)?;
            return Err(Error::StateDirTaken { path: dir.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(StateLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_owner_at_a_time() {
        let dir = std::env::temp_dir().join(format!("dockershim-state-{}", std::process::id()));
        let first = claim(&dir).unwrap();
        match claim(&dir) {
            Err(Error::StateDirTaken { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(first);
        drop(claim(&dir).unwrap());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
