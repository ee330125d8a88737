//! Refuses to serve beside another CRI adapter on the same engine: each would take the other's pods for its own.
//! Which engine the other one serves can't be asked, so that it is there decides: that somebody has its socket, or, since the socket
//! may have become ours under its hands, that its process runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client;
use crate::cri;
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::process::{Running, named};

/// Where cri-dockerd serves; kubeadm looks there.
pub(crate) const CRI_DOCKERD: &str = "/run/cri-dockerd.sock";
/// Its process's name.
const PROCESS: &str = "cri-dockerd";
/// The runtime's name that Docker's adapters tell.
const RUNTIME: &str = "docker";

/// Somebody who doesn't answer for so long is not waited for: a socket that systemd holds may only now start its adapter.
const LIMIT: Duration = Duration::from_secs(5);

/// Another adapter for Docker, and how it was seen.
#[derive(Debug, thiserror::Error)]
pub enum Rival {
    /// It tells what it is.
    #[error("another CRI adapter for docker {version} answers on {}", socket.display())]
    Answers {
        /// Where.
        socket: PathBuf,
        /// The engine's version as it tells it.
        version: String,
    },
    /// It is asked what it is, and answers something else.
    #[error("whoever serves {} answers Version with {words}: another CRI adapter, it seems", socket.display())]
    Fails {
        /// Where.
        socket: PathBuf,
        /// Code and message.
        words: String,
    },
    /// It takes connections.
    #[error("whoever listens on {} has not answered for {LIMIT:?}: another CRI adapter, it seems", socket.display())]
    Silent {
        /// Where.
        socket: PathBuf,
    },
    /// It has a process.
    #[error("{PROCESS} runs on this node (process {pid})")]
    Runs {
        /// Process id.
        pid: u32,
    },
}

/// The adapter for Docker that has `socket`, unless that is one of our `own` sockets, or else one among the node's processes.
pub(super) async fn look(socket: &Path, own: &[PathBuf], running: &[Running]) -> Result<(), Rival> {
    if !own.iter().any(|own| place(own) == place(socket)) {
        ask(socket).await?;
    }
    named(running, PROCESS).map_or(Ok(()), |process| Err(Rival::Runs { pid: process.pid }))
}

/// An error unless nobody has the socket, or one who tells that he is no adapter for Docker.
async fn ask(socket: &Path) -> Result<(), Rival> {
    // the channel's limit is to come after ours, whose meaning is known
    let Ok(channel) = client::connect(socket, LIMIT * 2).await else { return Ok(()) };
    let mut runtime = RuntimeServiceClient::new(channel);
    let version = runtime.version(cri::VersionRequest { version: "v1".to_owned() });
    let socket = socket.to_owned();
    match tokio::time::timeout(LIMIT, version).await {
        Ok(Ok(version)) if version.get_ref().runtime_name == RUNTIME => {
            Err(Rival::Answers { socket, version: version.into_inner().runtime_version })
        }
        // it says that it is for another engine
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) if client::is_answer(&status) => Err(Rival::Fails { socket, words: client::words(&status) }),
        // who only hangs up speaks no gRPC
        Ok(Err(_)) => Ok(()),
        Err(_) => Err(Rival::Silent { socket }),
    }
}

/// The same for `/var/run/x` and `/run/x`, also while there is no such file.
fn place(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::UnixListener;
    use tokio::sync::watch;
    use tonic::service::Routes;

    use super::super::connection;
    use super::*;

    /// A directory for a socket, removed with its test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("dockershim-rival-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("cri.sock")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn nobody_and_ourselves_are_no_rivals() {
        let folder = Folder::new("own");
        assert!(look(&folder.socket(), &[], &[]).await.is_ok());
        // a listener that never answers would be waited for if it were not known to be our own
        let own = UnixListener::bind(folder.socket()).unwrap();
        let began = Instant::now();
        assert!(look(&folder.socket(), &[folder.0.join(".").join("cri.sock")], &[]).await.is_ok());
        assert!(began.elapsed() < LIMIT / 2);
        // of one that is gone the file is left
        drop(own);
        assert!(look(&folder.socket(), &[], &[]).await.is_ok());
    }

    #[tokio::test]
    async fn whoever_takes_connections_and_does_not_answer_is_a_rival() {
        let folder = Folder::new("silent");
        let _silent = UnixListener::bind(folder.socket()).unwrap();
        let rival = look(&folder.socket(), &[], &[]).await.unwrap_err();
        assert!(matches!(rival, Rival::Silent { .. }), "{rival}");
    }

    #[tokio::test]
    async fn whoever_answers_with_an_error_is_a_rival() {
        let folder = Folder::new("fails");
        let listener = UnixListener::bind(folder.socket()).unwrap();
        // a gRPC server that has no service at all
        let served = tokio::spawn(async move {
            let (_stop, stopping) = watch::channel(());
            let (stream, _) = listener.accept().await.unwrap();
            connection::serve(stream, Routes::default().prepare(), stopping).await;
        });
        let rival = look(&folder.socket(), &[], &[]).await.unwrap_err();
        assert!(matches!(&rival, Rival::Fails { words, .. } if words.starts_with("Unimplemented")), "{rival}");
        served.abort();
    }

    #[tokio::test]
    async fn whoever_only_hangs_up_is_none() {
        let folder = Folder::new("hangs-up");
        let listener = UnixListener::bind(folder.socket()).unwrap();
        let hangs_up = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        assert!(look(&folder.socket(), &[], &[]).await.is_ok());
        hangs_up.abort();
    }
}
