//! PodSandboxStats and ListPodSandboxStats: a pod's cgroup, the network that its pause process sees, and its containers. The
//! kubelet asks with `PodAndContainerStatsFromCRI`.
//!
//! Only sandboxes that are ready have stats. A pod on the host's network has none of its own, so that nothing is told of it: as
//! if the node's traffic were each such pod's. Namespaces are not entered.

use std::sync::Arc;

use super::cgroups::{is_up, runs};
use super::container::left_out;
use super::{Stats, read_each};
use crate::cgroup;
use crate::cri;
use crate::error::{Error, Result};
use crate::index::Table;
use crate::index::model::{Container, Sandbox};
use crate::process::{self, Interface};
use crate::service::{Daemon, required};
use crate::translate::filter;
use crate::translate::stats::{self, PodFigures};

/// A sandbox with its running containers.
pub(super) struct Pod {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) containers: Vec<Arc<Container>>,
}

impl Pod {
    /// The network that is its own; None on the host's, or when the pause process has ended.
    pub(super) fn interfaces(&self) -> Option<Vec<Interface>> {
        let on_host = self.sandbox.namespaces.network == i32::from(cri::NamespaceMode::Node);
        if on_host { None } else { process::interfaces(self.sandbox.pid).ok() }
    }
}

/// Answers PodSandboxStats. Unknown, and ended while it was read: NotFound; not ready: FailedPrecondition.
pub async fn pod_sandbox_stats(
    daemon: &Daemon,
    request: cri::PodSandboxStatsRequest,
) -> Result<cri::PodSandboxStatsResponse> {
    let cri::PodSandboxStatsRequest { pod_sandbox_id } = request;
    let id = required("pod_sandbox_id", &pod_sandbox_id)?;
    daemon.index.synced().await?;
    let sandbox = daemon.index.table().sandbox(id)?;
    if !is_up(&sandbox) {
        return Err(Error::FailedPrecondition(format!("pod sandbox {} has no stats: it isn't ready", sandbox.id)));
    }
    let pods = pods(&daemon.index.table(), |candidate| candidate.id == sandbox.id);
    daemon.want_layers(containers(&pods));
    let read = read_each(&daemon.stats, pods, |kept, pod| Some(read_pod(kept, pod)));
    match read.await?.pop() {
        Some(Ok(stats)) => Ok(cri::PodSandboxStatsResponse { stats: Some(stats) }),
        Some(Err(error)) if !error.is_gone() => {
            Err(Error::internal(format!("read the cgroup of pod sandbox {}", sandbox.id), error))
        }
        _ => Err(Error::no_sandbox(id)),
    }
}

/// Answers ListPodSandboxStats.
pub async fn list_pod_sandbox_stats(
    daemon: &Daemon,
    request: cri::ListPodSandboxStatsRequest,
) -> Result<cri::ListPodSandboxStatsResponse> {
    let cri::ListPodSandboxStatsRequest { filter } = request;
    daemon.index.synced().await?;
    let pods = {
        let table = daemon.index.table();
        daemon.stats.forget_ended(&table);
        pods(&table, |sandbox| filter::sandbox_stats_matches(filter.as_ref(), sandbox))
    };
    daemon.want_layers(containers(&pods));
    let read = read_each(&daemon.stats, pods, |kept, pod| match read_pod(kept, pod) {
        Ok(stats) => Some(stats),
        Err(error) if error.is_gone() => None,
        Err(error) => {
            tracing::warn!(sandbox = %pod.sandbox.id, %error, "pod sandbox left out of stats");
            None
        }
    });
    Ok(cri::ListPodSandboxStatsResponse { stats: read.await? })
}

/// The sandboxes that are up and wanted, each with its running containers.
pub(super) fn pods(table: &Table, wanted: impl Fn(&Sandbox) -> bool) -> Vec<Pod> {
    let up = table.sandboxes().filter(|sandbox| is_up(sandbox) && wanted(sandbox));
    let mut pods: Vec<Pod> = up.map(|sandbox| Pod { sandbox: sandbox.clone(), containers: Vec::new() }).collect();
    for container in table.containers().filter(|container| runs(container)) {
        // the table is in the order of ids
        if let Ok(at) = pods.binary_search_by(|pod| pod.sandbox.id.cmp(&container.sandbox_id)) {
            pods[at].containers.push(container.clone());
        }
    }
    pods
}

/// Their containers.
pub(super) fn containers(pods: &[Pod]) -> impl Iterator<Item = &Container> {
    pods.iter().flat_map(|pod| pod.containers.iter().map(|container| &**container))
}

fn read_pod(kept: &Stats, pod: &Pod) -> Result<cri::PodSandboxStats, cgroup::Error> {
    let mut readings = Vec::with_capacity(pod.containers.len());
    // the pause process
    let mut figures = PodFigures { interfaces: pod.interfaces(), processes: 1, containers: Vec::new() };
    for container in &pod.containers {
        let Some(reading) = left_out(container, kept.cgroups.read(container)) else { continue };
        // ended since: its pod stays
        let cgroup = kept.cgroups.of(container.id.as_str(), container.pid);
        let processes = cgroup.and_then(|cgroup| cgroup.processes()).map_or(0, |pids| pids.len());
        figures.processes += u64::try_from(processes).unwrap_or(0);
        let layer = kept.layers.of(&container.id);
        figures.containers.push(stats::container_stats(container, &reading, layer.as_deref()));
        readings.push(reading);
    }
    let reading = kept.cgroups.read_pod(&pod.sandbox, &readings)?;
    Ok(stats::sandbox_stats(&pod.sandbox, &reading, figures))
}
