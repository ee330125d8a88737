//! RemoveContainer: removes a container, by force if it still runs, and its log with it. Unknown ones are a success.

use std::time::Duration;

use tokio::time::timeout;

use crate::cri;
use crate::engine;
use crate::error::{Error, Result};
use crate::index::model::{Container, State};
use crate::service::{Daemon, required};

/// How long a removal by somebody else may take.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// Answers RemoveContainer.
pub async fn remove_container(
    daemon: &Daemon,
    request: cri::RemoveContainerRequest,
) -> Result<cri::RemoveContainerResponse> {
    let cri::RemoveContainerRequest { container_id } = request;
    let id = required("container_id", &container_id)?;
    daemon.index.synced().await?;
    let known = daemon.index.table().container(id);
    match known {
        Ok(known) => daemon.delete_container(&known).await?,
        Err(Error::NotFound { .. }) => {}
        Err(ambiguous) => return Err(ambiguous),
    }
    Ok(cri::RemoveContainerResponse {})
}

impl Daemon {
    /// Removes a container under its own lock.
    pub(in crate::service) async fn delete_container(&self, container: &Container) -> Result<()> {
        let _lock = self.locks.hold(&container.docker_name()).await;
        self.delete_locked(container).await
    }

    /// Removes a container unless it runs; tells whether it is gone.
    pub(in crate::service) async fn delete_unless_running(&self, container: &Container) -> Result<bool> {
        let _lock = self.locks.hold(&container.docker_name()).await;
        let now = self.index.table().container(container.id.as_str());
        match now {
            Ok(now) if now.state == State::Running => Ok(false),
            _ => self.delete_locked(container).await.map(|()| true),
        }
    }

    async fn delete_locked(&self, container: &Container) -> Result<()> {
        let id = container.id.as_str();
        let doing = || format!("remove container {}", container.docker_name());
        self.index.stopping(&container.id);
        match self.engine.remove(id).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            // somebody else is removing it: its end is waited for
            Err(error @ engine::Error::Conflict { .. }) => {
                let gone = self.index.wait_for(|table| (!table.has(id)).then_some(()));
                timeout(REMOVAL_LIMIT, gone).await.map_err(|_| error.while_doing(doing()))?;
            }
            Err(error) => return Err(error.while_doing(doing())),
        }
        self.index.remove(id);
        if !container.log_path.is_empty() {
            self.pumps.discard(&container.id, &container.log_path()).await;
        }
        Ok(())
    }
}
