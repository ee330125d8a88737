//! ReopenContainerLog: the kubelet has renamed the log file and wants a new one. Only a running container has a log to reopen.

use super::running;
use crate::cri;
use crate::error::{Error, Result};
use crate::service::{Daemon, required};

/// Answers ReopenContainerLog.
pub async fn reopen_container_log(
    daemon: &Daemon,
    request: cri::ReopenContainerLogRequest,
) -> Result<cri::ReopenContainerLogResponse> {
    let cri::ReopenContainerLogRequest { container_id } = request;
    let id = required("container_id", &container_id)?;
    daemon.index.synced().await?;
    let container = running(daemon, id)?;
    let reopened = daemon.pumps.reopen(&container.id).await;
    reopened
        .map_err(|error| Error::internal(format!("reopen the log of container {}", container.docker_name), error))?;
    Ok(cri::ReopenContainerLogResponse {})
}
