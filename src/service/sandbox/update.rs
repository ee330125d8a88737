//! UpdatePodSandboxResources: what a pod may use in all, told after the kubelet has written it into the pod's cgroup.
//!
//! Nothing is enforced here, that is the kubelet's. The figures are kept in a record for as long as the sandbox is there (those of
//! RunPodSandbox are in a label, which can't be changed), and shown by a verbose PodSandboxStatus.

use crate::cri;
use crate::error::{Error, Result};
use crate::index::model::{PodResources, Sandbox};
use crate::record;
use crate::service::{Daemon, required};

/// Answers UpdatePodSandboxResources. Unknown: NotFound.
pub async fn update_pod_sandbox_resources(
    daemon: &Daemon,
    request: cri::UpdatePodSandboxResourcesRequest,
) -> Result<cri::UpdatePodSandboxResourcesResponse> {
    let cri::UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources } = request;
    let id = required("pod_sandbox_id", &pod_sandbox_id)?;
    daemon.index.synced().await?;
    let known = daemon.index.table().sandbox(id)?;
    let _lock = daemon.locks.hold(&known.docker_name).await;
    let known = daemon.index.table().sandbox(known.id.as_str())?;
    // after a power loss the pod is gone too
    let kept = daemon.pod_resources.save_unsynced(known.id.as_str(), &PodResources { overhead, resources });
    kept.map_err(|error| Error::internal(format!("keep the resources of sandbox {}", known.docker_name), error))?;
    Ok(cri::UpdatePodSandboxResourcesResponse {})
}

impl Daemon {
    /// What was told last of a sandbox; None when nothing was.
    pub(super) fn resources_of(&self, sandbox: &Sandbox) -> Option<PodResources> {
        let kept = self.pod_resources.load(sandbox.id.as_str()).unwrap_or_else(|error| {
            tracing::warn!(sandbox = %sandbox.id, %error, "resources of a pod can't be shown");
            None
        });
        kept.or_else(|| sandbox.resources.as_deref().cloned())
    }

    /// Drops what was told of a sandbox that is gone.
    pub(in crate::service) fn forget_resources(&self, sandbox: &str) {
        if let Err(error @ record::Error::Remove { .. }) = self.pod_resources.remove(sandbox) {
            tracing::warn!(sandbox, %error, "resources of a pod that is gone stay");
        }
    }
}
