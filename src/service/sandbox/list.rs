//! ListPodSandbox and PodSandboxStatus: from the index, without an engine call. The kubelet lists every second.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cri;
use crate::error::Result;
use crate::index::model::Sandbox;
use crate::service::{Daemon, required};
use crate::translate::{container, filter, sandbox};

/// Answers ListPodSandbox.
pub async fn list_pod_sandbox(
    daemon: &Daemon,
    request: cri::ListPodSandboxRequest,
) -> Result<cri::ListPodSandboxResponse> {
    let cri::ListPodSandboxRequest { filter } = request;
    daemon.index.synced().await?;
    let table = daemon.index.table();
    let matching = table.sandboxes().filter(|sandbox| filter::sandbox_matches(filter.as_ref(), sandbox));
    Ok(cri::ListPodSandboxResponse { items: matching.map(|known| sandbox::to_item(known)).collect() })
}

/// Answers PodSandboxStatus, with the statuses of the pod's containers and the time they hold for. Unknown: NotFound.
pub async fn pod_sandbox_status(
    daemon: &Daemon,
    request: cri::PodSandboxStatusRequest,
) -> Result<cri::PodSandboxStatusResponse> {
    let cri::PodSandboxStatusRequest { pod_sandbox_id, verbose } = request;
    let id = required("pod_sandbox_id", &pod_sandbox_id)?;
    daemon.index.synced().await?;
    let table = daemon.index.table();
    let known = table.sandbox(id)?;
    let containers = table.containers_of(&known.id);
    Ok(cri::PodSandboxStatusResponse {
        status: Some(sandbox::to_status(&known)),
        info: if verbose { info(&known) } else { BTreeMap::new() },
        containers_statuses: containers.iter().map(|known| container::to_status(known)).collect(),
        timestamp: crate::service::now_ns(),
    })
}

/// What `crictl inspectp` shows beside the status.
fn info(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let info = json!({
        "pid": sandbox.pid,
        "dockerName": sandbox.docker_name,
        "cgroupParent": sandbox.cgroup_parent,
        "runtime": sandbox.docker_runtime,
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}
