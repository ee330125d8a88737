//! Our Unix sockets: made with the right mode from their first instant, taken over from a dead process but never from a live
//! one, removed at the end. Or those that the service manager passes, which are its own to make and to remove.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::Stream;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::Error;

/// For root and its group.
const MODE: u32 = 0o660;
/// The most that a socket's path can have: `sun_path` less its last NUL.
pub(crate) const LONGEST_PATH: usize = 107;
/// The number of the first passed descriptor.
const FIRST_PASSED: usize = 3;
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

/// Listens at `path`, which `flag` has told. Nobody can connect before the mode is set.
pub(super) async fn bind(path: &Path, flag: &'static str) -> Result<(SocketFile, UnixListener), Error> {
    let failed = |source| Error::Bind { path: path.to_owned(), flag, source };
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(Error::PathTooLong { path: path.to_owned(), flag, limit: LONGEST_PATH });
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| Error::SocketDir { path: parent.to_owned(), flag, source })?;
    }
    clear(path, flag).await?;
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path).map_err(failed)? };
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
    Ok((file, socket.listen(BACKLOG).map_err(failed)?))
}

/// Removes what a dead process left at `path`; anything else that is there is an error.
async fn clear(path: &Path, flag: &'static str) -> Result<(), Error> {
    let failed = |source| Error::Bind { path: path.to_owned(), flag, source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned(), flag });
        }
        Ok(metadata) if metadata.uid() != geteuid().as_raw() => {
            return Err(Error::SocketOfAnother { path: path.to_owned(), flag, owner: metadata.uid() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        // connected, or its queue is full: somebody is there
        _ => Err(Error::SocketInUse { path: path.to_owned(), flag }),
    }
}

/// The sockets that the service manager has passed, at least one.
pub(super) fn passed() -> Result<Vec<UnixListener>, Error> {
    let passed = sd_listen_fds::get().map_err(|_| Error::NothingPassed)?;
    if passed.is_empty() {
        return Err(Error::NothingPassed);
    }
    let listeners = passed.into_iter().enumerate().map(|(at, (name, passed))| {
        let name = name.unwrap_or_default();
        take(passed.into_std()).map_err(|source| Error::Passed { number: FIRST_PASSED + at, name, source })
    });
    listeners.collect()
}

/// Takes a descriptor that is a listening socket; the programs that we start don't get it.
fn take(passed: OwnedFd) -> io::Result<UnixListener> {
    fcntl_setfd(&passed, FdFlags::CLOEXEC)?;
    let kind = (sockopt::socket_domain(&passed)?, sockopt::socket_type(&passed)?);
    if kind != (AddressFamily::UNIX, SocketType::STREAM) || !sockopt::socket_acceptconn(&passed)? {
        return Err(io::Error::other("it is no listening Unix stream socket"));
    }
    let listener = std::os::unix::net::UnixListener::from(passed);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Where a listener is reached, if that is a path.
pub(super) fn path(listener: &UnixListener) -> Option<PathBuf> {
    listener.local_addr().ok()?.as_pathname().map(Path::to_owned)
}

/// Accepted connections, without end.
pub(super) fn connections(listener: UnixListener) -> impl Stream<Item = UnixStream> {
    futures_util::stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => return Some((connection, listener)),
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

    async fn bind(path: &Path) -> Result<(SocketFile, UnixListener), Error> {
        super::bind(path, "--container-runtime-endpoint").await
    }

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
    async fn a_place_that_cannot_be_is_told_with_what_to_do() {
        let folder = Folder::new("place");
        fs::write(folder.0.join("file"), "").unwrap();
        let long = folder.0.join("x".repeat(107 - folder.0.as_os_str().len()));
        assert_eq!(long.as_os_str().len(), 108);
        for path in [long, folder.0.join("file/cri.sock")] {
            let error = bind(&path).await.err().unwrap().to_string();
            let place = path.parent().unwrap().display().to_string();
            assert!(error.contains(&place) && error.contains("--container-runtime-endpoint"), "{error}");
        }
        let longest = folder.0.join("x".repeat(106 - folder.0.as_os_str().len()));
        bind(&longest).await.unwrap();
    }

    #[tokio::test]
    async fn another_user_s_socket_is_left_alone() {
        if !geteuid().is_root() {
            // nobody else can give a file away
            return;
        }
        let folder = Folder::new("owner");
        let path = folder.0.join("cri.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        assert!(matches!(bind(&path).await, Err(Error::SocketOfAnother { owner: 12_345, .. })));
        assert!(path.exists());
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
