//! ReopenContainerLog: the kubelet has renamed the log file and wants a new one. Only a running container has a log to reopen.

use super::running;
use crate::cri;
use crate::error::{Error, Result};
use crate::log;
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
    let refused = |why: &str| Err(Error::FailedPrecondition(format!("container {} {why}", container.docker_name())));
    if container.log_path.is_empty() {
        return refused("was created without a log path: it has no log to reopen");
    }
    if container.spool_path.is_empty() {
        return refused(
            "has another log driver than json-file: docker keeps its lines elsewhere, and no log is written",
        );
    }
    match daemon.pumps.reopen(&container.id).await {
        Ok(()) => Ok(cri::ReopenContainerLogResponse {}),
        Err(error @ (log::Error::Linked(_) | log::Error::NotFollowed(_))) => {
            Err(Error::FailedPrecondition(error.to_string()))
        }
        Err(error) => Err(Error::internal(format!("reopen the log of container {}", container.docker_name()), error)),
    }
}
