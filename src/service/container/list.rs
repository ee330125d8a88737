//! ListContainers, StreamContainers and ContainerStatus: from the index, without an engine call. The kubelet lists every second and asks for the
//! status of every running container every 10 s.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::cri;
use crate::error::Result;
use crate::index::model::Container;
use crate::service::{Daemon, Replies, in_batches, required};
use crate::translate::{container, filter};

/// Answers ListContainers.
pub async fn list_containers(
    daemon: &Daemon,
    request: cri::ListContainersRequest,
) -> Result<cri::ListContainersResponse> {
    let cri::ListContainersRequest { filter } = request;
    let table = daemon.index.read().await?;
    let matching = table.containers().filter(|known| filter::container_matches(filter.as_ref(), known));
    Ok(cri::ListContainersResponse { containers: matching.map(|known| container::to_item(known)).collect() })
}

/// Answers StreamContainers.
pub async fn stream_containers(
    daemon: &Daemon,
    request: cri::StreamContainersRequest,
) -> Result<Replies<cri::StreamContainersResponse>> {
    let cri::StreamContainersRequest { filter } = request;
    let table = daemon.index.read().await?;
    let matching = table.containers().filter(|known| filter::container_matches(filter.as_ref(), known));
    let matching: Vec<Arc<Container>> = matching.cloned().collect();
    let items = matching.into_iter().map(|known| container::to_item(&known));
    Ok(in_batches(items, |containers| cri::StreamContainersResponse { containers }))
}

/// Answers ContainerStatus. Unknown: NotFound, which the kubelet takes for "just removed".
pub async fn container_status(
    daemon: &Daemon,
    request: cri::ContainerStatusRequest,
) -> Result<cri::ContainerStatusResponse> {
    let cri::ContainerStatusRequest { container_id, verbose } = request;
    let id = required("container_id", &container_id)?;
    daemon.index.synced().await?;
    let known = daemon.index.table().container(id)?;
    let info = if verbose { info(&known) } else { BTreeMap::new() };
    Ok(cri::ContainerStatusResponse { status: Some(container::to_status(&known)), info })
}

/// What `crictl inspect` shows beside the status.
fn info(container: &Container) -> BTreeMap<String, String> {
    let info = json!({
        "sandboxID": container.sandbox_id.as_str(),
        "pid": container.pid,
        "dockerName": container.docker_name(),
        "spoolPath": container.spool_path(),
        "cgroup": container.cgroup_wishes.to_map(),
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}
