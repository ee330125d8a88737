//! UpdatePodSandboxResources: what a pod may use in all, told after the kubelet has written it into the pod's cgroup.
//!
//! Nothing is enforced here, that is the kubelet's. The figures are kept in a record (a label can't be changed) for as long as the
//! sandbox is there, and shown by a verbose PodSandboxStatus.

use serde::{Deserialize, Serialize};

use crate::cri;
use crate::error::{Error, Result};
use crate::record;
use crate::service::{Daemon, required};

/// A pod's resources as they were told last.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PodResources {
    overhead: Option<cri::LinuxContainerResources>,
    resources: Option<cri::LinuxContainerResources>,
}

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
    /// What was told of a sandbox; None when nothing was.
    pub(super) fn resources_of(&self, sandbox: &str) -> Option<PodResources> {
        let kept = self.pod_resources.load(sandbox);
        kept.unwrap_or_else(|error| {
            tracing::warn!(sandbox, %error, "resources of a pod can't be shown");
            None
        })
    }

    /// Drops what was told of a sandbox that is gone.
    pub(in crate::service) fn forget_resources(&self, sandbox: &str) {
        if let Err(error @ record::Error::Remove { .. }) = self.pod_resources.remove(sandbox) {
            tracing::warn!(sandbox, %error, "resources of a pod that is gone stay");
        }
    }
}
