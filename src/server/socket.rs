//! Our Unix sockets: made with the right mode from their first instant, taken over from a dead process but never from a live
//! one, removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::Stream;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::Error;

/// For root and its group.
const MODE: u32 = 0o660;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Pause after a failed accept: file descriptors may be free again by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket's file, removed when this is dropped if it is still the one that we made.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // nothing depends on it: the next start finds nobody behind the file and takes its place
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`. Nobody can connect before the mode is set.
pub(super) async fn bind(path: &Path) -> Result<(SocketFile, UnixListener), Error> {
    let failed = |source| Error::Bind { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    clear(path).await?;
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path).map_err(failed)? };
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
    Ok((file, socket.listen(BACKLOG).map_err(failed)?))
}

/// Removes what a dead process left at `path`; anything else that is there is an error.
async fn clear(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Bind { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(Error::NotASocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        // connected, or its queue is full, or it is not ours to look at: somebody is there
        _ => Err(Error::SocketInUse { path: path.to_owned() }),
    }
}

/// Accepted connections, without end.
pub(super) fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    futures_util::stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => return Some((Ok(connection), listener)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of the test's own, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("dockershim-socket-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_goes_away_with_us() {
        let folder = Folder::new("mode");
        let path = folder.0.join("new/cri.sock");
        let (file, _listener) = bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_process_s_socket_is_taken_over_and_a_live_one_s_is_not() {
        let folder = Folder::new("stale");
        let path = folder.0.join("cri.sock");
        let before = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path).await, Err(Error::SocketInUse { .. })));
        drop(before);
        let (_file, listener) = bind(&path).await.unwrap();
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = Folder::new("file");
        let path = folder.0.join("cri.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path).await, Err(Error::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn another_s_socket_in_the_same_place_is_not_removed() {
        let folder = Folder::new("other");
        let path = folder.0.join("cri.sock");
        let (file, _listener) = bind(&path).await.unwrap();
        fs::rename(&path, folder.0.join("away.sock")).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
