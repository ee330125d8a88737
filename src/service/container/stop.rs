//! StopContainer: the stop signal, a grace period, SIGKILL; answers once the container is EXITED.
//!
//! No lock is held meanwhile: the kubelet stops a pod's containers side by side, and a second call with a shorter grace period
//! ends the first one early (the Engine runs each on its own). What has ended or is gone is a success.

use std::time::Duration;

use crate::cri;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::index::model::{Container, State};
use crate::service::{Daemon, required};

/// From the Engine's word that a container has ended to EXITED in the index: draining its log is the longest part.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// Answers StopContainer.
pub async fn stop_container(daemon: &Daemon, request: cri::StopContainerRequest) -> Result<cri::StopContainerResponse> {
    let cri::StopContainerRequest { container_id, timeout } = request;
    let id = required("container_id", &container_id)?;
    let grace_s = match i32::try_from(timeout) {
        Ok(seconds) if seconds >= 0 => seconds,
        _ => return Err(Error::invalid("timeout", format!("{timeout} s can't be waited for"))),
    };
    daemon.index.synced().await?;
    let known = match daemon.index.table().container(id) {
        Err(Error::NotFound { .. }) => return Ok(cri::StopContainerResponse {}),
        known => known?,
    };
    if daemon.has_process(&known).await {
        daemon.index.stopping(&known.id);
        match daemon.engine.stop(known.id.as_str(), grace_s).await {
            Ok(()) => daemon.settled(&known.id).await?,
            Err(error) if error.is_not_found() => daemon.index.remove(known.id.as_str()),
            Err(error) => return Err(error.while_doing(format!("stop container {}", known.docker_name()))),
        }
    }
    Ok(cri::StopContainerResponse {})
}

impl Daemon {
    /// Whether there may be something to stop. One that is only created may be in the midst of its start, which is waited for.
    async fn has_process(&self, container: &Container) -> bool {
        let mut state = container.state;
        if state == State::Created {
            drop(self.locks.hold(&container.docker_name()).await);
            state = self.index.table().container(container.id.as_str()).map_or(State::Exited, |now| now.state);
        }
        matches!(state, State::Running | State::Unknown)
    }
    /// Ends a container at once, if it runs, and waits until it is EXITED.
    pub(in crate::service) async fn kill_container(&self, container: &Container) -> Result<()> {
        if !self.has_process(container).await {
            return Ok(());
        }
        self.index.stopping(&container.id);
        match self.engine.kill(container.id.as_str()).await {
            // a conflict: it has ended by itself
            Ok(()) | Err(crate::engine::Error::Conflict { .. }) => self.settled(&container.id).await,
            Err(error) if error.is_not_found() => {
                self.index.remove(container.id.as_str());
                Ok(())
            }
            Err(error) => Err(error.while_doing(format!("kill container {}", container.docker_name()))),
        }
    }

    /// Waits until the index has the container's end; it is told of it in case the Engine's event is late or lost.
    async fn settled(&self, id: &ContainerId) -> Result<()> {
        let is_told = self.index.table().container(id.as_str()).is_ok_and(|known| known.state == State::Exited);
        if !is_told {
            self.index.container_ended(id, None);
        }
        let ended = self.index.wait_for(|table| match table.container(id.as_str()) {
            Ok(container) if container.state == State::Running => None,
            _ => Some(()),
        });
        tokio::time::timeout(SETTLE_LIMIT, ended)
            .await
            .map_err(|_| Error::DeadlineExceeded { what: format!("the end of container {id}"), after: SETTLE_LIMIT })
    }
}
