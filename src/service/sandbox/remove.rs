//! RemovePodSandbox: stops what still runs, then removes containers and pause container. Unknown sandboxes are a success.

use futures_util::future::join_all;

use crate::cri;
use crate::error::{Error, Result};
use crate::handover::checkpoint;
use crate::index::model::Sandbox;
use crate::service::{Daemon, required};

/// Answers RemovePodSandbox.
pub async fn remove_pod_sandbox(
    daemon: &Daemon,
    request: cri::RemovePodSandboxRequest,
) -> Result<cri::RemovePodSandboxResponse> {
    let cri::RemovePodSandboxRequest { pod_sandbox_id } = request;
    let id = required("pod_sandbox_id", &pod_sandbox_id)?;
    daemon.index.synced().await?;
    let known = daemon.index.table().sandbox(id);
    match known {
        Ok(sandbox) => {
            super::stop::stop(daemon, &sandbox).await?;
            let _lock = daemon.locks.hold(&sandbox.docker_name).await;
            remove_with_containers(daemon, &sandbox).await?;
        }
        Err(Error::NotFound { .. }) => {
            super::stop::tear_down(daemon, id).await?;
            daemon.remove_etc(id).await;
            checkpoint::remove(&daemon.config.state_dir, id);
        }
        Err(ambiguous) => return Err(ambiguous),
    }
    Ok(cri::RemovePodSandboxResponse {})
}

/// Removes containers and pause container of a sandbox that doesn't run; its lock is held by the caller.
pub(super) async fn remove_with_containers(daemon: &Daemon, sandbox: &Sandbox) -> Result<()> {
    super::stop::tear_down(daemon, sandbox.id.as_str()).await?;
    let containers = daemon.index.table().containers_of(&sandbox.id);
    let removed = join_all(containers.iter().map(|container| daemon.delete_container(container))).await;
    removed.into_iter().collect::<Result<Vec<()>>>()?;
    match daemon.engine.remove(sandbox.id.as_str()).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.while_doing(format!("remove sandbox {}", sandbox.docker_name))),
    }
    daemon.remove_etc(sandbox.id.as_str()).await;
    daemon.index.remove(sandbox.id.as_str());
    daemon.forget_resources(sandbox.id.as_str());
    checkpoint::remove(&daemon.config.state_dir, sandbox.id.as_str());
    Ok(())
}
