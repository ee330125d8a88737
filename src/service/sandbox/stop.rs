//! StopPodSandbox: ends the pod's containers by force, tears its network down, ends the pause container.
//! Called again and again for dead sandboxes: then it costs two looks for files, and no engine call. Unknown sandboxes are a success.

use futures_util::future::join_all;

use crate::cri;
use crate::error::{Error, Result};
use crate::index::model::Sandbox;
use crate::service::{Daemon, required};

/// The pause program ends at once on SIGTERM; another image gets this long.
const PAUSE_GRACE_S: i32 = 10;

/// Answers StopPodSandbox.
pub async fn stop_pod_sandbox(
    daemon: &Daemon,
    request: cri::StopPodSandboxRequest,
) -> Result<cri::StopPodSandboxResponse> {
    let cri::StopPodSandboxRequest { pod_sandbox_id } = request;
    let id = required("pod_sandbox_id", &pod_sandbox_id)?;
    daemon.index.synced().await?;
    let known = daemon.index.table().sandbox(id);
    match known {
        Ok(sandbox) => stop(daemon, &sandbox).await?,
        // gone from the engine, yet its network may still be there
        Err(Error::NotFound { .. }) => tear_down(daemon, id).await?,
        Err(ambiguous) => return Err(ambiguous),
    }
    Ok(cri::StopPodSandboxResponse {})
}

/// Stops a sandbox: containers first, then network, then the pause container.
pub(super) async fn stop(daemon: &Daemon, sandbox: &Sandbox) -> Result<()> {
    kill_containers(daemon, sandbox).await?;
    let _lock = daemon.locks.hold(&sandbox.docker_name).await;
    tear_down(daemon, sandbox.id.as_str()).await?;
    let ready = daemon.index.table().sandbox(sandbox.id.as_str()).is_ok_and(|known| known.ready || known.pid > 0);
    if ready {
        let stopped = daemon.engine.stop(sandbox.id.as_str(), PAUSE_GRACE_S).await;
        match stopped {
            Ok(()) => daemon.index.sandbox_ended(sandbox.id.as_str()),
            Err(error) if error.is_not_found() => daemon.index.remove(sandbox.id.as_str()),
            Err(error) => return Err(error.while_doing(format!("stop sandbox {}", sandbox.docker_name))),
        }
    }
    // what a StartContainer that was under way has started since
    kill_containers(daemon, sandbox).await
}

async fn kill_containers(daemon: &Daemon, sandbox: &Sandbox) -> Result<()> {
    let containers = daemon.index.table().containers_of(&sandbox.id);
    let killed = join_all(containers.iter().map(|container| daemon.kill_container(container))).await;
    killed.into_iter().collect()
}

/// Undoes what CNI plugins made, if they made anything.
pub(super) async fn tear_down(daemon: &Daemon, id: &str) -> Result<()> {
    let pid = daemon.index.table().sandbox(id).map_or(0, |sandbox| sandbox.pid);
    let netns = (pid > 0).then(|| super::run::netns_of(pid));
    let deleted = daemon.cni.del(id, netns.as_deref()).await;
    deleted.map_err(|error| Error::internal(format!("tear down the network of sandbox {id}"), error))
}
