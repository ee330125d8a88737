//! ListPodSandbox, StreamPodSandboxes and PodSandboxStatus: from the index, without an engine call. The kubelet lists every second.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::cri;
use crate::error::Result;
use crate::index::model::{PodResources, Sandbox};
use crate::service::{Daemon, Replies, in_batches, required};
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

/// Answers StreamPodSandboxes.
pub async fn stream_pod_sandboxes(
    daemon: &Daemon,
    request: cri::StreamPodSandboxesRequest,
) -> Result<Replies<cri::StreamPodSandboxesResponse>> {
    let cri::StreamPodSandboxesRequest { filter } = request;
    let table = daemon.index.read().await?;
    let matching = table.sandboxes().filter(|sandbox| filter::sandbox_matches(filter.as_ref(), sandbox));
    let matching: Vec<Arc<Sandbox>> = matching.cloned().collect();
    let items = matching.into_iter().map(|known| sandbox::to_item(&known));
    Ok(in_batches(items, |pod_sandboxes| cri::StreamPodSandboxesResponse { pod_sandboxes }))
}

/// Answers PodSandboxStatus, with the statuses of the pod's containers and the time they hold for: the kubelet compares it with
/// events' times, so it is taken while nothing can change. Unknown: NotFound.
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
    let timestamp = daemon.index.stamp();
    drop(table);
    Ok(cri::PodSandboxStatusResponse {
        status: Some(sandbox::to_status(&known)),
        info: if verbose { info(&known, daemon.resources_of(&known)) } else { BTreeMap::new() },
        containers_statuses: containers.iter().map(|known| container::to_status(known)).collect(),
        timestamp,
    })
}

/// What `crictl inspectp` shows beside the status.
fn info(sandbox: &Sandbox, told: Option<PodResources>) -> BTreeMap<String, String> {
    let info = json!({
        "pid": sandbox.pid,
        "dockerName": sandbox.docker_name,
        "cgroupParent": sandbox.cgroup_parent,
        "runtime": sandbox.docker_runtime,
        "podResources": told,
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}
