//! RemoveContainer: removes a container, by force if it still runs. The log file is the kubelet's. Unknown ones are a success.

use crate::cri;
use crate::error::Result;
use crate::index::model::Container;
use crate::service::{Daemon, required};

/// Answers RemoveContainer.
pub async fn remove_container(
    daemon: &Daemon,
    request: cri::RemoveContainerRequest,
) -> Result<cri::RemoveContainerResponse> {
    let cri::RemoveContainerRequest { container_id } = request;
    let id = required("container_id", &container_id)?;
    daemon.index.synced().await?;
    let known = daemon.index.table().container(id);
    if let Ok(known) = known {
        daemon.delete_container(&known).await?;
    }
    Ok(cri::RemoveContainerResponse {})
}

impl Daemon {
    /// Removes a container under its own lock.
    pub(in crate::service) async fn delete_container(&self, container: &Container) -> Result<()> {
        let _lock = self.locks.hold(&container.docker_name).await;
        self.index.stopping(&container.id);
        match self.engine.remove(container.id.as_str()).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.while_doing(format!("remove container {}", container.docker_name))),
        }
        self.index.remove(container.id.as_str());
        Ok(())
    }
}
