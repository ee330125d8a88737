//! Refuses to serve beside another CRI adapter on the same engine: each would take the other's pods for its own.
//! Which engine the other one serves can't be asked, so its runtime's name decides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Error, client};
use crate::cri;
use crate::cri::runtime_service_client::RuntimeServiceClient;

/// Where cri-dockerd serves; kubeadm looks there.
pub(crate) const CRI_DOCKERD: &str = "/run/cri-dockerd.sock";

/// Somebody who doesn't answer for so long is not waited for: a socket that systemd holds may only now start its adapter.
const LIMIT: Duration = Duration::from_secs(5);

/// An error if an adapter for Docker answers on `socket`, unless that is one of our `own` sockets.
pub(super) async fn refuse(socket: &Path, own: &[PathBuf]) -> Result<(), Error> {
    if own.iter().any(|own| place(own) == place(socket)) {
        return Ok(());
    }
    match tokio::time::timeout(LIMIT, version(socket)).await {
        Ok(Ok(version)) if version.runtime_name == "docker" => {
            Err(Error::OtherAdapter { socket: socket.to_owned(), version: version.runtime_version })
        }
        Ok(Ok(_) | Err(_)) => Ok(()),
        Err(_) => {
            tracing::warn!(socket = %socket.display(), "somebody listens there but does not answer: another CRI adapter?");
            Ok(())
        }
    }
}

async fn version(socket: &Path) -> Result<cri::VersionResponse, String> {
    let mut runtime = RuntimeServiceClient::new(client::connect(socket, LIMIT).await?);
    client::reply(runtime.version(cri::VersionRequest { version: "v1".to_owned() })).await
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
    use super::*;

    #[tokio::test]
    async fn nobody_and_ourselves_are_no_rivals() {
        let folder = std::env::temp_dir().join(format!("dockershim-rival-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("cri.sock");
        assert!(refuse(&socket, &[]).await.is_ok());
        // a listener that never answers would be waited for if it were not known to be our own
        let _own = tokio::net::UnixListener::bind(&socket).unwrap();
        let asked = tokio::time::timeout(LIMIT / 2, refuse(&socket, &[folder.join(".").join("cri.sock")])).await;
        assert!(matches!(asked, Ok(Ok(()))));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
